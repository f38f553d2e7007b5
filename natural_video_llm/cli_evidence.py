"""The verbs that say whether the face is used; imports are inside them, as in `cli`."""

import os
from collections.abc import Callable
from pathlib import Path

from tyro.conf import Positional

from natural_video_llm.console import console, emit, working


def eval_(run: Positional[Path], background: bool = False, json: bool = False) -> None:
    """Find out whether a run uses the right face at the right time; writes eval.json.

    Args:
        run: a run folder.
        background: also show it the video with the face painted over, which has to be encoded anew the first time.
        json: print eval.json instead of tables.
    """
    from natural_video_llm.evaluation.eval import evaluate
    from natural_video_llm.evaluation.tables import print_evidence

    if background:
        _extract_backgrounds(run)
    with working("evaluating") as report:
        result, _ = evaluate(run, report, background)
    if json:
        emit(**result)
    else:
        print_evidence(result, console)
        console.print(f"figures: {run / 'eval.json'}", markup=False, soft_wrap=True)


def _extract_backgrounds(run: Path) -> None:
    from natural_video_llm.evaluation.held_out import held_out_sessions, run_parts
    from natural_video_llm.models.fusion_transformer import read_config
    from natural_video_llm.preprocessing.background import extract_backgrounds

    with working("painting over faces") as report:
        for part in run_parts(run):
            sessions, config = held_out_sessions(part), read_config(part)
            extract_backgrounds(
                sessions,
                config.encoder,
                config.encoder_sha256,
                os.cpu_count() or 1,
                lambda done, of: report(f"segments with the face painted over: {done} of {of}"),
            )


def compare(runs: Positional[tuple[Path, ...]], json: bool = False) -> None:
    """Paired differences between runs, on what both of two held out; each must have been evaluated.

    Args:
        runs: two run folders or more.
        json: print one JSON object instead of tables.
    """
    from natural_video_llm.evaluation.compare import compare as compare_runs
    from natural_video_llm.evaluation.compare import print_comparison

    result = compare_runs(runs)
    if json:
        emit(**result)
    else:
        print_comparison(result, console)


EVIDENCE_VERBS: dict[str, Callable[..., None]] = {"eval": eval_, "compare": compare}
