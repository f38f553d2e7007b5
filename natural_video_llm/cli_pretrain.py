"""The verb `nvllm pretrain-encoder`; imports are inside it, as in `cli`."""

from collections.abc import Callable

from tyro.conf import OmitArgPrefixes

from natural_video_llm.console import bar, console, emit
from natural_video_llm.preprocessing.pretrain_options import PretrainOptions


def pretrain_encoder(options: OmitArgPrefixes[PretrainOptions], json: bool = False) -> None:
    """Learn a video encoder of one's own from face crops, without labels: what is hidden is told from what is shown.

    Args:
        options: from what, to where, how large and for how long.
        json: progress and what was learned as JSON lines.
    """
    from natural_video_llm.preprocessing.pretrain_encoder import PretrainProgress, pretrain, summary

    with bar("pretraining", json) as progress:

        def report(now: PretrainProgress) -> None:
            note = now.part if now.error is None else f"{now.part}: error {now.error:.2f}"
            progress.update(now.done, now.total, note, part=now.part, error=now.error)

        record = pretrain(options, report)
    if json:
        emit(**record)
    else:
        next_ = f"nvllm extract {options.sessions} --encoder {record['encoder']}"
        told = f"{summary(record)}\nlearned: {options.out} (next: {next_})"
        console.print(told, markup=False, highlight=False, soft_wrap=True)


PRETRAIN_VERBS: dict[str, Callable[..., None]] = {"pretrain-encoder": pretrain_encoder}
