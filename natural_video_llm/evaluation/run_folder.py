"""What lies where in a run folder; light, so that judges and raters need no torch."""

from pathlib import Path

EVAL_FILE, JUDGE_FILE = "eval.json", "judge.json"


def run_parts(run: Path) -> list[Path]:
    """The folders of a run's models: one for each fold, or the run itself."""
    return sorted(run.glob("fold_*")) or [run]
