"""A session and all that was made of it, deleted at once."""

import json
import shutil
from pathlib import Path

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.lock import role_lock

_DOOMED = ".deleted-"


def session_id_of(path: Path) -> str:
    """The id of the session in the folder `path`, by its name where its log is damaged.

    Raises:
        UserError: there is no session.
    """
    if not (path / "session.jsonl").is_file():
        raise UserError(f"{path}: no session here (a session folder holds session.jsonl)")
    try:
        return Session(path).start.session_id
    except UserError:
        return path.resolve().name


def delete_session(path: Path) -> None:
    """Delete the folder: video, text, latents (those of the background too), aligned data.

    It is renamed first, to a name that is nobody's session, so that a deletion that is interrupted leaves nothing
    half there; what such a one left beside it is removed as well.

    Raises:
        UserError: it is being recorded, or the folder cannot be changed.
    """
    path = path.resolve()
    doomed = path.with_name(f"{_DOOMED}{path.name}")
    try:
        with role_lock(path, "video"):
            shutil.rmtree(doomed, ignore_errors=True)
            path.rename(doomed)
        for left in path.parent.glob(f"{_DOOMED}*"):
            shutil.rmtree(left)
    except OSError as error:
        raise UserError(f"{path} cannot be deleted ({error.strerror or error}); mend its rights, try again") from error


def runs_trained_on(session_id: str, runs: Path) -> list[tuple[Path, str]]:
    """(run folder, "train" or "test") for each run below `runs` whose run.json names the session."""
    found = []
    for file in sorted(runs.rglob("run.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            found += [(file.parent, part) for part in ("train", "test") if session_id in record.get(part, [])]
        except (OSError, ValueError, AttributeError, TypeError):
            continue  # another program's run.json
    return found
