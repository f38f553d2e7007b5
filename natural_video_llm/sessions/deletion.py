"""A session and all that was made of it, deleted at once."""

import json
import re
import shutil
from pathlib import Path

from natural_video_llm.errors import UserError
from natural_video_llm.run_folder import (
    EVAL_FILE,
    JUDGE_FILE,
    RAW_FILE,
    REPLIES_FILE,
    REPORT_FILE,
    RUN_FILE,
    TOKEN_GAINS_FILE,
)
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.lock import role_lock

_EVALUATION_FILES = (EVAL_FILE, TOKEN_GAINS_FILE, REPLIES_FILE)
_OF_REPLIES = (JUDGE_FILE, RAW_FILE)
# Where a report says whose sessions it shows, ids parted by spaces: in its head.
_SHOWN = re.compile(r'<meta name="nvllm-sessions" content="([^"]*)">')
_HEAD_LENGTH = 65_536
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
    for file in sorted(runs.rglob(RUN_FILE)):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            found += [(file.parent, part) for part in ("train", "test") if session_id in record.get(part, [])]
        except (OSError, ValueError, AttributeError, TypeError):
            continue  # another program's run.json
    return found


def delete_reports(session_id: str, runs: Path) -> list[Path]:
    """Delete the reports below `runs` that show pictures or words of the session; returns those.

    Raises:
        UserError: one of them cannot be deleted.
    """
    deleted = []
    for file in sorted(runs.rglob(REPORT_FILE)):
        try:
            with file.open(encoding="utf-8", errors="replace") as page:
                shown = _SHOWN.search(page.read(_HEAD_LENGTH))
            if shown and session_id in shown[1].split():
                file.unlink()
                deleted.append(file)
        except OSError as error:
            raise UserError(f"{file} cannot be deleted ({error.strerror}); delete it yourself") from error
    return deleted


def evaluations_of(session_id: str, runs: Path) -> list[Path]:
    """The files of an evaluation below `runs` that keep words of the session: those that name it, and what a judge
    said of replies in it."""
    name = json.dumps(session_id).encode()
    naming = [file for kind in _EVALUATION_FILES for file in runs.rglob(kind) if name in file.read_bytes()]
    judged = [file.with_name(kind) for file in naming if file.name == REPLIES_FILE for kind in _OF_REPLIES]
    return sorted({*naming, *filter(Path.is_file, judged)})
