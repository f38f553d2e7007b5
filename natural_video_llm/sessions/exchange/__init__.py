"""Sessions as a parquet data set and back; needs the extra `exchange` (pyarrow)."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.importers.takes import Report


def export_parquet(
    sessions: Sequence[Path],
    out: Path,
    progress: Callable[[int, int], None],
    *,
    encoders: Sequence[str] | None = None,
    video: bool = False,
    pseudonyms: bool = False,
    float32: bool = False,
) -> dict:
    """Write `sessions` into the new folder `out`; returns what stands in its meta/info.json.

    Args:
        sessions: the folders of the sessions to export.
        out: the folder, made whole or not at all.
        progress: told (done, total).
        encoders: whose latents to take along; None for all that are there.
        video: take the video along.
        pseudonyms: number people, speakers and sessions; leave out consent texts, times of day and unknown fields.
        float32: latents as 32-bit numbers, for readers that know no 16-bit ones.

    Raises:
        UserError: pyarrow is missing, `out` exists, latents or video are missing, a consent does not cover what is
            asked for, or the disk is full.
    """
    _need_pyarrow()
    from natural_video_llm.sessions.exchange.write import Export

    return Export(sessions, encoders, video, pseudonyms, float32).write(out, progress)


def import_parquet(folder: Path, out: Path, progress: Callable[[int, int], None], report: Report) -> None:
    """The sessions of an exported data set as folders in `out`; those that are there already stay as they are.

    Raises:
        UserError: pyarrow is missing, or the data set is damaged or of a later version.
    """
    _need_pyarrow()
    from natural_video_llm.sessions.exchange.read import read_dataset

    read_dataset(folder, out, progress, report)


def _need_pyarrow() -> None:
    if find_spec("pyarrow") is None:
        raise UserError("parquet needs pyarrow, which is not installed: pip install 'natural-video-llm[exchange]'")
