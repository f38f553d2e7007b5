"""Training from the page: `nvllm extract`, `align`, `train` and `eval` as child processes, one run at a time.

RUNS/
└── page-20260102-030405/
    ├── request.json       what was asked for, so that a run which was broken off can go on
    ├── recipe.toml        the options of `nvllm train`
    ├── sessions/          links to the chosen sessions
    ├── log.txt            what the child processes complained of
    └── …                  what `nvllm train` and `nvllm eval` write
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from natural_video_llm.disk import write_error, write_whole
from natural_video_llm.errors import UserError
from natural_video_llm.inference.serving.guard import is_plain_name
from natural_video_llm.run_folder import EVAL_FILE, REPORT_FILE, RUN_FILE
from natural_video_llm.sessions.deletion import remove_folder
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.split import session_groups

RECIPE = Path(__file__).with_name("few_minutes.toml")
_REQUEST_FILE, _RECIPE_FILE, _LOG_FILE, _SESSIONS = "request.json", "recipe.toml", "log.txt", "sessions"
_REPLIES = 6
_NICENESS = 10
_ENDING_S = 20.0
_log = logging.getLogger(__name__)

Stage = Literal["extract", "align", "train", "eval"]
Standing = Literal["running", "stopping", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Request:
    """What a run is made of.

    Args:
        sessions: names of session folders.
        hold_out: keep some of them from training, so that it can be told whether the face is used.
        llm, encoder: as `nvllm train` takes them.
    """

    sessions: tuple[str, ...]
    hold_out: bool
    llm: str
    encoder: str


@dataclass(frozen=True)
class Job:
    """How far a run has come: `done` of `total` in its stage, `left_s` seconds of training left; `error` is one
    line where it has failed."""

    run: str
    standing: Standing
    stage: Stage
    done: int = 0
    total: int = 0
    left_s: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """A run folder at a glance; `face` and `words` are the verdict, None where there is none."""

    id: str
    made_s: float
    sessions: int
    held_out: int
    trained: bool
    report: bool
    can_go_on: bool
    face: str | None
    words: str | None


class _StoppedError(Exception):
    pass


class TrainingJobs:
    """One run at a time, in processes of their own; a server that ends leaves a run that can go on.

    Methods may be called from any thread.

    Args:
        runs: folder for the runs.
        recordings: folder of the sessions.
        llm, encoder: of the runs.
        recipe: options of `nvllm train` in TOML.
    """

    def __init__(self, runs: Path, recordings: Path, llm: str, encoder: str, recipe: Path = RECIPE):
        self.runs, self._recordings = runs.resolve(), recordings.resolve()
        self._llm, self._encoder, self._recipe = llm, encoder, recipe
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    @property
    def job(self) -> Job | None:
        """The one that runs, or the last one."""
        with self._lock:
            return self._job

    def start(self, sessions: Sequence[str], hold_out: bool) -> Job:
        """Begin a new run.

        Raises:
            UserError: one is running, no session is named, one of them is gone, nothing could be held out of them, or
                the folder cannot be written.
        """
        if not sessions:
            raise UserError("no session is chosen; choose at least one")
        self._check_there(sessions, "choose others")
        if hold_out:
            session_groups([Session(self._recordings / name) for name in sessions])
        request = Request(tuple(dict.fromkeys(sessions)), hold_out, self._llm, self._encoder)
        name = time.strftime("page-%Y%m%d-%H%M%S", time.gmtime())
        return self._begin(self.runs / name, request)

    def go_on(self, run_id: str) -> Job:
        """Go on with a run that was broken off.

        Raises:
            UserError: one is running, it was not begun here, or one of its sessions is gone.
        """
        folder = self.folder(run_id)
        request = None if folder is None else _read_request(folder)
        if folder is None or request is None:
            raise UserError(f"{run_id} was not begun on this page; go on with it by nvllm train --resume")
        self._check_there(request.sessions, "begin a new run with those that are left")
        return self._begin(folder, request)

    def stop(self) -> None:
        """End the run that is being made after the step in hand; it can go on later."""
        with self._lock:
            if self._job is None or self._job.standing != "running":
                return
            self._job = replace(self._job, standing="stopping")
            if self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """Stop, and wait until what was trained is on the disk."""
        self.stop()
        if self._thread is not None:
            self._thread.join(_ENDING_S)
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()

    def folder(self, run_id: str) -> Path | None:
        """The run's folder; None where there is none."""
        folder = self.runs / run_id
        known = is_plain_name(run_id) and any((folder / f).is_file() for f in (RUN_FILE, _REQUEST_FILE))
        return folder if known else None

    def list_runs(self) -> list[Run]:
        """All in the folder, the newest first."""
        busy = self._busy()
        names = {file.parent.name for file in (*self.runs.glob(f"*/{RUN_FILE}"), *self.runs.glob(f"*/{_REQUEST_FILE}"))}
        found = [_describe(folder, busy) for name in names if (folder := self.folder(name)) is not None]
        return sorted(found, key=lambda run: run.made_s, reverse=True)

    def delete(self, run_id: str) -> None:
        """Raises `UserError` where it is being trained, or cannot be deleted."""
        folder = self.folder(run_id)
        if folder is None:
            return
        if run_id == self._busy():
            raise UserError(f"{run_id} is being trained; stop it first")
        remove_folder(folder)

    def uses(self, session: str) -> bool:
        """Whether the run that is being made reads the session folder of that name."""
        busy = self._busy()
        request = None if busy is None else _read_request(self.runs / busy)
        return request is not None and session in request.sessions

    def _busy(self) -> str | None:
        job = self.job
        return job.run if job is not None and job.standing in ("running", "stopping") else None

    def _check_there(self, sessions: Sequence[str], remedy: str) -> None:
        for name in sessions:
            if not is_plain_name(name) or not (self._recordings / name / "session.jsonl").is_file():
                raise UserError(f"there is no session {name!r} any more; {remedy}")

    def _begin(self, folder: Path, request: Request) -> Job:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise UserError("a run is being trained already; wait for its end, or stop it")
            _prepare(folder, request, self._recordings, self._recipe)
            self._job = Job(folder.name, "running", "extract")
            self._thread = threading.Thread(target=self._work, args=(folder, request), name="training", daemon=True)
            self._thread.start()
            return self._job

    def _work(self, folder: Path, request: Request) -> None:
        try:
            for stage, arguments in _stages(folder, request):
                self._change(stage=stage, done=0, total=0, left_s=None)
                self._run(folder, [*arguments, "--json"])
            self._change(standing="done")
        except _StoppedError:
            self._change(standing="stopped")
        except UserError as error:
            self._change(standing="failed", error=str(error))
        except OSError as error:
            self._change(standing="failed", error=f"the training could not be started ({error.strerror or error})")
        except Exception as error:  # whatever it is, the page is not left waiting
            _log.error("training failed (%s)", type(error).__name__)
            self._change(standing="failed", error=f"the training ended with an error ({type(error).__name__})")

    def _change(self, **changed: Any) -> None:
        with self._lock:
            assert self._job is not None
            self._job = replace(self._job, **changed)

    def _run(self, folder: Path, arguments: list[str]) -> None:
        """Raises `UserError` with the child's own line, `_StoppedError` where it was stopped."""
        with (folder / _LOG_FILE).open("a+", encoding="utf-8", errors="replace") as log:
            begun = log.seek(0, os.SEEK_END)
            with self._lock:
                if self._job is None or self._job.standing == "stopping":
                    raise _StoppedError
                command = [sys.executable, "-m", "natural_video_llm", *arguments]
                # In a session of its own: Ctrl-C in the terminal is the server's, which then stops it once.
                self._process = process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )
            with suppress(AttributeError, OSError):  # conversations go first
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
            assert process.stdout is not None
            for line in process.stdout:
                self._heard(line)
            code = process.wait()
            job = self.job
            if job is not None and job.standing == "stopping":
                raise _StoppedError
            if code:
                log.seek(begun)
                raise UserError(_last_line(log.read()) or f"nvllm {arguments[0]} ended with status {code}")

    def _heard(self, line: str) -> None:
        with suppress(ValueError, KeyError, TypeError):
            said = json.loads(line)
            self._change(done=int(said["done"]), total=int(said["total"]), left_s=said.get("left_s"))


