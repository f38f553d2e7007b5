"""What the page needs over HTTP: the recorded sessions of this server, to look at, export and delete."""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from natural_video_llm.errors import UserError
from natural_video_llm.inference.serving.guard import is_plain_name
from natural_video_llm.sessions.deletion import delete_reports, delete_session, evaluations_of, session_id_of
from natural_video_llm.sessions.events import VideoSegmentStart
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import latents_file
from natural_video_llm.sessions.lock import role_lock
from natural_video_llm.sessions.segments import recover_segments
from natural_video_llm.sessions.summary import summarise

T = TypeVar("T")


class SessionSummary(BaseModel):
    """A session at a glance; `video` and `latents` say what of the face is there."""

    id: str
    started_utc: str
    minutes: float
    words: int
    utterances: int
    face_share: float | None
    video: bool
    latents: bool
    consent: str


class SessionList(BaseModel):
    """`recording`: this server may record. Newest session first."""

    recording: bool
    sessions: list[SessionSummary]


class Segment(BaseModel):
    """A video segment; times in seconds since session start."""

    name: str
    t_start: float
    t_end: float
    frames: int
    video: bool


class SpokenText(BaseModel):
    """An utterance with the time of each character where it is known."""

    speaker: str
    text: str
    t_start: float
    t_end: float
    char_times: list[float] | None


class SessionDetails(SessionSummary):
    """All that is needed to play a session back."""

    filmed_speaker: str
    segments: list[Segment]
    texts: list[SpokenText]


class KeepRequest(BaseModel):
    """What of a session is to stay."""

    keep: Literal["video", "geometry"]


def sessions_router(folder: Path | None, encoder: str, runs: Path | None = None) -> APIRouter:
    """The routes below /api/sessions.

    Args:
        folder: where sessions are recorded; None where this server records nothing.
        encoder: the one whose latents stay when the video goes.
        runs: what was trained on the sessions; reports and evaluations that hold anything of a session go with it.
    """
    router = APIRouter(prefix="/api/sessions", tags=["sessions"])
    needs_token: dict[int | str, dict[str, Any]] = {401: {"description": "A token is needed"}}
    gone = needs_token | {404: {"description": "No such session"}, 409: {"description": "It cannot be done now"}}
    refused = gone | {400: {"description": "The request is not valid"}}

    def session_path(session_id: str) -> Path:
        path = folder / session_id if folder is not None and is_plain_name(session_id) else None
        if path is None or not (path / "session.jsonl").is_file():
            raise HTTPException(404, "There is no such session any more.")
        return path

    At = Annotated[Path, Depends(session_path)]  # noqa: N806 - a type

    @router.get("", responses=needs_token)
    def list_sessions() -> SessionList:
        found = [] if folder is None else [log.parent for log in folder.glob("[!.]*/session.jsonl")]
        summaries = [summary for path in found if (summary := _readable(path)) is not None]
        summaries.sort(key=lambda summary: summary.started_utc, reverse=True)
        return SessionList(recording=folder is not None, sessions=summaries)

    # A path of its own: of two routes on one path, Starlette names only the first one's methods in its 405 answers.
    @router.get("/{session_id}/details", responses=gone)
    def show_session(path: At) -> SessionDetails:
        return _done(lambda: _details(path))

    @router.get("/{session_id}/video/{name}", responses=gone, response_class=FileResponse)
    def session_video(path: At, name: str) -> FileResponse:
        video = path / "video" / name
        if not is_plain_name(name) or not video.is_file():
            raise HTTPException(404, "There is no such video any more.")
        return FileResponse(video, media_type="video/mp4")

    @router.get("/{session_id}/export", responses=gone, response_class=FileResponse)
    def export_session(path: At) -> FileResponse:
        archive = _done(lambda: _zipped(path))
        removal = BackgroundTask(archive.unlink, missing_ok=True)
        return FileResponse(archive, media_type="application/zip", filename=f"{path.name}.zip", background=removal)

    @router.post("/{session_id}/keep", responses=refused)
    def keep_session(path: At, wish: KeepRequest) -> SessionSummary:
        if wish.keep == "geometry":
            _done(lambda: _drop_video(path, encoder))
        return _done(lambda: _summary(path, Session(path)))

    @router.delete("/{session_id}", status_code=204, responses=gone)
    def remove_session(path: At) -> None:
        _done(lambda: _delete(path, runs))

    return router


