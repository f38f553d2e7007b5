"""A live session kept as a session folder, as `nvllm align` and `nvllm train` read it: on consent alone."""

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoded, Encoder, latents_of
from natural_video_llm.preprocessing.encoders.face_geometry import geometry_latent
from natural_video_llm.sessions.clock import SessionClock, boot_id, utc_now
from natural_video_llm.sessions.events import (
    DEFAULT_SPEAKER,
    SessionEnd,
    SessionStart,
    Text,
    VideoSegmentEnd,
    VideoSegmentStart,
)
from natural_video_llm.sessions.folder import Session, SessionWriter, encoder_folder
from natural_video_llm.sessions.latents import save_latents
from natural_video_llm.sessions.lock import role_lock
from natural_video_llm.sessions.segments import SegmentRecorder, next_segment_number, recover_segments

Keep = Literal["video", "geometry"]
SEGMENT_S = 10.0
_SAVE_EVERY_S = 1.0
_MOST_WAITING = 60
_RATE_HINT_HZ = 15


@dataclass(frozen=True)
class EncoderPool:
    """Where encoders of pictures come from and go back to."""

    take: Callable[[], Encoder]
    give_back: Callable[[Encoder], None]


class LatentRecorder:
    """Cuts a stream of latents into segments as `SegmentRecorder` does frames, without any picture.

    The segment in hand is written anew every second, so that a killed server loses no more than that.
    """

    def __init__(self, writer: SessionWriter, encoder: Encoder):
        self._writer, self._encoder = writer, encoder
        self._number = next_segment_number(writer.path)
        self._file, self._parts, self._dropped = "", list[Encoded](), 0
        self._started_s = self._saved_s = 0.0

    def add(self, found: Encoded, dropped: int = 0) -> None:
        """Keep latents with later times than those before; `dropped` frames were lost since then.

        Raises:
            UserError: the folder cannot be written.
        """
        self._dropped += dropped
        if not len(found.times):
            return
        if self._parts and found.times[0] - self._started_s >= SEGMENT_S:
            self.finish()
        if not self._parts:
            self._started_s = self._saved_s = float(found.times[0])
            self._file = f"video/{self._number:06d}.mp4"
            self._number += 1
            self._writer.append(VideoSegmentStart(t=self._started_s, file=self._file))
        self._parts.append(found)
        if found.times[-1] - self._saved_s >= _SAVE_EVERY_S:
            self._save()

    def finish(self) -> None:
        """Close the segment, if there is one."""
        if not self._parts:
            return
        frames = self._save()
        t = float(self._parts[-1].times[-1])
        self._writer.append(VideoSegmentEnd(t=t, file=self._file, frames=frames, dropped=self._dropped))
        self._parts, self._dropped = [], 0

    def _save(self) -> int:
        latents = latents_of(self._encoder, self._parts)
        folder = self._writer.path / "latents" / encoder_folder(self._encoder.name)
        save_latents(folder / f"{Path(self._file).stem}.safetensors", latents)
        self._saved_s = float(latents.times[-1])
        return len(latents.times)


