"""Where frames come from: a camera of this machine, a network address, or a file in a camera's place."""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.video import upright

Frames = Iterator[tuple[float, np.ndarray]]

_LINUX = sys.platform.startswith("linux")
_CAMERA_NAMES = Path("/sys/class/video4linux")
# Webcams give a damaged picture now and then, above all at first.
_DAMAGED_MOST = 30
_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 5.0
# Streams are taken as they come: no probing backlog with old pictures in it, no reordering of packets.
_STREAM_OPTIONS = {"fflags": "nobuffer", "rtsp_transport": "tcp", "analyzeduration": "500000", "probesize": "500000"}


class CameraLostError(Exception):
    """A source that gave pictures gives none any more; it may come back. The message tells why."""


class Source(Protocol):
    """A camera or what stands in for it.

    name: how a person knows it.
    """

    name: str

    @property
    def rate_hz(self) -> float | None:
        """The rate that was asked of it in frames/s, None where it has its own."""

    @property
    def can_wait(self) -> bool:
        """Whether an opened one can be held up, as a file can: none of its frames has to be dropped then."""

    def open(self) -> None:
        """Make ready; raises `UserError` where that fails."""

    def frames(self, clock: SessionClock, stop: threading.Event) -> Frames:
        """Yield (capture time in seconds on `clock`, rgb [H, W, 3] uint8) until the end, or until `stop` is set.

        Raises:
            CameraLostError: there was a picture to come and it did not.
        """

    def close(self) -> None:
        """Let it go. `open` may follow."""


class LocalCamera:
    """A camera by number, through OpenCV.

    Args:
        number: of the camera, 0 for the first.
        width_px, height_px, rate_hz: what to ask of it; the driver may answer with something else.
    """

    can_wait = False

    def __init__(self, number: int, width_px: int, height_px: int, rate_hz: float):
        self.name, self.rate_hz = f"camera {number}", rate_hz
        self._number, self._size_px = number, (width_px, height_px)
        self._camera: cv2.VideoCapture | None = None

    def open(self) -> None:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # one clear line is enough
        camera = cv2.VideoCapture(self._number, cv2.CAP_V4L2 if _LINUX else cv2.CAP_ANY)
        width_px, height_px = self._size_px
        if width_px * height_px > 640 * 480:
            # Raw pictures of this size do not fit through USB 2 at full rate.
            camera.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        camera.set(cv2.CAP_PROP_FRAME_WIDTH, width_px)
        camera.set(cv2.CAP_PROP_FRAME_HEIGHT, height_px)
        camera.set(cv2.CAP_PROP_FPS, self.rate_hz or 0)
        if not camera.isOpened() or not camera.grab():
            camera.release()
            raise UserError(
                f"{self.name} gives no picture: another program uses it or it may not be read; close video calls and "
                "browser tabs with a camera, check the camera's permission, start again"
            )
        self._camera = camera

    def frames(self, clock: SessionClock, stop: threading.Event) -> Frames:
        assert self._camera is not None
        damaged = 0
        while not stop.is_set():
            got = self._camera.grab()
            time_s = clock.now_s()  # before decoding, which takes its own time
            if not got or damaged > _DAMAGED_MOST:
                raise CameraLostError(f"{self.name} gave no picture")
            got, bgr = self._camera.retrieve()
            if got and bgr is not None:
                damaged = 0
                yield time_s, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            else:
                damaged += 1

    def close(self) -> None:
        if self._camera is not None:
            self._camera.release()
            self._camera = None


