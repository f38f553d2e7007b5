"""Where a run can be resumed.

RUN/checkpoints/
└── 000012/                 the newest; one before it may be left by a run that was killed between the two
    ├── state.json              options, and how far the run has come
    ├── adapter.safetensors     the weights then
    ├── best.safetensors        those that did best on the people left out, where there are such
    └── optimiser.pt            optimiser, schedule and loss scale

There is no state of random numbers in it: each step draws from the run's seed and its own number.
"""

import io
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from natural_video_llm.errors import UserError
from natural_video_llm.training.options import TrainOptions

FOLDER = "checkpoints"
_STATE, _ADAPTER, _BEST, _OPTIMISER = "state.json", "adapter.safetensors", "best.safetensors", "optimiser.pt"
# These change where and how fast a run goes, not what it learns.
_MAY_CHANGE = ("out", "config", "resume", "save_every", "text_cache_mb", "tracker")


@dataclass
class Standing:
    """How a model does on the people left out.

    Args:
        bits, step: the best figure so far, and after which step.
        waited: looks since then.
    """

    bits: float = float("inf")
    step: int = 0
    waited: int = 0


@dataclass(frozen=True)
class Position:
    """How far a run has come: which fold, whether it trains the twin, which phase of that, steps done of it."""

    fold: int
    twin: bool
    phase: str
    step: int
    standing: Standing = field(default_factory=Standing)


@dataclass(frozen=True)
class Checkpoint:
    """All that training goes on from."""

    position: Position
    adapter: dict[str, Tensor]
    best: dict[str, Tensor] | None
    optimiser: dict[str, Any]


def checkpoint_folders(run: Path) -> list[Path]:
    """What a run can go on from, the newest last."""
    return sorted(path for path in (run / FOLDER).glob("[0-9]*") if path.is_dir())


class Checkpoints:
    """The checkpoints of one run; each is written beside and renamed as a folder, then the one before is deleted."""

    def __init__(self, run: Path, options: TrainOptions):
        self.folder = run / FOLDER
        self._options = _plain(options)

    def save(self, checkpoint: Checkpoint) -> None:
        """Raises OSError where the disk is full; the checkpoint before stays as it is."""
        old = checkpoint_folders(self.folder.parent)
        number = int(old[-1].name) + 1 if old else 0
        beside = self.folder / f".{number:06d}"
        state = {"options": self._options, "position": asdict(checkpoint.position)}
        try:
            beside.mkdir(parents=True, exist_ok=True)
            _write(beside / _STATE, (json.dumps(state, indent=2) + "\n").encode())
            _write(beside / _ADAPTER, save(checkpoint.adapter))
            if checkpoint.best is not None:
                _write(beside / _BEST, save(checkpoint.best))
            buffer = io.BytesIO()
            torch.save(checkpoint.optimiser, buffer)
            _write(beside / _OPTIMISER, buffer.getbuffer())
            beside.rename(self.folder / f"{number:06d}")
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)

    def load(self) -> Checkpoint:
        """The newest checkpoint.

        Raises:
            UserError: there is none, it is damaged, or it was written with other options.
        """
        folders = checkpoint_folders(self.folder.parent)
        if not folders:
            raise UserError(f"{self.folder.parent}: no checkpoint to resume from; begin anew without --resume")
        newest = folders[-1]
        try:
            state = json.loads((newest / _STATE).read_text(encoding="utf-8"))
            self._check(state["options"])
            standing = Standing(**state["position"].pop("standing"))
            best = load_file(newest / _BEST) if (newest / _BEST).exists() else None
            return Checkpoint(
                Position(**state["position"], standing=standing),
                load_file(newest / _ADAPTER),
                best,
                torch.load(newest / _OPTIMISER, weights_only=True),
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"{newest}: this checkpoint cannot be read ({error}); begin anew without --resume in another --out"
            ) from error

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check(self, begun_with: dict[str, Any]) -> None:
        names = sorted((begun_with.keys() | self._options.keys()) - set(_MAY_CHANGE))
        changed = [
            f"--{name.replace('_', '-')} {begun_with.get(name)} (now {self._options.get(name)})"
            for name in names
            if begun_with.get(name) != self._options.get(name)
        ]
        if changed:
            raise UserError(
                f"{self.folder.parent} was begun with other options: {', '.join(changed)}; resume with those, or begin "
                "anew without --resume in another --out"
            )


def _plain(options: TrainOptions) -> dict[str, Any]:
    """Options as JSON gives them back."""
    plain = asdict(options) | {"sessions": options.sessions.resolve()}
    return json.loads(json.dumps(plain, default=str))


def _write(path: Path, content: bytes | memoryview) -> None:
    """Write and see to it that it is on the disk, so that a renamed folder is whole after a power cut as well."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
