"""A session and all that was made of it, deleted at once."""

import json
import os
import re
import shutil
from collections.abc import Iterable
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


def delete_session(path: Path, runs: Path | None = None) -> list[Path]:
    """Delete the folder: video, text, latents (those of the background too), aligned data; and what was made of it.

    Args:
        runs: below it, reports that show pictures or words of the session go, and the files of an evaluation that keep
            words of it, with links to it. What was trained on it stays.

    Returns:
        What was deleted below `runs`. It goes first, so that a deletion that fails can be tried again.

    Raises:
        UserError: it is being recorded, or something cannot be deleted.
    """
    path, session_id = path.resolve(), session_id_of(path)
    with role_lock(path, "video"):
        made = [] if runs is None else made_of(session_id, runs)
        found = [] if runs is None else _below(runs, path.name)
        links = [at for at in found if at.is_symlink() and at.resolve() == path]
        remove_files((*made, *links))
        remove_folder(path)
    return made


def remove_files(files: Iterable[Path]) -> None:
    """Delete what is there of them.

    Raises:
        UserError: one of them cannot be deleted.
    """
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{file} cannot be deleted ({error.strerror}); mend its rights, try again") from error


def remove_folder(path: Path) -> None:
    """Delete a folder, at once for all who look.

    It is renamed first, to a name that is nobody's, so that a deletion that is interrupted leaves nothing half there;
    what such a one left beside it is removed as well.

    Raises:
        UserError: the folder cannot be changed.
    """
    doomed = path.with_name(f"{_DOOMED}{path.name}")
    try:
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        for left in path.parent.glob(f"{_DOOMED}*"):  # another deletion may be at it too
            shutil.rmtree(left, ignore_errors=True)
        if doomed.exists():
            shutil.rmtree(doomed)
    except OSError as error:
        raise UserError(f"{path} cannot be deleted ({error.strerror or error}); mend its rights, try again") from error


def runs_trained_on(session_id: str, runs: Path) -> list[tuple[Path, str]]:
    """(run folder, "train" or "test") for each run below `runs` whose run.json names the session."""
    found = []
    for file in _below(runs, RUN_FILE):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            found += [(file.parent, part) for part in ("train", "test") if session_id in record.get(part, [])]
        except (OSError, ValueError, AttributeError, TypeError):
            continue  # another program's run.json
    return found


def made_of(session_id: str, runs: Path) -> list[Path]:
    """Reports and files of evaluations below `runs` that hold pictures or words of the session.

    Raises:
        UserError: one of them cannot be read.
    """
    return sorted({*reports_of(session_id, runs), *_evaluations_of(session_id, runs)})


def reports_of(session_id: str, runs: Path) -> list[Path]:
    """The reports below `runs` that show pictures or words of the session.

    Raises:
        UserError: one of them cannot be read.
    """
    return [file for file in _below(runs, REPORT_FILE) if session_id in _shown_in(file)]


def _shown_in(report: Path) -> list[str]:
    try:
        with report.open(encoding="utf-8", errors="replace") as page:
            shown = _SHOWN.search(page.read(_HEAD_LENGTH))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{report} cannot be read ({error.strerror}); mend its rights, or delete it") from error
    return shown[1].split() if shown else []


def _evaluations_of(session_id: str, runs: Path) -> list[Path]:
    """Those that name it, and what a judge said of replies in it."""
    name = json.dumps(session_id).encode()
    naming = [file for file in _below(runs, *_EVALUATION_FILES) if name in _content(file)]
    judged = [file.with_name(kind) for file in naming if file.name == REPLIES_FILE for kind in _OF_REPLIES]
    return [*naming, *filter(Path.is_file, judged)]


def _below(runs: Path, *names: str) -> list[Path]:
    """What has one of these names; a folder that vanishes meanwhile is passed over, which `Path.rglob` cannot."""
    walked = os.walk(runs)
    return sorted(Path(at, name) for at, folders, files in walked for name in (*folders, *files) if name in names)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); mend its rights, or delete it") from error
