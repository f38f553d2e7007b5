"""Video segments: H.264 in fragmented MP4 whose presentation times are the capture times (PyAV)."""

import errno
import io
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType

from natural_video_llm.errors import UserError

# 1/90000 s is the time base that MP4 players know best; a capture time is off by at most 6 microseconds.
TIME_BASE = Fraction(1, 90_000)

# A fragment reaches the disk as a whole: a killed process loses what it had of the last one, and the frame on its way.
_FRAGMENT_US = 250_000
_KEY_FRAME_S = 1.0

# flush_packets: small pictures would else wait in a buffer that a crash loses. frag_discont and
# avoid_negative_ts keep the muxer from moving the first frame to time 0.
_MUXER_OPTIONS = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof+frag_discont",
    "frag_duration": str(_FRAGMENT_US),
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
        self._path = path
        self._container = av.open(str(path), "w", format="mp4", options=_MUXER_OPTIONS)
        self._stream = self._container.add_stream("libx264", rate=nominal_rate_hz)
        self._stream.width, self._stream.height = width_px, height_px
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.time_base = TIME_BASE
        # Without B-frames and look-ahead nothing waits for later frames. Key frames are set by time, in `write`.
        self._stream.codec_context.gop_size = 10 * nominal_rate_hz
        self._stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20", "bf": "0", "threads": "1"}
        self._last_pts = -1
        self._key_frame_s = -_KEY_FRAME_S
        self.frames = 0

    def write(self, rgb: np.ndarray, time_s: float) -> None:
        """Add a frame, rgb [H, W, 3] uint8, captured at `time_s`.

        Raises:
            ValueError: the time is negative or no later than the frame before.
            OSError: the disk is full or gone; `abandon` the segment then.
        """
        pts = round(time_s / TIME_BASE)
        if pts <= self._last_pts:
            raise ValueError(f"frame at {time_s:.6f} s comes no later than the one before it")
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = pts, TIME_BASE
        if time_s - self._key_frame_s >= _KEY_FRAME_S:
            frame.pict_type, self._key_frame_s = PictureType.I, time_s
        self._container.mux(self._stream.encode(frame))
        self._last_pts = pts
        self.frames += 1

    def close(self) -> None:
        """End the file; raises OSError where its last part did not reach the disk."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        # FFmpeg keeps an error of its last write to itself, but then the box that ends the file is not there.
        with self._path.open("rb") as file:
            file.seek(-min(16, self._path.stat().st_size), os.SEEK_END)
            if b"mfro" not in file.read():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def abandon(self) -> None:
        """Let the file go as it is, after an error."""
        with suppress(av.FFmpegError, OSError):
            self._container.close()


def read_frames(path: Path, from_s: float = 0.0) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (presentation time in seconds, rgb [H, W, 3] uint8) in order, the right way up.

    A file that breaks off gives the frames before the break. With `from_s` the first one is the last key frame
    before that time, or an earlier frame where the file cannot be searched.

    Raises:
        UserError: the file is missing or holds no video.
    """
    with _open(path) as container:
        stream = _video_stream(path, container)
        # Frame threads would hold frames back and cost memory for small pictures.
        stream.thread_type = "SLICE"
        try:
            if from_s > 0:
                container.seek(int(from_s * av.time_base), backward=True)
            for frame in container.decode(stream):
                if frame.time is not None:
                    yield float(frame.time), upright(frame)
        except av.FFmpegError:
            return


def video_length_s(path: Path) -> float:
    """Seconds from the first frame to the end of the last one that the file holds, without decoding them.

    Raises:
        UserError: the file is missing or holds no video.
    """
    with _open(path) as container:
        stream = _video_stream(path, container)
        first_s, end_s = math.inf, 0.0
        with suppress(av.FFmpegError):
            for packet in container.demux(stream):
                if packet.pts is not None:
                    first_s = min(first_s, float(packet.pts * packet.time_base))
                    end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return max(0.0, end_s - first_s)


def _video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    if not container.streams.video:
        raise UserError(f"{path}: the file holds no video stream; record or copy it again")
    return container.streams.video[0]


def _open(path: Path) -> av.container.InputContainer:
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        with suppress(av.FFmpegError, OSError):
            # FFmpeg refuses a file that breaks off within the head of a fragment, whatever lies before.
            return av.open(io.BytesIO(_whole_boxes(path)), "r")
        raise UserError(f"{path}: no readable video ({error}); record or copy it again") from error


def _whole_boxes(path: Path) -> bytes:
    """The file up to the end of its last whole MP4 box (4 bytes of length, 4 of name, content)."""
    content, end = path.read_bytes(), 0
    while end + 8 <= len(content):
        length = int.from_bytes(content[end : end + 4], "big")
        if length < 8 or end + length > len(content):
            break
        end += length
    return content[:end]


def upright(frame: av.VideoFrame) -> np.ndarray:
    """The decoded picture as rgb [H, W, 3] uint8, the right way up."""
    # Phones film lying down and write beside it how far the player must turn the picture.
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
