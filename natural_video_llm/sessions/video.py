"""Video segments: H.264 in fragmented MP4 whose presentation times are the capture times (PyAV)."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from natural_video_llm.errors import UserError

# 1/90000 s is the time base that MP4 players know best; a capture time is off by at most 6 microseconds.
TIME_BASE = Fraction(1, 90_000)

# flush_packets: small pictures would else wait in a buffer that a crash loses. frag_discont and
# avoid_negative_ts keep the muxer from moving the first frame to time 0.
_MUXER_OPTIONS = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof+frag_discont",
    "flush_packets": "1",
    "avoid_negative_ts": "disabled",
}


class SegmentWriter:
    """Writes one segment. A killed process leaves a file that plays up to the last whole fragment.

    Args:
        path: the .mp4 file.
        width_px, height_px: picture size; both even, as 4:2:0 chroma asks for.
        nominal_rate_hz: a hint for the encoder's rate control; real times come with each frame.

    Raises:
        ValueError: a side is odd.
    """

    def __init__(self, path: Path, width_px: int, height_px: int, nominal_rate_hz: int = 30):
        if width_px % 2 or height_px % 2:
            raise ValueError(f"a picture of {width_px} x {height_px} pixels has an odd side; cut it to an even one")
        self._container = av.open(str(path), "w", format="mp4", options=_MUXER_OPTIONS)
        self._stream = self._container.add_stream("libx264", rate=nominal_rate_hz)
        self._stream.width, self._stream.height = width_px, height_px
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.time_base = TIME_BASE
        # A key frame a second bounds what a crash can lose; without B-frames nothing waits for later ones.
        self._stream.codec_context.gop_size = nominal_rate_hz
        self._stream.options = {"preset": "ultrafast", "crf": "20", "bf": "0", "threads": "1"}
        self._last_pts = -1
        self.frames = 0

    def write(self, rgb: np.ndarray, time_s: float) -> None:
        """Add a frame, rgb [H, W, 3] uint8, captured at `time_s`.

        Raises:
            ValueError: the time is negative or no later than the frame before.
        """
        pts = round(time_s / TIME_BASE)
        if pts <= self._last_pts:
            raise ValueError(f"frame at {time_s:.6f} s comes no later than the one before it")
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = pts, TIME_BASE
        self._container.mux(self._stream.encode(frame))
        self._last_pts = pts
        self.frames += 1

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


def read_frames(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (presentation time in seconds, rgb [H, W, 3] uint8) in order, the right way up.

    A file that breaks off gives the frames before the break.

    Raises:
        UserError: the file is missing or holds no video.
    """
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: no readable video ({error}); record or copy it again") from error
    with container:
        if not container.streams.video:
            raise UserError(f"{path}: the file holds no video stream")
        stream = container.streams.video[0]
        # Frame threads would hold frames back and cost memory for small pictures.
        stream.thread_type = "SLICE"
        try:
            for frame in container.decode(stream):
                if frame.time is not None:
                    rgb = frame.to_ndarray(format="rgb24")
                    # Phones film lying down and write beside it how far the player must turn the picture.
                    yield float(frame.time), np.ascontiguousarray(np.rot90(rgb, frame.rotation // 90))
        except av.FFmpegError:
            return
