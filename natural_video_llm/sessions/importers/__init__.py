"""Other people's data → session folders."""

from collections.abc import Callable
from pathlib import Path

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.importers.candor import import_candor, is_candor
from natural_video_llm.sessions.importers.clips import import_clips
from natural_video_llm.sessions.importers.multidialog import import_multidialog, is_multidialog
from natural_video_llm.sessions.importers.seamless import import_seamless, is_seamless
from natural_video_llm.sessions.importers.takes import Report
from natural_video_llm.sessions.layouts import Layout


def detect_layout(folder: Path) -> Layout:
    """How the data in `folder` is laid out, by the names of its files; clips where it is nothing else that is known.

    Raises:
        UserError: it is no folder.
    """
    _need_folder(folder)
    if (folder / "meta" / "info.json").is_file() and (folder / "data").is_dir():
        return "parquet"
    if is_candor(folder):
        return "candor"
    if is_multidialog(folder):
        return "multidialog"
    return "seamless" if is_seamless(folder) else "clips"


def import_folder(
    folder: Path, out: Path, layout: Layout, person: str | None, progress: Callable[[int, int], None]
) -> Report:
    """Make session folders in `out` of the data in `folder`; `person` is who is filmed in clips, by default the
    folder's name. What is there already stays as it is, so that an interrupted import goes on.

    Raises:
        UserError: there is nothing of that layout, it cannot be read, or the disk is full.
    """
    _need_folder(folder)
    report = Report()
    if layout == "clips":
        import_clips(folder, out, person or folder.resolve().name, progress, report)
    elif layout == "parquet":
        from natural_video_llm.sessions.exchange import import_parquet  # needs an extra

        import_parquet(folder, out, progress, report)
    else:
        importers = {"seamless": import_seamless, "candor": import_candor, "multidialog": import_multidialog}
        importers[layout](folder, out, progress, report)
    return report


def _need_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the folder that holds the clips")
