"""One person's video as it comes: pictures or ready latents in, the ring filled, what was dropped counted by reason."""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from natural_video_llm.inference.face_ring import FaceRing
from natural_video_llm.inference.stages import Stages
from natural_video_llm.models.face import PersonNeutral
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.preprocessing.encoders import Encoder
from natural_video_llm.sessions.clock import SessionClock

LATE_S = 0.5  # a frame that is older when it comes says nothing about now
AHEAD_S = 0.25  # a clock may be that wrong; a frame that is further ahead has a wrong time
_SHORTEST_GAP_S = 1 / 125
_SEEN_NOW_S = 1.0
_PAUSE_S = 2.0
_WAITING_BYTES = 256_000_000
MOST_PIXELS = 4096 * 4096


@dataclass(frozen=True)
class View:
    """How the video is doing.

    Args:
        frames: that became latents or went into one.
        dropped: those that did not, by reason: late, future, order, rate, busy.
        face_seen: a face was found in the newest one, and that was just now.
        video_s: seconds since a frame came, of use or not; inf where none did.
        without_face_s: seconds for which video has come and no face of it has reached the model; 0 while one is seen.
        met: a face was seen at some time.
    """

    frames: int
    dropped: dict[str, int]
    face_seen: bool
    video_s: float
    without_face_s: float
    met: bool


class LiveFace:
    """Pictures are encoded in a thread of their own, beside the LLM.

    Between the one who brings pictures and the encoder there is room for one: while the encoder is busy a newer
    picture takes the place of the one that waits, which counts as dropped. The model must see now, not a growing past.
    An encoder of clips is busy once a stride and needs the pictures of that time: there is room for one stride.

    Args:
        open_encoder: called with the first picture; latents that come ready need none.
        on_latents: called after new latents, with whether it is time to encode them.
    """

    def __init__(
        self,
        model: NaturalVideoLLM,
        open_encoder: Callable[[], Encoder],
        clock: SessionClock,
        stages: Stages,
        on_latents: Callable[[bool], None],
    ):
        self.ring = FaceRing(model)
        self._open_encoder, self._clock, self._stages, self._on_latents = open_encoder, clock, stages, on_latents
        self._neutral = PersonNeutral(model.config.neutral_memory_s)
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, float, np.ndarray]] = deque()
        self._thread: threading.Thread | None = None
        self._encoder: Encoder | None = None
        self._stopped = self._busy = False
        self._error: Exception | None = None
        self._frames, self._dropped = 0, Counter[str]()
        self._newest_s = self._video_s = self._began_s = self._face_s = self._latent_s = -math.inf
        self._newest_present, self._room_s = False, 0.0

    def see(self, time_s: float, rgb: np.ndarray) -> bool:
        """Take rgb [H, W, 3] uint8, captured at `time_s` on the conversation's clock; returns at once, whether it was
        taken.

        Raises:
            ValueError: it is no picture, too large, or has no time.
            Exception: what ended the encoding, if anything did.
        """
        if self._error is not None:
            raise self._error
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
            raise ValueError(f"a picture must be [H, W, 3] uint8, not {list(rgb.shape)} {rgb.dtype}")
        if rgb.shape[0] * rgb.shape[1] > MOST_PIXELS:
            raise ValueError(f"a picture must not have more than {MOST_PIXELS} pixels")
        with self._changed:
            if not self._timely(time_s):
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._encode_all, name="face-encoder", daemon=True)
                self._thread.start()
            self._waiting.append((time_s, time.perf_counter(), rgb))
            while len(self._waiting) > 1 and (
                self._waiting[0][0] <= time_s - self._room_s or len(self._waiting) * rgb.nbytes > _WAITING_BYTES
            ):
                self._waiting.popleft()
                self._dropped["busy"] += 1
            self._changed.notify_all()
        return True

    def see_latent(self, time_s: float, latent: np.ndarray | None) -> bool:
        """Take an encoder's latent [latent_size / 2], None where nobody was in view, as `see` takes a picture."""
        began = time.perf_counter()
        with self._changed:
            if not self._timely(time_s):
                return False
            size = self.ring.latent_size // 2
            rows = np.zeros((1, size), np.float16) if latent is None else latent[None]
            due = self._keep(np.array([time_s]), rows, np.array([latent is not None]))
            self._frames += 1
        self._stages.add("frame_to_latent", time.perf_counter() - began)
        self._on_latents(due)
        return True

    def view(self) -> View:
        """Raises the error that ended the encoding, if one did."""
        if self._error is not None:
            raise self._error
        with self._changed:
            now_s = self._clock.now_s()
            # An encoder of clips says nothing between two of them.
            seen = self._newest_present and now_s - self._latent_s < _SEEN_NOW_S + self._room_s
            without_s = 0.0 if seen or self._video_s == -math.inf else now_s - max(self._face_s, self._began_s)
            return View(
                self._frames,
                dict(self._dropped),
                seen,
                now_s - self._video_s,
                without_s,
                self._face_s > -math.inf,
            )

    def settle(self, at_most_s: float = 5.0) -> None:
        """Wait until every picture that was taken is encoded."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._busy) or self._error, timeout=at_most_s)

    def close(self) -> Encoder | None:
        """Stop; gives back the encoder that was opened, for somebody else: once, and only where it is whole and done.

        None after an error, and where it is still at work after five seconds.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=5)
            if self._error is not None or self._thread.is_alive():
                return None
        with self._changed:
            encoder, self._encoder = self._encoder, None
        return encoder

    def _timely(self, time_s: float) -> bool:
        now_s = self._clock.now_s()
        if not math.isfinite(time_s):
            raise ValueError("a frame must have a time in seconds")
        if now_s - self._video_s > _PAUSE_S:
            self._began_s = now_s
        self._video_s = now_s
        reason = ""
        if time_s > now_s + AHEAD_S:
            reason = "future"
        elif now_s - time_s > LATE_S:
            reason = "late"
        elif time_s <= self._newest_s:
            reason = "order"
        elif time_s - self._newest_s < _SHORTEST_GAP_S:
            reason = "rate"
        if reason:
            self._dropped[reason] += 1
            return False
        self._newest_s = time_s
        return True

    def _encode_all(self) -> None:
        try:
            self._encoder = encoder = self._open_encoder()
            encoder.reset()
            self._room_s = 1 / encoder.rate_hz if encoder.rate_hz else 0.0
            while (frame := self._next()) is not None:
                self._encode(encoder, *frame)
        except Exception as error:  # raised by the next call: a thread's own traceback would reach nobody
            self._error = error
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> tuple[float, float, np.ndarray] | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            if self._stopped:
                return None
            self._busy = True
            return self._waiting.popleft()

    def _encode(self, encoder: Encoder, time_s: float, came: float, rgb: np.ndarray) -> None:
        found = encoder.encode([(time_s, rgb)])
        with self._changed:
            due = self._keep(found.times, found.latents, found.present)
            self._frames += 1
        self._stages.add("frame_to_latent", time.perf_counter() - came)
        self._on_latents(due)

    def _keep(self, times: np.ndarray, latents: np.ndarray, present: np.ndarray) -> bool:
        due = False
        for time_s, row, seen in zip(times, self._neutral.extend(latents, times, present), present, strict=True):
            due = self.ring.add(float(time_s), row, bool(seen)) or due
            self._latent_s, self._newest_present = float(time_s), bool(seen)
            if seen:
                self._face_s = self._clock.now_s()
        return due