class LiveRecording:
    """One recording: a thread of its own writes, and nobody waits for it.

    Times are those of the conversation's clock; the recording has its own, which begins with it. Frames that come
    faster than they can be written are dropped and counted in their segment; texts never are.

    Args:
        folder: where session folders lie.
        keep: "video" keeps pictures as they come; "geometry" keeps what the encoder makes of them, and no pixel. Points
            that a client has found itself are kept as latents either way.
        consent: the words that were agreed to.
        clock: the conversation's.
        encoders: of the run.
        on_trouble: called from the recording's thread with a line for the person; nothing more is kept then.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        keep: Keep,
        consent: str,
        clock: SessionClock,
        encoders: EncoderPool,
        on_trouble: Callable[[str], None],
    ):
        own = SessionClock()
        self.keep, self.id = keep, f"{time.strftime('live-%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
        self._shift_s = clock.monotonic_s - own.monotonic_s
        self._now_s, self._encoders, self._on_trouble = own.now_s, encoders, on_trouble
        start = SessionStart(
            session_id=self.id,
            started_utc=utc_now(),
            monotonic_s=own.monotonic_s,
            boot_id=boot_id(),
            filmed_speaker=DEFAULT_SPEAKER,
            consent=f"{consent.strip()}\nAgreed to in a live conversation, {utc_now()}.",
            recorded=[keep, "text"],
        )
        self._writer = SessionWriter(folder / self.id, start)
        self._exit = ExitStack()
        self._exit.callback(self._writer.close)
        self._exit.enter_context(role_lock(self._writer.path, "video"))
        self._recorder: SegmentRecorder | LatentRecorder | None = None
        self._encoder: Encoder | None = None
        self._failed, self._dropped, self._last_s = False, 0, -1.0
        self._room = threading.Semaphore(_MOST_WAITING)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recording")

    def picture(self, time_s: float, rgb: np.ndarray) -> None:
        """Take rgb [H, W, 3] uint8, captured at `time_s`; returns at once."""
        self._frame(time_s, lambda own_s: self._keep_picture(own_s, rgb))

    def points(self, time_s: float, points: np.ndarray | None, width_px: int, height_px: int, faces: int) -> None:
        """Take points [478, 3] of the largest of `faces`, as a client has found them, None where nobody was in view;
        returns at once."""
        self._frame(time_s, lambda own_s: self._keep_points(own_s, points, width_px, height_px, faces))

    def text(self, speaker: str, text: str, char_times: list[float] | None, how: Literal["typed", "generated"]) -> None:
        """Take an utterance that has just ended; returns at once."""
        if not text.strip():
            return
        now_s = self._now_s()
        times = None if char_times is None else [min(now_s, max(0.0, t + self._shift_s)) for t in char_times]
        self._do(lambda: self._writer.append(_text_event(speaker, text, times, now_s, how)))

    def stop(self) -> None:
        """Write what is left, as far as that is possible, and wait until it is on the disk."""
        with suppress(RuntimeError):  # it was stopped already
            self._thread.submit(self._end)
        self._thread.shutdown()
        if self._encoder is not None:
            self._encoders.give_back(self._encoder)
        self._exit.close()

    def _frame(self, time_s: float, keep: Callable[[float], None]) -> None:
        own_s = time_s + self._shift_s
        if not self._room.acquire(blocking=False):
            self._dropped += 1
            return

        def work() -> None:
            self._room.release()
            if self._last_s < own_s and own_s >= 0:
                keep(own_s)
                self._last_s = own_s

        self._do(work)

    def _do(self, work: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it was stopped meanwhile
            self._thread.submit(self._guarded, work)

    def _guarded(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except Exception as error:  # the conversation goes on without being kept
            self._failed = True
            self._on_trouble(str(error) if isinstance(error, UserError) else type(error).__name__)

    def _take_dropped(self) -> int:
        dropped, self._dropped = self._dropped, 0
        return dropped

    def _keep_picture(self, time_s: float, rgb: np.ndarray) -> None:
        if self.keep == "geometry":
            encoder = self._open_encoder()
            self._latents().add(encoder.encode([(time_s, rgb)]), self._take_dropped())
            return
        if not isinstance(self._recorder, SegmentRecorder):
            self._switch(lambda: SegmentRecorder(self._writer, SEGMENT_S, _RATE_HINT_HZ))
        assert isinstance(self._recorder, SegmentRecorder)
        self._recorder.write(rgb, time_s, self._take_dropped())

    def _keep_points(self, time_s: float, points: np.ndarray | None, width_px: int, height_px: int, faces: int) -> None:
        size = self._open_encoder().latent_size
        row = np.zeros(size, np.float16) if points is None else geometry_latent(points, width_px, height_px)
        found = Encoded(row[None], np.array([time_s]), np.array([min(faces, 255)], np.uint8))
        self._latents().add(found, self._take_dropped())

    def _open_encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._encoders.take()
        return self._encoder

    def _latents(self) -> LatentRecorder:
        if not isinstance(self._recorder, LatentRecorder):
            encoder = self._open_encoder()
            self._switch(lambda: LatentRecorder(self._writer, encoder))
        assert isinstance(self._recorder, LatentRecorder)
        return self._recorder

    def _switch(self, make: Callable[[], SegmentRecorder | LatentRecorder]) -> None:
        # One after the other: each numbers its segments on from what is announced.
        if self._recorder is not None:
            self._recorder.finish()
        self._recorder = make()

    def _end(self) -> None:
        if self._failed:  # that was told; what was kept before still gets its end, if the folder takes it
            with suppress(Exception):
                self._finish()
        else:
            self._guarded(self._finish)

    def _finish(self) -> None:
        if self._recorder is not None:
            self._recorder.finish()
        self._writer.append(SessionEnd(t=max(self._now_s(), self._last_s)))


def _text_event(
    speaker: str, text: str, times: list[float] | None, now_s: float, how: Literal["typed", "generated"]
) -> Text:
    if times is None:
        return Text(speaker=speaker, text=text, t_start=now_s, t_end=now_s, timing="utterance", how=how)
    return Text(
        speaker=speaker,
        text=text,
        t_start=min(times),
        t_end=max(now_s if how == "typed" else 0.0, *times),
        timing="char",
        char_times=times,
        how=how,
    )


def mend_recordings(folder: Path) -> None:
    """Close the segments that a killed server left open, with what of them had reached the disk."""
    for log in sorted(folder.glob("[!.]*/session.jsonl")):
        with suppress(UserError):  # a damaged log is told where somebody asks for its session
            if any(isinstance(event, SessionEnd) for event in Session(log.parent).events):
                continue
            with role_lock(log.parent, "video"), SessionWriter.reopen(log.parent) as writer:
                recover_segments(writer)
