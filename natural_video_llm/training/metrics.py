"""Training metrics: JSON lines and TensorBoard, side by side under logs/metrics/ of the run."""

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """One line a step in metrics.jsonl (flushed at once), the same figures as TensorBoard events."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = (folder / "metrics.jsonl").open("w", encoding="utf-8")
        self._board = SummaryWriter(log_dir=str(folder))

    def write(self, part: str, step: int, **figures: float) -> None:
        """Log the figures of one step of one part of the training."""
        self._lines.write(json.dumps({"part": part, "step": step, **figures}) + "\n")
        self._lines.flush()
        for name, value in figures.items():
            self._board.add_scalar(f"{part}/{name}", value, step)

    def close(self) -> None:
        self._lines.close()
        self._board.close()
