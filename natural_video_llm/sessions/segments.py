"""Frames → numbered segments with their events; what a killed recorder left is taken up again."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from natural_video_llm.disk import write_error
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import VideoSegmentEnd, VideoSegmentStart
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import load_latents
from natural_video_llm.sessions.video import SegmentWriter, read_frames


class SegmentRecorder:
    """Cuts a stream of frames into segments, each announced and closed by its event.

    Segments are numbered on from what lies in the folder. A new one begins after `segment_s` seconds, where the
    picture changes its size, and after `finish`. One recorder a session at a time: hold `role_lock` meanwhile.

    Args:
        writer: of the session.
        segment_s: length of a segment in seconds.
        nominal_rate_hz: a hint for the encoder; real times come with each frame.
    """

    def __init__(self, writer: SessionWriter, segment_s: float, nominal_rate_hz: float):
        self._writer, self._segment_s = writer, segment_s
        self._nominal_rate_hz = max(1, round(nominal_rate_hz))
        self._next_number = next_segment_number(writer.path)
        self._segment: SegmentWriter | None = None
        self._file, self._size_px = "", (0, 0)
        self._started_s, self._dropped = 0.0, 0
        self.last_s: float | None = None

    @property
    def recording(self) -> bool:
        """Whether a segment is open."""
        return self._segment is not None

    def write(self, rgb: np.ndarray, time_s: float, dropped: int = 0) -> None:
        """Keep a frame, rgb [H, W, 3] uint8, captured at `time_s`; an odd side loses its last row or column.

        `dropped` counts the frames that were lost since the one before.

        Raises:
            UserError: the disk is full or the folder cannot be written.
            ValueError: the time is no later than that of the frame before.
        """
        self._dropped += dropped
        height_px, width_px = (side // 2 * 2 for side in rgb.shape[:2])
        ends = time_s - self._started_s >= self._segment_s or self._size_px != (width_px, height_px)
        if self._segment is not None and ends:
            self.finish()
        try:
            if self._segment is None:
                self._begin(width_px, height_px, time_s)
            assert self._segment is not None
            self._segment.write(rgb[:height_px, :width_px], time_s)
        except OSError as error:
            self._give_up()
            raise write_error(self._writer.path / self._file, error) from error
        self.last_s = time_s

    def finish(self, dropped: int = 0) -> None:
        """Close the open segment, if any, put it on the disk and write its event; `dropped` as in `write`.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        self._dropped += dropped
        if self._segment is None:
            return
        try:
            self._segment.close()
            with (self._writer.path / self._file).open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            self._give_up()
            raise write_error(self._writer.path / self._file, error) from error
        frames, self._segment = self._segment.frames, None
        assert self.last_s is not None
        self._writer.append(VideoSegmentEnd(t=self.last_s, file=self._file, frames=frames, dropped=self._dropped))
        self._dropped = 0

    def _begin(self, width_px: int, height_px: int, time_s: float) -> None:
        self._file = f"video/{self._next_number:06d}.mp4"
        self._next_number += 1
        self._writer.append(VideoSegmentStart(t=time_s, file=self._file))
        self._segment = SegmentWriter(self._writer.path / self._file, width_px, height_px, self._nominal_rate_hz)
        self._started_s, self._size_px = time_s, (width_px, height_px)

    def _give_up(self) -> None:
        """What was on the disk before the error counts: at once if its event has room, else at the next start."""
        if self._segment is not None:
            self._segment.abandon()
            self._segment = None
            with suppress(UserError):
                recover_segments(self._writer)


def recover_segments(writer: SessionWriter) -> None:
    """Give each segment that its recorder did not close an end event with the frames that play, or with the latents
    that it has where no pictures were kept.

    A file without a single frame is left where it is and reported on stderr. Call this while nobody records.
    """
    session = Session(writer.path)
    ended = {segment.file for segment in session.finished_segments}
    for event in session.events:
        if not isinstance(event, VideoSegmentStart) or event.file in ended:
            continue
        times = _times_that_play(writer.path / event.file) or _times_of_latents(writer.path, event.file)
        if times:
            writer.append(VideoSegmentEnd(t=times[-1], file=event.file, frames=len(times), recovered=True))
        else:
            path = writer.path / event.file
            print(f"{path}: its recorder was stopped before a frame was on the disk; nothing to keep", file=sys.stderr)


def _times_that_play(video: Path) -> list[float]:
    try:
        return [time_s for time_s, _ in read_frames(video)]
    except UserError:
        return []


def _times_of_latents(session: Path, video_file: str) -> list[float]:
    for path in session.glob(f"latents/*/{Path(video_file).stem}.safetensors"):
        return load_latents(path).times.tolist()
    return []


def next_segment_number(session: Path) -> int:
    """One more than any segment that was announced or lies there, whole or not."""
    announced = [event.file for event in Session(session).events if isinstance(event, VideoSegmentStart)]
    names = [Path(file).stem for file in announced] + [path.stem for path in (session / "video").glob("*.mp4")]
    return max((int(name) for name in names if name.isdecimal()), default=-1) + 1