def _stages(folder: Path, request: Request) -> Iterator[tuple[Stage, list[str]]]:
    sessions, encoder = str(folder / _SESSIONS), ["--encoder", request.encoder]
    begun = _trained(folder) or any(folder.glob("checkpoints/[0-9]*"))
    if not begun:
        yield "extract", ["extract", sessions, *encoder, "--workers", "1"]
        yield "align", ["align", sessions, *encoder, "--llm", request.llm]
    options = ["--out", str(folder), "--config", str(folder / _RECIPE_FILE), "--llm", request.llm, *encoder]
    options += [] if request.hold_out else ["--test-share", "0"]
    options += ["--resume"] if begun else []
    yield "train", ["train", sessions, *options]
    if request.hold_out:
        yield "eval", ["eval", str(folder), "--replies", str(_REPLIES)]


def _prepare(folder: Path, request: Request, recordings: Path, recipe: Path) -> None:
    links = folder / _SESSIONS
    try:
        links.mkdir(parents=True, exist_ok=True)
        for name in request.sessions:
            if not (links / name).is_symlink():
                (links / name).symlink_to(recordings / name, target_is_directory=True)
        if not (folder / _RECIPE_FILE).exists():
            shutil.copyfile(recipe, folder / _RECIPE_FILE)
    except OSError as error:
        raise write_error(folder, error) from error
    write_whole(folder / _REQUEST_FILE, json.dumps(asdict(request), indent=2) + "\n")


def _read_request(folder: Path) -> Request | None:
    found = _read_json(folder / _REQUEST_FILE)
    try:
        return Request(**{**found, "sessions": tuple(found["sessions"])})
    except (TypeError, KeyError):
        return None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _trained(folder: Path) -> bool:
    return bool(_read_json(folder / RUN_FILE).get("trained"))


def _describe(folder: Path, busy: str | None) -> Run:
    record, request = _read_json(folder / RUN_FILE), _read_request(folder)
    verdict = _read_json(folder / EVAL_FILE).get("verdict") or {}
    trained, report = _trained(folder), (folder / REPORT_FILE).is_file()
    held_out = len(record.get("test", ()))
    asked = len(request.sessions) if request else 0
    unfinished = request is not None and (not trained or (request.hold_out and not report))
    file = folder / (_REQUEST_FILE if request else RUN_FILE)
    return Run(
        id=folder.name,
        made_s=file.stat().st_mtime,
        sessions=held_out + len(record.get("train", ())) or asked,
        held_out=held_out,
        trained=trained,
        report=report,
        can_go_on=unfinished and folder.name != busy,
        face=verdict.get("face"),
        words=verdict.get("words"),
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("nvllm: ") if lines else ""
