"""Training metrics: JSON lines and TensorBoard, side by side under logs/metrics/ of the run."""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from natural_video_llm.errors import UserError

_PROJECT = "natural-video-llm"


class Log(Protocol):
    """Where the figures of a step go."""

    def write(self, part: str, step: int, **figures: float) -> None: ...

    def close(self) -> None: ...


class NoLog:
    """For the processes that write nothing."""

    def write(self, part: str, step: int, **figures: float) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Tracker:
    """An experiment tracker with the interface of Weights & Biases, which trackio shares."""

    module: Any

    @classmethod
    def load(cls, name: str) -> "Tracker | None":
        """The tracker called wandb or trackio; none for "none".

        Raises:
            UserError: it is not installed.
        """
        if name == "none":
            return None
        try:
            return cls(importlib.import_module(name))
        except ImportError as error:
            raise UserError(f"--tracker {name}: {name} is not installed; run: pip install {name}") from error

    def begin(self, run: Path, options: dict[str, Any], resumed: bool) -> Any:
        name = "-".join(run.resolve().parts[-2:])
        resume = "allow" if resumed else "never"
        return self.module.init(project=_PROJECT, name=name, config=options, resume=resume)


class MetricsLog:
    """One line a step in metrics.jsonl (flushed at once), the same figures as TensorBoard events.

    Args:
        folder: where both go.
        kept: the part and step up to which a resumed training keeps what is there; None begins anew.
        tracking: a tracker's run that gets the figures as well.
    """

    def __init__(self, folder: Path, kept: tuple[str, int] | None = None, tracking: Any = None):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        lines = _lines_until(path, *kept) if kept is not None and path.is_file() else []
        # TensorBoard can only leave out the steps after one number, whatever part they belong to: written anew.
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._board = SummaryWriter(log_dir=str(folder))
        self._tracking = None
        beside = path.with_name(f".{path.name}")
        with beside.open("w", encoding="utf-8") as self._lines:
            for line in lines:
                self.write(**line)
        beside.replace(path)
        self._lines = path.open("a", encoding="utf-8")
        self._tracking = tracking

    def write(self, part: str, step: int, **figures: float) -> None:
        """Log the figures of one step of one part of the training."""
        self._lines.write(json.dumps({"part": part, "step": step, **figures}) + "\n")
        self._lines.flush()
        for name, value in figures.items():
            self._board.add_scalar(f"{part}/{name}", value, step)
        if self._tracking is not None:
            self._tracking.log({"step": step, **{f"{part}/{name}": value for name, value in figures.items()}})

    def close(self) -> None:
        self._lines.close()
        self._board.close()
        if self._tracking is not None:
            self._tracking.finish()


def _lines_until(path: Path, part: str, step: int) -> list[dict[str, Any]]:
    """What was logged up to this step; a line that a killed process left half written comes after it."""
    kept: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if line["part"] == part and line["step"] > step:
            break
        kept.append(line)
        if line["part"] == part and line["step"] == step:
            break
    return kept
