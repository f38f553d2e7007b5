"""What all models of a run have in common, and how far one has come."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from natural_video_llm.training.checkpoints import Checkpoint
from natural_video_llm.training.options import TrainOptions
from natural_video_llm.training.processes import Processes


@dataclass(frozen=True)
class Progress:
    """Where training is: what is being trained, step of steps, loss in bits (a token; a pair while matching), seconds
    left for this part."""

    part: str
    step: int
    steps: int
    bits: float
    left_s: float


@dataclass(frozen=True)
class Setting:
    """What all models of a run have in common.

    Args:
        own_text: ids of the base LLM's own texts, see `sample_text`; None leaves them out.
        report: told of every step, in the main process.
        should_stop: asked after every step, in every process; where one says yes all stop, by KeyboardInterrupt.
        save: writes a checkpoint, in the main process.
    """

    options: TrainOptions
    processes: Processes
    pad_id: int
    dtype: torch.dtype
    own_text: Tensor | None
    report: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    save: Callable[[Checkpoint], None]
