"""Face crops of whole recordings, kept in a file without a name while they are needed, and clips of them."""

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders.face_crop import FaceCropper
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.video import read_frames

_CHUNK_CROPS = 64
_SLACK_S = 2e-5  # as in a clip window: two ticks of the clock of MP4 video


class CropStore:
    """Crops [side_px, side_px, 3] uint8 on the disk. Faces are private: the file has no name in any folder, so that
    nothing of it is left behind however the process ends.

    Args:
        folder: on the disk that has the room; made where it is missing.
        side_px: of a crop.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path, side_px: int):
        self._folder, self._shape = folder, (side_px, side_px, 3)
        self._lock = threading.Lock()
        self._stored = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (lives as long as the store)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}); choose another --out") from error

    def append(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """The rows [n] int64 under which they are found; threads may share a store.

        Raises:
            UserError: the disk is full.
        """
        content = memoryview(np.array(crops, np.uint8).tobytes())
        with self._lock:
            first, self._stored = self._stored, self._stored + len(crops)
            try:
                while content:
                    content = content[self._file.write(content) :]
            except OSError as error:
                raise UserError(
                    f"{self._folder}: the face crops cannot be kept ({error.strerror}); free disk space or lower "
                    "--cache-gb"
                ) from error
        return np.arange(first, first + len(crops))

    @property
    def crops(self) -> np.ndarray:
        """All of them, [n, side_px, side_px, 3], read from the disk as they are looked at."""
        if not self._stored:
            return np.zeros((0, *self._shape), np.uint8)
        return np.memmap(self._file, np.uint8, "r", shape=(self._stored, *self._shape))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "CropStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class CroppedSegment:
    """The crops of one video segment.

    Args:
        session_id: whose.
        times: [frames] float64 seconds, rising.
        rows: [frames] int64 in the store; -1 where there is no face.
    """

    session_id: str
    times: np.ndarray
    rows: np.ndarray

    def clips(self, places: int, window_s: float) -> np.ndarray:
        """Rows [clips, places]: one clip ends with each frame, if its whole window was filmed and shows a face.

        Its pictures are those on show at `places` moments evenly spaced over `window_s`, as a clip encoder picks them.
        """
        moments = self.times[:, None] - window_s * np.arange(places)[::-1] / max(1, places - 1)
        shown = np.searchsorted(self.times, moments + _SLACK_S, side="right") - 1
        # Where nothing was filmed for half a window, the picture on show says nothing of the moment.
        fresh = moments - self.times[shown] < window_s / 2
        return self.rows[shown][((shown >= 0) & fresh & (self.rows[shown] >= 0)).all(axis=1)]


def draw_videos(sessions: Iterable[Session], side_px: int, limit_bytes: float, seed: int) -> list[tuple[str, Path]]:
    """Session ids and videos of as many segments, drawn at random, as have room for their crops in `limit_bytes`."""
    all_segments = [(session, segment) for session in sessions for segment in session.finished_segments]
    chosen = []
    for number in np.random.default_rng(seed).permutation(len(all_segments)):
        session, segment = all_segments[number]
        limit_bytes -= segment.frames * side_px * side_px * 3
        if limit_bytes < 0:
            break
        chosen.append((session.start.session_id, session.path / segment.file))
    return sorted(chosen)


def crop_segments(
    videos: Sequence[tuple[str, Path]], store: CropStore, side_px: int, workers: int, report: Callable[[int], None]
) -> list[CroppedSegment]:
    """Follow the face through each video (session id, file) and keep its crops in the store, on `workers` threads.

    The result is in the order of `videos`; `report` is told how many are done.

    Raises:
        UserError: a video cannot be read, the disk is full, or the face model is not to be had.
    """
    cv2.setNumThreads(1)  # the threads share the cores already
    croppers = threading.local()
    task_file = face_landmarker_file()
    stopped = threading.Event()

    def crop(session_id: str, video: Path) -> CroppedSegment:
        if not hasattr(croppers, "own"):
            croppers.own = FaceCropper(task_file, side_px)
        return _crop_segment(session_id, video, croppers.own, store, stopped)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            futures = [pool.submit(crop, *video) for video in videos]
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                report(done)
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _crop_segment(
    session_id: str, video: Path, cropper: FaceCropper, store: CropStore, stopped: threading.Event
) -> CroppedSegment:
    cropper.reset()
    times, rows = [np.zeros(0)], [np.zeros(0, np.int64)]
    for chunk_times, crops in _chunks(video, cropper):
        if stopped.is_set():
            break
        there = np.array([crop is not None for crop in crops])
        found = np.full(len(crops), -1)
        found[there] = store.append([crop for crop in crops if crop is not None])
        times.append(np.array(chunk_times))
        rows.append(found)
    return CroppedSegment(session_id, np.concatenate(times), np.concatenate(rows))


def _chunks(video: Path, cropper: FaceCropper) -> Iterator[tuple[list[float], list[np.ndarray | None]]]:
    """Times and crops of a few frames; a frame that comes no later than the one before is passed over."""
    times: list[float] = []
    crops: list[np.ndarray | None] = []
    last_s = -np.inf
    for time_s, rgb in read_frames(video):
        if time_s <= last_s:
            continue
        last_s = time_s
        times.append(time_s)
        crops.append(cropper.crop((time_s, rgb))[0])
        if len(times) == _CHUNK_CROPS:
            yield times, crops
            times, crops = [], []
    if times:
        yield times, crops
