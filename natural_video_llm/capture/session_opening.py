"""The session folder that a recorder writes into: begun with consent, or joined."""

from pathlib import Path

from rich.console import Console

from natural_video_llm.capture.consent import RECORDED, ask_consent
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.clock import SessionClock, boot_id, utc_now
from natural_video_llm.sessions.events import DEFAULT_SPEAKER, SessionStart
from natural_video_llm.sessions.folder import SessionExistsError, SessionWriter, check_session_id


def open_session(
    folder: Path, filmed_speaker: str | None, person: str | None, yes_file: Path | None, console: Console
) -> tuple[SessionWriter, SessionClock]:
    """Begin the session `folder` after consent, or join it where it is there already, and share its clock.

    The session's id is the folder's name. `filmed_speaker` and `person` say who is filmed; None takes what the
    session has, or the default. Whoever joins is not asked again: every session asks for video and text at once.

    Raises:
        UserError: no consent, the folder's name is no session id or cannot be written, or the session there
            has another clock, films somebody else or has no consent for what is recorded now.
    """
    log = folder / "session.jsonl"
    if not _begun(log):
        check_session_id(folder.resolve().name)
        consent = ask_consent(folder, RECORDED, yes_file, console)
        clock = SessionClock()
        start = SessionStart(
            session_id=folder.resolve().name,
            started_utc=utc_now(),
            monotonic_s=clock.monotonic_s,
            boot_id=boot_id(),
            filmed_speaker=filmed_speaker or DEFAULT_SPEAKER,
            person=person,
            consent=consent,
            recorded=list(RECORDED),
        )
        try:
            return SessionWriter(folder, start), clock
        except SessionExistsError:
            pass  # another recorder was faster while this one asked
    writer = SessionWriter.join(folder)
    try:
        _check_same(folder, writer.start, filmed_speaker, person)
    except UserError:
        writer.close()
        raise
    return writer, SessionClock(writer.start.monotonic_s)


def _begun(log: Path) -> bool:
    try:
        return log.stat().st_size > 0
    except OSError:
        return False


def _check_same(folder: Path, start: SessionStart, filmed_speaker: str | None, person: str | None) -> None:
    missing = [one for one in RECORDED if one not in (start.recorded or [])]
    if missing:
        raise UserError(f"{folder}: the consent of this session does not cover {missing[0]}; record into a new folder")
    for name, here, there in (
        ("speaker", filmed_speaker, start.filmed_speaker),
        ("person", person, start.person),
    ):
        if here is not None and here != there:
            raise UserError(
                f"{folder}: this session films the {name} {there!r}, not {here!r}; record into a new folder"
            )
