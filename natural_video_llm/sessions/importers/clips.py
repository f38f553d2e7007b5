"""A folder of clips with word timings → session folders, one a clip."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.importers.takes import (
    BrokenClipsError,
    Clip,
    Material,
    Report,
    Take,
    import_takes,
)
from natural_video_llm.sessions.importers.transcripts import READERS

VIDEO_SUFFIXES = (".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".webm", ".avi", ".m4v")


def import_clips(folder: Path, out: Path, person: str, progress: Callable[[int, int], None], report: Report) -> None:
    """One session folder for each video in `folder` with a transcript of the same name.

    Other videos are left out. Finished sessions in `out` are kept as they are.

    Raises:
        BrokenClipsError: at the end, where transcripts or videos are damaged (file and line are named).
        UserError: no such clip, or two of one name.
    """
    clips = [(v, t) for v in sorted(_videos(folder)) for t in [_transcript_of(v)] if t is not None]
    if not clips:
        known = ", ".join(READERS)
        raise UserError(f"{folder}: no video with a transcript of the same name beside it ({known})")
    by_id: dict[str, Path] = {}
    for video, _ in clips:
        other = by_id.setdefault(_session_id(video), video)
        if other != video:
            raise UserError(f"{other} and {video} would both become session {_session_id(video)}; rename one of them")
    import_takes([_take(video, transcript, person) for video, transcript in clips], out, progress, report)
    if report.broken:
        raise BrokenClipsError(report)


def _take(video: Path, transcript: Path, person: str) -> Take:
    @contextmanager
    def read(report: Report) -> Iterator[Material | None]:
        try:
            material = Material([Clip(video)], READERS[transcript.suffix.lower()](transcript))
        except UserError as error:
            report.broken.append(str(error))
            yield None
        else:
            yield material

    return Take(
        session_id=_session_id(video),
        filmed_speaker="speaker",
        person=person,
        consent=f"imported from {video.name}; consent lies with the source of the clip",
        read=read,
        own_clip=True,
    )


def _session_id(video: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", video.stem)


def _videos(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.name[0] != "."]


def _transcript_of(video: Path) -> Path | None:
    return next((p for suffix in READERS if (p := video.with_suffix(suffix)).is_file()), None)
