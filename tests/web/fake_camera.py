"""Files that Chromium plays in a camera's place: MJPEG, one JPEG after the other, over and over."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from natural_video_llm.capture.motion import draw_turn, play
from natural_video_llm.capture.portrait import load_portrait
from natural_video_llm.capture.sample_face import SampleFace
from natural_video_llm.sessions.video import read_frames

RATE_HZ = 30
_LENGTH_S = 4.0


def write_mjpeg(path: Path, frames: Iterable[np.ndarray]) -> Path:
    """Frames [H, W, 3] uint8 RGB as 640 x 480 pictures."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 640, 480, "yuvj420p", Fraction(1, RATE_HZ)
    codec.options = {"q": "3"}
    with path.open("wb") as file:
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(640, 480, "yuvj420p")
            frame.pts = number
            for packet in codec.encode(frame):
                file.write(bytes(packet))
        for packet in codec.encode(None):
            file.write(bytes(packet))
    return path


def real_face(video: Path, frames: int) -> Iterator[np.ndarray]:
    """The first frames of a clip."""
    for number, (_, rgb) in enumerate(read_frames(video)):
        if number == frames:
            return
        yield rgb


def sample_face(task_file: Path, motion: str) -> Iterator[np.ndarray]:
    """The same sample speaker each time, whose face does `motion`."""
    rng = np.random.default_rng(3)
    face, draw = SampleFace(load_portrait(task_file), 5), draw_turn(rng, _LENGTH_S)
    weights, sway = play(motion, draw, np.arange(int(_LENGTH_S * RATE_HZ)) / RATE_HZ)
    return face.render(weights, sway, rng)
