"""What lies in a run folder, by name; light, so that what reads a run needs no torch.

RUN/
├── run.json                                      options, data and figures of training
├── config.json, adapter.safetensors, README.md   the model and its card (with --folds in fold_0, fold_1 …)
├── logs/                                         metrics
├── eval.json, token_gains.jsonl, replies.jsonl   `nvllm eval`
├── judge.json, judge_raw.jsonl                   `nvllm eval judge`
├── ratings.jsonl                                 `nvllm eval rate`
└── report.html, evidence.*                       `nvllm report`
"""

from pathlib import Path

RUN_FILE = "run.json"
EVAL_FILE, TOKEN_GAINS_FILE, REPLIES_FILE = "eval.json", "token_gains.jsonl", "replies.jsonl"
JUDGE_FILE, RAW_FILE, RATINGS_FILE = "judge.json", "judge_raw.jsonl", "ratings.jsonl"
REPORT_FILE = "report.html"


def run_parts(run: Path) -> list[Path]:
    """The folders of a run's models: one for each fold, or the run itself."""
    return sorted(run.glob("fold_*")) or [run]
