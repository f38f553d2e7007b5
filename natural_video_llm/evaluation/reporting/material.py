"""What a report is made from, read from a run folder; whatever is missing is noted and left out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from natural_video_llm.errors import UserError
from natural_video_llm.run_folder import EVAL_FILE, JUDGE_FILE, RUN_FILE, run_parts
from natural_video_llm.sessions.folder import Session, session_folders


@dataclass
class Material:
    """A run folder as a report sees it.

    Args:
        run: the folder.
        evidence: eval.json.
        parts: the folders that hold trained models: the run itself, or its folds.
        record, config: run.json and config.json of the first of them; empty where they are missing.
        judge: judge.json, None where no judge has been asked.
        missing: (what, why and how to get it), in the order in which it was missed.
    """

    run: Path
    evidence: dict[str, Any]
    parts: list[Path]
    record: dict[str, Any]
    config: dict[str, Any]
    judge: dict[str, Any] | None
    missing: list[tuple[str, str]] = field(default_factory=list)

    def miss(self, what: str, why: str) -> None:
        self.missing.append((what, why))

    @property
    def options(self) -> dict[str, Any]:
        return part_of(self.record, "options")

    @property
    def window_s(self) -> float:
        return float(self.config.get("window_s", 3.0))

    @cached_property
    def sessions(self) -> dict[str, Session]:
        """The held-out sessions that are still there, by id; reading them is put off until they are asked for."""
        folder = Path(str(self.options.get("sessions", "")))
        wanted = {name for part in self.parts for name in _read(part / RUN_FILE).get("test", [])}
        try:
            found = [Session(path) for path in _folders_of(folder, wanted)]
        except UserError as error:
            self.miss("Pictures and motion", f"the data cannot be read: {error}")
            return {}
        sessions = {s.start.session_id: s for s in found if s.start.session_id in wanted}
        if gone := len(wanted) - len(sessions):
            name = folder.name or "the data"
            self.miss("Pictures and motion", f"{gone} of {len(wanted)} held-out sessions are not in {name} any more.")
        return sessions


def load_material(run: Path) -> Material:
    """Read what is there.

    Raises:
        UserError: no eval.json, or it cannot be read.
    """
    path = run / EVAL_FILE
    if not path.is_file():
        raise UserError(f"{path} is not there; run: nvllm eval {run}")
    evidence = _read(path)
    if not isinstance(evidence.get("conditions"), dict) or not isinstance(evidence.get("data"), dict):
        raise UserError(f"{path} is damaged; run: nvllm eval {run}")
    parts = run_parts(run)
    judge = _read(run / JUDGE_FILE) or None
    return Material(run, evidence, parts, _read(parts[0] / RUN_FILE), _read(parts[0] / "config.json"), judge)


def readable_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a damaged line is passed over, a missing file is empty."""
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line for text in texts if isinstance(line := _parsed(text), dict)]


def part_of(whole: Any, name: str) -> dict[str, Any]:
    """The object called `name`; empty where there is none."""
    part = whole.get(name) if isinstance(whole, dict) else None
    return part if isinstance(part, dict) else {}


def rows_of(whole: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects called `name`; empty where there is none."""
    rows = whole.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _read(path: Path) -> dict[str, Any]:
    try:
        content = _parsed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _folders_of(folder: Path, wanted: set[str]) -> Sequence[Path]:
    """Session folders, those alone that are named by their id where all wanted ones are."""
    by_name = [folder / name for name in sorted(wanted)]
    if all((path / "session.jsonl").is_file() for path in by_name):
        return by_name
    return session_folders(folder)
