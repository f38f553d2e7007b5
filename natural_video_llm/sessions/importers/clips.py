"""A folder of clips with word timings → session folders, one a clip."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.importers.takes import (
    BrokenClipsError,
    Clip,
    Material,
    Report,
    Take,
    import_takes,
)
from natural_video_llm.sessions.importers.transcripts import READERS, fault_in
from natural_video_llm.sessions.video import video_length_s

VIDEO_SUFFIXES = (".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".webm", ".avi", ".m4v")


def import_clips(folder: Path, out: Path, person: str, progress: Callable[[int, int], None], report: Report) -> None:
    """One session folder for each video in `folder` with a transcript of the same name.

    What stands alone is left out, and so are words after the end of their video. Finished sessions in `out` are kept.

    Raises:
        BrokenClipsError: at the end, where transcripts or videos are damaged (file and line are named).
        UserError: no such clip, two of one name, or nothing in them to make a session of.
    """
    clips = [(v, t) for v in _videos(folder) for t in [_transcript_of(v)] if t is not None]
    if not clips:
        raise _no_clips(folder, out)
    by_id: dict[str, Path] = {}
    for video, _ in clips:
        other = by_id.setdefault(_session_id(video), video)
        if other != video:
            raise UserError(f"{other} and {video} would both become session {_session_id(video)}; rename one of them")
    _tell_single_files(folder, report)
    import_takes([_take(video, transcript, person) for video, transcript in clips], out, progress, report)
    if report.broken:
        raise BrokenClipsError(report)
    if not report.imported + report.kept:
        raise UserError(f"{folder}: no clip gave a session, for the reasons above; mend the transcripts")


def _no_clips(folder: Path, out: Path) -> UserError:
    known = ", ".join(READERS)
    below = sorted(
        p for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and any(map(_transcript_of, _videos(p)))
    )
    if not below:
        return UserError(f"{folder}: no video with a transcript of the same name beside it ({known})")
    names = ", ".join(path.name for path in below[:3]) + (", …" if len(below) > 3 else "")
    return UserError(
        f"{folder}: the clips lie in folders below it ({names}); import each by itself: "
        f"nvllm import {below[0]} {out} --person {below[0].name}"
    )


def _tell_single_files(folder: Path, report: Report) -> None:
    videos = _videos(folder)
    for video in videos:
        if _transcript_of(video) is None:
            report.skip(video, "no transcript of the same name")
    stems = {video.stem for video in videos}
    for path in _visible(folder, READERS):
        if path.stem not in stems:
            report.skip(path, "no video of the same name")


def _take(video: Path, transcript: Path, person: str) -> Take:
    @contextmanager
    def read(report: Report) -> Iterator[Material | None]:
        try:
            texts = _texts_within(transcript, video_length_s(video), report)
        except UserError as error:
            report.broken.append(str(error))
            yield None
            return
        if not texts:
            report.skip(transcript, "no words")
        yield Material([Clip(video)], texts) if texts else None

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


def _texts_within(transcript: Path, length_s: float, report: Report) -> list[Text]:
    texts = []
    for text in READERS[transcript.suffix.lower()](transcript):
        fault = fault_in(text, length_s)
        if fault is None:
            texts.append(text)
        else:
            report.skip(f"{transcript}: {text.text[:40]!r} at {text.t_start:.2f} s", fault)
    return texts


def _videos(folder: Path) -> list[Path]:
    return _visible(folder, VIDEO_SUFFIXES)


def _visible(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name[0] != ".")


def _transcript_of(video: Path) -> Path | None:
    return next((p for suffix in READERS if (p := video.with_suffix(suffix)).is_file()), None)
