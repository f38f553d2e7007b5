"""A camera or a video file as a ring of latents: bounded, newest first, with what was dropped counted."""

import threading
import time
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

Frames = Iterator[tuple[float, np.ndarray]]

_TOO_LATE_S = 0.2


@dataclass(frozen=True)
class View:
    """How the camera is doing: frames seen, frames dropped, whether the newest one holds a face, whether more come."""

    frames: int
    dropped: int
    face_seen: bool
    running: bool


class LiveFace:
    """Encodes frames in a thread of its own and keeps the last `memory_s` seconds of latents.

    A frame that is late, since encoding the one before took long, is dropped: the model must see now, not a growing
    past. Use as a context manager; leaving it lets the camera go.
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
        self._ring: deque[tuple[float, np.ndarray, bool]] = deque()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._frames = self._dropped = 0
        self._running = True
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._watch, name="live-face", daemon=True)

    def __enter__(self) -> "LiveFace":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def view(self) -> View:
        """Raises the error that ended the video, if one did."""
        if self._error is not None:
            raise self._error
        with self._lock:
            seen = bool(self._ring) and self._ring[-1][2]
            return View(self._frames, self._dropped, seen, self._running)

    def look(self) -> tuple[float, Face]:
        """The time now and the face up to now, a batch of one."""
        with self._lock:
            rows = list(self._ring)
        size = 2 * self._encoder.latent_size
        latents = np.stack([row[1] for row in rows]) if rows else np.zeros((0, size), np.float16)
        return self._clock.now_s(), Face(
            torch.from_numpy(latents)[None],
            torch.tensor([[row[0] for row in rows]], dtype=torch.float64),
            torch.tensor([[row[2] for row in rows]], dtype=torch.bool),
        )

    def _watch(self) -> None:
        try:
            for time_s, rgb in self._open_frames(self._clock):
                if self._stop.is_set():
                    return
                self._take(time_s, rgb)
        except Exception as error:  # shown by view(): a thread's own traceback would reach nobody
            self._error = error
        finally:
            self._running = False

    def _take(self, time_s: float, rgb: np.ndarray) -> None:
        late_s = self._clock.now_s() - time_s
        if late_s > _TOO_LATE_S:
            with self._lock:
                self._dropped += 1
            return
        latent = self._encoder.encode(rgb, time_s)
        present = latent is not None
        row = latent if latent is not None else np.zeros(self._encoder.latent_size, np.float16)
        both = self._neutral.extend(row[None], np.array([time_s]), np.array([present]))[0]
        with self._lock:
            self._frames += 1
            self._ring.append((time_s, both, present))
            while self._ring[0][0] < time_s - self._memory_s:
                self._ring.popleft()


def file_frames(path: Path) -> Callable[[SessionClock], Frames]:
    """A video file in a camera's place, played at its own speed from now on."""

    def frames(clock: SessionClock) -> Frames:
        started_s, first_s = clock.now_s(), None
        for time_s, rgb in read_frames(path):
            first_s = time_s if first_s is None else first_s
            due_s = started_s + time_s - first_s
            time.sleep(max(0.0, due_s - clock.now_s()))
            yield due_s, rgb

    return frames


def camera_frames(number: int) -> Callable[[SessionClock], Frames]:
    """Frames of a camera, timed as they arrive.

    Raises (when read):
        UserError: there is no such camera, or it gives no picture.
    """

    def frames(clock: SessionClock) -> Frames:
        camera = cv2.VideoCapture(number)
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
