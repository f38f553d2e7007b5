"""What the page needs over HTTP: the recorded sessions of this server, to look at, export and delete."""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

from natural_video_llm.errors import UserError
from natural_video_llm.inference.serving.guard import is_plain_name
from natural_video_llm.sessions.deletion import delete_session, remove_files, reports_of, session_id_of
from natural_video_llm.sessions.events import VideoSegmentStart
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import latents_file
from natural_video_llm.sessions.lock import role_lock
from natural_video_llm.sessions.segments import recover_segments
from natural_video_llm.sessions.summary import summarise

_CHUNK_BYTES = 1 << 20


class SessionSummary(BaseModel):
    """A session at a glance; `replies` can be learned from, `video` and `latents` say what of the face is there."""

    id: str
    started_utc: str
    minutes: float
    words: int
    utterances: int
    replies: int
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


def sessions_router(
    folder: Path | None,
    encoder: str,
    runs: Path | None = None,
    in_use: Callable[[str], bool] = lambda session: False,
) -> APIRouter:
    """The routes below /api/sessions; a person's mistake is a `UserError`, for the app to answer.

    Args:
        folder: where sessions are recorded; None where this server records nothing.
        encoder: the one whose latents stay when the video goes.
        runs: what was trained on the sessions; reports and evaluations that hold anything of a session go with it.
        in_use: whether something is being made of the session folder of that name, which would outlast it.
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
        return _details(path)

    @router.get("/{session_id}/video/{name}", responses=gone, response_class=FileResponse)
    def session_video(path: At, name: str) -> FileResponse:
        video = path / "video" / name
        if not is_plain_name(name) or not video.is_file():
            raise HTTPException(404, "There is no such video any more.")
        return FileResponse(video, media_type="video/mp4")

    @router.get("/{session_id}/export", responses=gone, response_class=StreamingResponse)
    def export_session(path: At) -> StreamingResponse:
        archive = _zipped(path)
        headers = {
            "Content-Disposition": f'attachment; filename="{path.name}.zip"',
            "Content-Length": str(archive.seek(0, os.SEEK_END)),
        }
        return StreamingResponse(_chunks(archive), media_type="application/zip", headers=headers)

    @router.post("/{session_id}/keep", responses=refused)
    def keep_session(path: At, wish: KeepRequest) -> SessionSummary:
        if wish.keep == "geometry":
            _need_unused(path)
            _drop_video(path, encoder)
            # Pictures of the video stand in reports too.
            remove_files([] if runs is None else reports_of(session_id_of(path), runs))
        return _summary(path, Session(path))

    @router.delete("/{session_id}", status_code=204, responses=gone)
    def remove_session(path: At) -> None:
        _need_unused(path)
        delete_session(path, runs)

    def _need_unused(path: Path) -> None:
        if in_use(path.name):
            raise UserError(f"a model is being trained on {path.name}; stop that first (“Models”)")

    return router


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
        replies=summary.replies,
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


def _zipped(path: Path) -> IO[bytes]:
    """The session folder as a zip file that nothing on the disk leads to: it goes when it is closed.

    Raises:
        UserError: a file cannot be read, or the disk is full.
    """
    archive = tempfile.TemporaryFile()  # noqa: SIM115 - closed by whoever has read it
    try:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
            for part in sorted(path.rglob("*")):
                if part.is_file() and not part.name.startswith("."):
                    zipped.write(part, Path(path.name) / part.relative_to(path))
    except OSError as error:
        archive.close()
        raise UserError(f"{path.name} cannot be exported ({error.strerror or error}); free disk space") from error
    return archive


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _drop_video(path: Path, encoder: str) -> None:
    """Delete the pictures once all that can be played have their latents, which a process of its own makes where need
    be.

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
        remove_files((path / "video").glob("*.mp4"))
