"""A camera or a video file as a ring of latents: bounded, newest first, with what was dropped counted."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from natural_video_llm.errors import UserError
from natural_video_llm.models.face import Face, PersonNeutral
from natural_video_llm.preprocessing.encoders import Encoder
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.video import read_frames

# (time on the session's clock, rgb [H, W, 3] uint8); a frame whose time is still to come is held back until then.
Frames = Iterator[tuple[float, np.ndarray]]

_TOO_LATE_S = 0.2
_SEEN_NOW_S = 1.0
_WAITING_BYTES = 256_000_000


@dataclass(frozen=True)
class View:
    """How the camera is doing: frames encoded, frames dropped, whether the newest one holds a face and is from now,
    whether more come."""

    frames: int
    dropped: int
    face_seen: bool
    running: bool


class LiveFace:
    """Keeps the last `memory_s` seconds of latents of a camera.

    One thread takes the frames as they come, another encodes them, and between the two there is room for one frame:
    while the encoder is busy a newer frame takes the place of the one that waits, and that one counts as dropped, as
    does a frame that is late when it comes. The model must see now, not a growing past. An encoder of clips is busy
    once a stride and needs the frames of that time: there is room for one stride.

    Use as a context manager; leaving it lets the camera go.
    """

    def __init__(
        self,
        open_frames: Callable[[SessionClock], Frames],
        encoder: Encoder,
        memory_s: float,
        neutral_memory_s: float,
        clock: SessionClock,
    ):
        self._open_frames, self._encoder, self._clock = open_frames, encoder, clock
        self._memory_s, self._neutral = memory_s, PersonNeutral(neutral_memory_s)
        # An encoder of clips says nothing between two of them.
        self._room_s = 1 / encoder.rate_hz if encoder.rate_hz else 0.0
        self._seen_now_s = _SEEN_NOW_S + self._room_s
        self._ring: deque[tuple[float, np.ndarray, bool]] = deque()
        self._changed, self._stop = threading.Condition(), threading.Event()
        self._waiting: deque[tuple[float, np.ndarray]] = deque()
        self._frames = self._dropped = 0
        self._no_more_frames, self._running = False, True
        self._error: Exception | None = None
        self._threads = [
            threading.Thread(target=work, name=f"live-face-{name}", daemon=True)
            for name, work in (("frames", self._take_frames), ("encoder", self._encode_frames))
        ]

    def __enter__(self) -> "LiveFace":
        self._encoder.reset()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=5)

    def view(self) -> View:
        """Raises the error that ended the video, if one did."""
        if self._error is not None:
            raise self._error
        with self._changed:
            newest = self._ring[-1] if self._ring else None
            seen = newest is not None and newest[2] and self._clock.now_s() - newest[0] < self._seen_now_s
            return View(self._frames, self._dropped, seen, self._running)

    def look(self) -> tuple[float, Face]:
        """The time now and the face up to now, a batch of one."""
        with self._changed:
            rows = list(self._ring)
        size = 2 * self._encoder.latent_size
        latents = np.stack([row[1] for row in rows]) if rows else np.zeros((0, size), np.float16)
        return self._clock.now_s(), Face(
            torch.from_numpy(latents)[None],
            torch.tensor([[row[0] for row in rows]], dtype=torch.float64),
            torch.tensor([[row[2] for row in rows]], dtype=torch.bool),
        )

    def _take_frames(self) -> None:
        try:
            for time_s, rgb in self._open_frames(self._clock):
                if self._stop.wait(max(0.0, time_s - self._clock.now_s())):
                    return
                self._offer(time_s, rgb)
        except Exception as error:  # shown by view(): a thread's own traceback would reach nobody
            self._error = error
        finally:
            with self._changed:
                self._no_more_frames = True
                self._changed.notify_all()

    def _offer(self, time_s: float, rgb: np.ndarray) -> None:
        with self._changed:
            if self._clock.now_s() - time_s > _TOO_LATE_S:
                self._dropped += 1
                return
            self._waiting.append((time_s, rgb))
            while len(self._waiting) > 1 and (
                self._waiting[0][0] <= time_s - self._room_s or len(self._waiting) * rgb.nbytes > _WAITING_BYTES
            ):
                self._waiting.popleft()
                self._dropped += 1
            self._changed.notify_all()

    def _encode_frames(self) -> None:
        try:
            while (frame := self._next_frame()) is not None:
                self._encode(*frame)
        except Exception as error:
            self._error = error
            self._stop.set()
        finally:
            self._running = False

    def _next_frame(self) -> tuple[float, np.ndarray] | None:
        """Waits for a frame; None where there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._no_more_frames or self._stop.is_set())
            return None if self._stop.is_set() or not self._waiting else self._waiting.popleft()

    def _encode(self, time_s: float, rgb: np.ndarray) -> None:
        found = self._encoder.encode([(time_s, rgb)])
        latents = self._neutral.extend(found.latents, found.times, found.present)
        with self._changed:
            self._frames += 1
            self._ring.extend(zip(found.times.tolist(), latents, found.present.tolist(), strict=True))
            while self._ring and self._ring[0][0] < time_s - self._memory_s:
                self._ring.popleft()


class PushedFrames:
    """Frames that somebody else takes (a recorder) and pushes: the newest one waits, an older one gives way to it.

    Pass it to `LiveFace` in a camera's place.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest: tuple[float, np.ndarray] | None = None
        self._closed = False

    def push(self, time_s: float, rgb: np.ndarray) -> None:
        """Take rgb [H, W, 3] uint8, captured at `time_s` on the clock of the `LiveFace`; never waits."""
        with self._changed:
            self._newest = time_s, rgb
            self._changed.notify()

    def close(self) -> None:
        """No more frames come; to be called before the `LiveFace` is left."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def __call__(self, clock: SessionClock) -> Frames:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._closed)
                if self._newest is None:
                    return
                frame, self._newest = self._newest, None
            yield frame


def file_frames(path: Path) -> Callable[[SessionClock], Frames]:
    """A video file in a camera's place: its frames at its own speed, the first one now."""

    def frames(clock: SessionClock) -> Frames:
        moved_s: float | None = None
        for time_s, rgb in read_frames(path):
            if moved_s is None:
                moved_s = clock.now_s() - time_s
            yield time_s + moved_s, rgb

    return frames


def camera_frames(number: int) -> Callable[[SessionClock], Frames]:
    """Frames of a camera, timed as they arrive.

    Raises (when read):
        UserError: there is no such camera, or it gives no picture.
    """

    def frames(clock: SessionClock) -> Frames:
        camera = _open_camera(number)
        try:
            if not camera.isOpened():
                raise UserError(f"no camera {number}; choose another with --camera, or a file with --video FILE")
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # an older picture in the driver's queue is worth nothing
            while True:
                got, bgr = camera.read()
                if not got:
                    raise UserError(f"camera {number} gives no picture any more; is it unplugged or in use elsewhere?")
                yield clock.now_s(), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        finally:
            camera.release()

    return frames


def _open_camera(number: int) -> cv2.VideoCapture:
    # OpenCV tells each of its backends that failed; the one line that counts is ours.
    told = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(number)
    finally:
        cv2.utils.logging.setLogLevel(told)
