"""Does an encoder keep up with live video here? Timed with frames one at a time, as a camera gives them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from skimage.data import astronaut

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoder, Frame

CAMERA_RATE_HZ = 30.0

_WIDTH_PX, _HEIGHT_PX = 640, 480
_DRIFT_PX = 30
_DRIFT_HZ = 0.3


@dataclass(frozen=True)
class RealTime:
    """How an encoder keeps up.

    Args:
        encoder: its name.
        frame_rate_hz: of the video that it was given.
        stride_s: how often it owes a latent.
        factor: seconds of video that it encodes in one second.
        median_s, p95_s: from a frame to the latent that it completes.
        latents: how many were timed.
        face_seen: a face was in each of them.
    """

    encoder: str
    frame_rate_hz: float
    stride_s: float
    factor: float
    median_s: float
    p95_s: float
    latents: int
    face_seen: bool

    @property
    def keeps_up(self) -> bool:
        """Video is encoded at least as fast as it comes."""
        return self.factor >= 1

    @property
    def verdict(self) -> str:
        """Whether it is fit for live use, in a line."""
        if self.keeps_up:
            return f"keeps up at {self.frame_rate_hz:.3g} Hz"
        if self.stride_s * self.frame_rate_hz > 1.5:
            why = f"a clip takes {self.median_s:.2g} s, one is due every {self.stride_s:.2g} s"
        else:
            why = f"{self.factor * self.frame_rate_hz:.2g} of {self.frame_rate_hz:.3g} frames a second"
        return f"too slow for live use: {why}"

    @property
    def warning(self) -> str | None:
        """What to tell before live use; None where it keeps up."""
        if self.keeps_up:
            return None
        return (
            f"the encoder {self.encoder} needs {1 / self.factor:.1f} s for each second of video: frames will be "
            "dropped; nvllm doctor measures it"
        )


def measure_real_time(
    encoder: Encoder, frame_rate_hz: float = CAMERA_RATE_HZ, video_s: float = 0.25, at_most_s: float = 2.0
) -> RealTime:
    """How `encoder` keeps up with a face that drifts across pictures of 640x480.

    What happens up to its first latent is not timed: a first call prepares what later ones use.

    Args:
        encoder: is reset before and after.
        frame_rate_hz: of the video.
        video_s: how much video to time; a whole stride more where the stride is longer.
        at_most_s: work after which no further latent is timed.

    Raises:
        UserError: the encoder cannot run here, or gives no latents.
    """
    stride_s = 1 / min(frame_rate_hz, encoder.rate_hz or frame_rate_hz)
    encoder.reset()
    latencies_s: list[float] = []
    began_s: float | None = None
    work_s, timed_s, face_seen = 0.0, 0.0, True
    for frame in portrait_frames(frame_rate_hz, encoder.window_s + video_s + 3 * stride_s):
        started_s = time.perf_counter()
        found = encoder.encode([frame])
        took_s = time.perf_counter() - started_s
        if began_s is None:
            began_s = frame[0] if len(found.times) else None
            continue
        work_s += took_s
        if len(found.times):
            latencies_s.append(took_s)
            face_seen = face_seen and bool(found.present.all())
            timed_s = frame[0] - began_s
            if timed_s >= video_s - 1e-6 or work_s >= at_most_s:
                break
    encoder.reset()
    if not latencies_s:
        raise UserError(f"encoder {encoder.name}: gives no latents of {video_s + 3 * stride_s:.1f} s of video")
    median_s, p95_s = np.percentile(latencies_s, [50, 95]).tolist()
    return RealTime(
        encoder.name, frame_rate_hz, stride_s, timed_s / work_s, median_s, p95_s, len(latencies_s), face_seen
    )


def portrait_frames(rate_hz: float, seconds: float) -> Iterator[Frame]:
    """A portrait (NASA's of Eileen Collins, public domain) that drifts to and fro on 640x480 pixels."""
    side_px = _WIDTH_PX + 2 * _DRIFT_PX
    portrait = cv2.resize(astronaut(), (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    for number in range(int(seconds * rate_hz) + 1):
        angle = 2 * np.pi * _DRIFT_HZ * number / rate_hz
        left, top = (round(_DRIFT_PX * (1 + wave)) for wave in (np.sin(angle), np.sin(2 * angle)))
        yield number / rate_hz, np.ascontiguousarray(portrait[top : top + _HEIGHT_PX, left : left + _WIDTH_PX])
