"""The verb `nvllm report`; imports are inside it, as in `cli`."""

from collections.abc import Callable
from pathlib import Path

from tyro.conf import Positional

from natural_video_llm.console import console, emit, working


def report(run: Positional[Path], faces: bool = True, json: bool = False) -> None:
    """Write report.html (and evidence.png, evidence.svg) of a run anew, from its eval.json.

    Args:
        run: a run folder that `nvllm eval` has been through.
        faces: show pictures of the held-out people; --no-faces leaves them out.
        json: print one JSON object.
    """
    from natural_video_llm.evaluation.report import write_report

    with working("writing the report"):
        path = write_report(run, faces)
    if json:
        emit(report=str(path), bytes=path.stat().st_size, faces=faces)
    else:
        console.print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)


REPORT_VERBS: dict[str, Callable[..., None]] = {"report": report}
