"""A run folder → eval.json: what the model does with the right face, with wrong ones, and without any.

RUN/
├── eval.json             the verdict and the figures
├── token_gains.jsonl     what the face was worth, token by token
├── replies.jsonl         replies under the true, no and another person's face (another session's of one person)
└── evidence.csv, .tex    the table of the figures
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from natural_video_llm.disk import check_writable, write_whole
from natural_video_llm.evaluation.evidence_files import write_tables
from natural_video_llm.evaluation.held_out import held_out_facts, held_out_sessions
from natural_video_llm.evaluation.replies import DEFAULT_REPLIES, ReplyOptions, ReplyUnderFace
from natural_video_llm.evaluation.reply_measures import load_embedder, summarise_replies
from natural_video_llm.evaluation.reply_records import write_replies
from natural_video_llm.evaluation.scoring import Part, named_alike, score_part
from natural_video_llm.evaluation.statistics import json_ready
from natural_video_llm.evaluation.summary import summarise
from natural_video_llm.evaluation.token_gains import timelines, write_gains
from natural_video_llm.run_folder import EVAL_FILE, JUDGE_FILE, run_parts
from natural_video_llm.training.model_card import write_card
from natural_video_llm.training.number_ranges import check_numbers


def evaluate(
    run: Path, report: Callable[[str], None], background: bool = False, options: ReplyOptions = DEFAULT_REPLIES
) -> tuple[dict[str, Any], list[ReplyUnderFace]]:
    """Evaluate a run on the people it was not trained on, write what was found, and return it with sample replies.

    Args:
        background: also show what the encoder made of the background, see `preprocessing.background`.
        options: of the replies to generate.

    Raises:
        UserError: a number of `options` is out of range, no run here or not trained to its end, nothing was held out or
            its data is gone, the run cannot be written, the model gives no numbers, latents of the background are
            missing, or `options.embedding` names no sentence model.
    """
    numbers = {"replies": options.utterances, "temperature": options.temperature}
    check_numbers(numbers, {"0 or more": tuple(numbers)})
    folders = run_parts(run)
    sessions = {s.start.session_id: s for folder in folders for s in held_out_sessions(folder)}
    for folder in dict.fromkeys((run, *folders)):
        check_writable(folder)
    embed = load_embedder(options.embedding) if options.embedding else None
    options = replace(options, utterances=-(-options.utterances // len(folders)))
    parts: list[Part] = []
    replies: list[ReplyUnderFace] = []
    for number, folder in enumerate(folders, start=1):
        report(f"part {number} of {len(folders)}")
        part, shown = score_part(folder, background, options, report)
        parts.append(part)
        replies = replies or shown
    report("intervals")
    parts = named_alike(parts)
    result = summarise(parts)
    result["data"] |= held_out_facts(folders)
    result["timeline"] = timelines(parts, sessions)
    result["replies"] = [asdict(r) for r in replies]
    generated = [reply for part in parts for reply in part.generated]
    write_replies(generated, run)
    (run / JUDGE_FILE).unlink(missing_ok=True)  # of other replies; the judge's raw answers stay
    result["replies_summary"] = summarise_replies(generated, embed)
    result = json_ready(result)
    write_gains(run, parts)
    write_tables(run, result)
    write_whole(run / EVAL_FILE, json.dumps(result, indent=2, allow_nan=False) + "\n")
    for folder in folders:
        write_card(folder, result)
    return result, replies
