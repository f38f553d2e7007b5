"""The faces of all sessions in files, so that training holds no more of them in memory than it looks at.

FOLDER/
├── 000000.latents.npy, 000000.times.npy, 000000.present.npy   the first session's track
└── …
"""

import io
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from natural_video_llm.disk import write_error
from natural_video_llm.training.dataset import FaceTrack

_PARTS = ("latents", "times", "present")


class FaceStore:
    """Tracks written once and mapped into memory: the system reads what is looked at and drops it again.

    What was written is a face: `clear` takes the files away, on POSIX systems as soon as they are mapped, so that
    nothing stays behind even where training is killed.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, tracks: Iterable[FaceTrack]) -> None:
        """Write tracks one by one, in place of whatever was here.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        self.clear()
        try:
            self.folder.mkdir(parents=True)
            for number, track in enumerate(tracks):
                for part in _PARTS:
                    _save(self.folder / f"{number:06d}.{part}.npy", getattr(track, part))
        except OSError as error:
            self.clear()
            raise write_error(self.folder, error) from error

    def read(self) -> list[FaceTrack]:
        """All tracks in the order in which they were written, their latents mapped."""
        tracks = []
        for path in sorted(self.folder.glob("*.latents.npy")):
            number = path.name.split(".")[0]
            times, present = (np.load(self.folder / f"{number}.{part}.npy") for part in _PARTS[1:])
            # An empty file cannot be mapped.
            latents = np.load(path, mmap_mode="r" if len(times) else None)
            tracks.append(FaceTrack(latents, times, present))
        return tracks

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _save(path: Path, array: np.ndarray) -> None:
    """As `np.save`, which, given a file, passes over a disk that is full."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getbuffer())
