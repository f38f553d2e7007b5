"""Where pictures come from: a camera, or a video file in its place."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.video import read_frames

# (time on the session's clock, rgb [H, W, 3] uint8); a frame whose time is still to come is held back until then.
Frames = Iterator[tuple[float, np.ndarray]]


class Player:
    """A thread that takes the frames as they come and shows each one at its time.

    Use as a context manager; leaving it lets the camera go.
    """

    def __init__(
        self,
        open_frames: Callable[[SessionClock], Frames],
        clock: SessionClock,
        show: Callable[[float, np.ndarray], object],
    ):
        self._open_frames, self._clock, self._show = open_frames, clock, show
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._play, name="frames", daemon=True)

    def __enter__(self) -> "Player":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def running(self) -> bool:
        """Whether more frames come. Raises the error that ended them, if one did."""
        if self._error is not None:
            raise self._error
        return self._thread.is_alive()

    def _play(self) -> None:
        try:
            for time_s, rgb in self._open_frames(self._clock):
                if self._stop.wait(max(0.0, time_s - self._clock.now_s())):
                    return
                self._show(time_s, rgb)
        except Exception as error:  # shown by running(): a thread's own traceback would reach nobody
            self._error = error


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
