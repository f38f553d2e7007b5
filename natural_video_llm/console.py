"""What the command line shows: progress bars for people, JSON lines for machines."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console()


def is_main_process() -> bool:
    """False in the further processes that a launcher (`accelerate launch`, `torchrun`) started: those say nothing."""
    return os.environ.get("RANK", "0") == "0"


def plain_yes(asked: Console, question: str) -> str | None:
    """What was answered to `question`, where it is a plain yes; None for anything else, and where nobody can answer."""
    try:
        answer = asked.input(f"{question} [yes/no] ", markup=False).strip().lower()
    except EOFError:
        return None
    return answer if answer in ("yes", "y") else None


class Bar:
    """Progress of one long job: a bar on a terminal, a JSON line at each update with `as_json`."""

    def __init__(self, name: str, progress: Progress | None):
        self._name, self._progress = name, progress
        self._task = progress.add_task(name, total=None) if progress else None

    def update(self, done: int, total: int, note: str = "", **figures: Any) -> None:
        if self._progress is None or self._task is None:
            emit(progress=self._name, done=done, total=total, **figures)
        else:
            self._progress.update(self._task, completed=done, total=total, description=f"{self._name} {note}".strip())


@contextmanager
def bar(name: str, as_json: bool) -> Iterator[Bar]:
    if as_json:
        yield Bar(name, None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not is_main_process()) as progress:
        yield Bar(name, progress)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A line that turns while work of unknown length goes on, on stderr; yields what changes its text."""
    with Console(stderr=True).status(what) as status:
        yield lambda text: status.update(text)


def emit(**fields: Any) -> None:
    """One JSON object on a line of its own."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
