"""How a recording is doing, for the status line: rate, drops, face, disk, and trouble that a person can mend."""

import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from natural_video_llm.disk import write_error

_RATE_WINDOW_S = 5.0
_RATE_TOLERANCE = 0.25
_BLACK_BELOW = 10.0
_BLACK_FOR_S = 2.0
_DISK_LOW_BYTES = 200 * 1024**2


@dataclass(frozen=True)
class VideoStatus:
    """A moment of a recording.

    frames: came from the camera, `dropped` of them were not kept.
    rate_hz: over the last seconds, None before there is a figure.
    face_seen: at the last look, None where nobody looks.
    camera_away: it was lost, and is tried again.
    running: more is to come.
    """

    frames: int
    dropped: int
    rate_hz: float | None
    face_seen: bool | None
    disk_left_bytes: int
    camera_away: bool
    running: bool

    def line(self) -> str:
        rate = "waiting" if self.rate_hz is None else f"{self.rate_hz:.1f} frames/s"
        parts = ["camera away, trying again" if self.camera_away else rate, f"{self.dropped} dropped"]
        if self.face_seen is not None:
            parts.append("face seen" if self.face_seen else "no face")
        return ", ".join([*parts, f"{self.disk_left_bytes / 1e9:.1f} GB left"])


class VideoMonitor:
    """Counts, and says each kind of trouble once.

    Args:
        folder: whose disk is filling.
        asked_rate_hz: what was asked of the camera, None where it has its own rate.
        say: takes a sentence with what is wrong and what to do.
    """

    def __init__(self, folder: Path, asked_rate_hz: float | None, say: Callable[[str], None]):
        self._folder, self._asked_rate_hz, self._say = folder, asked_rate_hz, say
        self._said: set[str] = set()
        self._times: deque[float] = deque()
        self._began_s: float | None = None
        self._bright_s: float | None = None
        self.frames = self.dropped = 0

    @property
    def rate_hz(self) -> float | None:
        times = list(self._times)
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else None

    def see(self, time_s: float, rgb: np.ndarray) -> None:
        """Take note of a frame from the camera, kept or not; times rise."""
        self.frames += 1
        self._times.append(time_s)
        while self._times[0] < time_s - _RATE_WINDOW_S:
            self._times.popleft()
        self._began_s = time_s if self._began_s is None else self._began_s
        if rgb[::16, ::16].mean() >= _BLACK_BELOW:
            self._bright_s = time_s
        dark_since_s = self._began_s if self._bright_s is None else self._bright_s
        if time_s - dark_since_s >= _BLACK_FOR_S:
            self.say_once("black", "the picture is black: open the camera's lid, or switch a light on")
        if self._asked_rate_hz is not None and time_s - self._began_s >= _RATE_WINDOW_S:
            self._check_rate(self._asked_rate_hz)

    def gap(self) -> None:
        """The camera is away: the rate begins anew."""
        self._times.clear()
        self._began_s = self._bright_s = None

    def disk_left_bytes(self) -> int:
        """Raises `UserError` where the folder is gone."""
        try:
            left = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise write_error(self._folder, error) from error
        if left < _DISK_LOW_BYTES:
            self.say_once("disk", f"only {left / 1e6:.0f} MB are left on the disk of {self._folder}: free some space")
        return left

    def say_once(self, kind: str, sentence: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._say(sentence)

    def _check_rate(self, asked_hz: float) -> None:
        rate_hz = self.rate_hz
        if rate_hz is not None and abs(rate_hz / asked_hz - 1) > _RATE_TOLERANCE:
            self.say_once(
                "rate",
                f"the camera gives {rate_hz:.1f} frames/s, not {asked_hz:g}: more light, a smaller --width and "
                "--height, or another --rate-hz (times stay right all the same)",
            )
