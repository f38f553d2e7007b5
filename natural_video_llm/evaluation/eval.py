"""A run folder → eval.json: what the model does with the right face, with wrong ones, and without any.

RUN/
├── eval.json             the verdict and the figures
├── token_gains.jsonl     what the face was worth, token by token
└── evidence.csv, .tex    the table of the figures
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from natural_video_llm.evaluation.evidence_files import write_tables
from natural_video_llm.evaluation.held_out import held_out_facts, held_out_sessions, run_parts
from natural_video_llm.evaluation.replies import ReplyUnderFace
from natural_video_llm.evaluation.scoring import Part, score_part
from natural_video_llm.evaluation.summary import summarise
from natural_video_llm.evaluation.token_gains import timelines, write_gains
from natural_video_llm.training.model_card import write_card

EVAL_FILE = "eval.json"


def evaluate(
    run: Path, report: Callable[[str], None], background: bool = False
) -> tuple[dict[str, Any], list[ReplyUnderFace]]:
    """Evaluate a run on the people it was not trained on, write what was found, and return it with sample replies.

    Args:
        background: also show what the encoder made of the background, see `preprocessing.background`.

    Raises:
        UserError: no run here, or its data is gone.
    """
    folders = run_parts(run)
    parts: list[Part] = []
    replies: list[ReplyUnderFace] = []
    for number, folder in enumerate(folders, start=1):
        report(f"part {number} of {len(folders)}")
        part, shown = score_part(folder, background, report)
        parts.append(part)
        replies = replies or shown
    report("intervals")
    result = summarise(parts)
    result["data"] |= held_out_facts(folders)
    sessions = {s.start.session_id: s for folder in folders for s in held_out_sessions(folder)}
    result["timeline"] = timelines(parts, sessions)
    result["replies"] = [asdict(r) for r in replies]
    result = json_ready(result)
    write_gains(run, parts)
    write_tables(run, result)
    beside = run / f".{EVAL_FILE}"
    beside.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(run / EVAL_FILE)
    for folder in folders:
        write_card(folder, result)
    return result, replies


def json_ready(value: Any) -> Any:
    """Tuples as lists, and null for limits that are not known, for which JSON has no number."""
    if isinstance(value, dict):
        return {name: json_ready(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