class Stream:
    """A video file or an RTSP or HTTP address, through FFmpeg.

    What has an end (a file, here or at an address) is played by its own presentation times from the moment of the
    first frame on, and a frame's time is when it is due. What has none is live: a frame's time is its arrival.

    Args:
        address: path or address.
        real_time: False gives the frames of a file as fast as they are taken, with the same times.
    """

    rate_hz = None

    def __init__(self, address: str, real_time: bool = True):
        self._address, self._real_time = address, real_time
        self._is_file = "://" not in address
        # An address may carry a password.
        self.name = re.sub(r"//[^/@]*@", "//", address)
        self._container: av.container.InputContainer | None = None

    def open(self) -> None:
        container = self._opened(live=not self._is_file)
        if not self._is_file and container.duration is not None:
            container.close()
            container = self._opened(live=False)  # a file at an address: every frame counts
        if not container.streams.video:
            container.close()
            raise UserError(f"{self.name}: there is no video stream in it; give another file or address")
        self._container = container

    @property
    def can_wait(self) -> bool:
        return self._is_file or (self._container is not None and self._container.duration is not None)

    def _opened(self, live: bool) -> av.container.InputContainer:
        timeout = None if self._is_file else (_OPEN_TIMEOUT_S, _READ_TIMEOUT_S)
        try:
            return av.open(self._address, "r", options=_STREAM_OPTIONS if live else {}, timeout=timeout)
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.name}: no readable video ({error.strerror}); check file or address") from error

    def frames(self, clock: SessionClock, stop: threading.Event) -> Frames:
        assert self._container is not None
        yield from self._played(clock, stop) if self.can_wait else self._arriving(clock, stop)

    def _arriving(self, clock: SessionClock, stop: threading.Event) -> Frames:
        assert self._container is not None
        try:
            for packet in self._container.demux(video=0):
                time_s = clock.now_s()
                if stop.is_set():
                    return
                with suppress(av.error.InvalidDataError):  # a damaged packet
                    for frame in packet.decode():
                        yield time_s, upright(frame)
        except (av.FFmpegError, OSError) as error:
            raise CameraLostError(f"{self.name}: {error.strerror}") from error
        raise CameraLostError(f"{self.name} ended")

    def _played(self, clock: SessionClock, stop: threading.Event) -> Frames:
        assert self._container is not None
        offset_s = None
        stream = self._container.streams.video[0]
        stream.thread_type = "SLICE"
        try:
            for frame in self._container.decode(stream):
                if frame.time is None:
                    continue
                offset_s = clock.now_s() - frame.time if offset_s is None else offset_s
                due_s = offset_s + frame.time
                rgb = upright(frame)
                if stop.wait(max(0.0, due_s - clock.now_s())) if self._real_time else stop.is_set():
                    return
                yield due_s, rgb
        except av.FFmpegError:
            return  # a file that breaks off gives the frames before the break

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None


def find_source(source: str, width_px: int, height_px: int, rate_hz: float) -> Source:
    """What `source` names: a camera by number or name, a file, or an address.

    Raises:
        UserError: there is no such file or camera.
    """
    device = re.fullmatch(r"(?:/dev/video)?(\d+)", source)
    if device:
        if _LINUX and not Path(f"/dev/video{device[1]}").exists():
            raise UserError(f"no camera {device[1]}; {_cameras_here()}; a file or an address will do as well")
        return LocalCamera(int(device[1]), width_px, height_px, rate_hz)
    if "://" in source or Path(source).is_file():
        return Stream(source)
    names = camera_names()
    exact = [number for number, name in names.items() if name.lower() == source.lower()]
    found = exact or [number for number, name in names.items() if source.lower() in name.lower()]
    if not found:
        raise UserError(f"{source}: no such file and no camera of that name; {_cameras_here()}")
    # A webcam often has several devices of one name; the first is the one that gives pictures.
    return LocalCamera(found[0], width_px, height_px, rate_hz)


def camera_names() -> dict[int, str]:
    """Number → name of the cameras, where the platform (Linux) gives names."""
    names = {}
    for file in _CAMERA_NAMES.glob("video*/name"):
        number = file.parent.name.removeprefix("video")
        if number.isdecimal():
            names[int(number)] = file.read_text(encoding="utf-8", errors="replace").strip()
    return dict(sorted(names.items()))


def _cameras_here() -> str:
    listed = ", ".join(f"{number} ({name})" for number, name in camera_names().items())
    return f"cameras here: {listed}" if listed else "no camera was found on this machine"