def _delete(path: Path, runs: Path | None) -> None:
    session_id = session_id_of(path)
    delete_session(path)
    if runs is not None:
        delete_reports(session_id, runs)
        for file in evaluations_of(session_id, runs):
            _unlink(file)
        for links in runs.glob("*/sessions"):
            link = links / path.name
            if link.is_symlink():
                link.unlink()


def _unlink(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{file} cannot be deleted ({error.strerror or error}); delete it yourself") from error


def _done(work: Callable[[], T]) -> T:
    """A person's mistake as an answer of one line."""
    try:
        return work()
    except UserError as error:
        raise HTTPException(409, str(error)) from error


def _readable(path: Path) -> SessionSummary | None:
    """One damaged session does not hide the others."""
    try:
        return _summary(path, Session(path))
    except UserError:
        return None


def _summary(path: Path, session: Session) -> SessionSummary:
    summary = summarise(session)
    return SessionSummary(
        id=path.name,
        started_utc=session.start.started_utc,
        minutes=summary.minutes,
        words=summary.words,
        utterances=summary.utterances,
        face_share=summary.face_share,
        video=any((path / "video").glob("*.mp4")),
        latents=bool(summary.encoders),
        consent=session.start.consent,
    )


def _details(path: Path) -> SessionDetails:
    session = Session(path)
    starts = {event.file: event.t for event in session.events if isinstance(event, VideoSegmentStart)}
    segments = [
        Segment(
            name=Path(end.file).name,
            t_start=starts.get(end.file, 0.0),
            t_end=end.t,
            frames=end.frames,
            video=(path / end.file).is_file(),
        )
        for end in session.finished_segments
    ]
    texts = [SpokenText(**{name: getattr(text, name) for name in SpokenText.model_fields}) for text in session.texts]
    summary = _summary(path, session).model_dump()
    return SessionDetails(**summary, filmed_speaker=session.start.filmed_speaker, segments=segments, texts=texts)


def _zipped(path: Path) -> Path:
    """The session folder in a zip file of its own in the system's folder for passing things."""
    descriptor, name = tempfile.mkstemp(suffix=".zip")
    try:
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for part in sorted(path.rglob("*")):
                if part.is_file() and not part.name.startswith("."):
                    archive.write(part, Path(path.name) / part.relative_to(path))
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise UserError(f"{path.name} cannot be exported ({error.strerror or error}); free disk space") from error
    return Path(name)


def _drop_video(path: Path, encoder: str) -> None:
    """Delete the pictures once every one of them has its latents, which a process of its own makes where need be.

    Raises:
        UserError: the session is being recorded, or latents cannot be made; the pictures stay then.
    """
    with role_lock(path, "video"):
        with SessionWriter.reopen(path) as writer:
            recover_segments(writer)
        session = Session(path)
        videos = [end.file for end in session.finished_segments if (path / end.file).is_file()]
        if any(not latents_file(session, encoder, video).is_file() for video in videos):
            command = [sys.executable, "-m", "natural_video_llm", "extract", str(path), "--encoder", encoder]
            made = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, check=False)
            missing = [video for video in videos if not latents_file(session, encoder, video).is_file()]
            if missing:
                reason = (made.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("nvllm: ")
                raise UserError(f"the video stays, since no geometry could be made of it: {reason}")
        try:
            for video in videos:
                (path / video).unlink()
        except OSError as error:
            raise UserError(f"a video of {path.name} cannot be deleted ({error.strerror}); mend its rights") from error
