"""AdamW with a rate for each kind of weight, and how rates rise and fall."""

import math
from typing import Any

import torch

from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.training.options import TrainOptions

_BETAS = (0.9, 0.98)
_GATE_RATE = 20  # a gate is one number that has far to go from zero; the weights behind it have not
_MATCHED_RATE = 0.1  # what matching has taught is to be kept while the LLM learns to use it


def matching_optimiser(model: NaturalVideoLLM, options: TrainOptions) -> torch.optim.Optimizer:
    parameters = [*model.temporal_encoder.parameters(), *model.contrastive.parameters()]
    return torch.optim.AdamW(parameters, options.match_rate, _BETAS, weight_decay=options.weight_decay)


def fitting_optimiser(model: NaturalVideoLLM, options: TrainOptions, is_matched: bool) -> torch.optim.Optimizer:
    rate, decay = options.learning_rate, options.weight_decay
    groups: dict[str, dict[str, Any]] = {
        "gate": {"lr": _GATE_RATE * rate, "weight_decay": 0.0},
        "lora": {"lr": rate / 2, "weight_decay": decay},
        "matched": {"lr": (_MATCHED_RATE if is_matched else 1.0) * rate, "weight_decay": decay},
        "fusion": {"lr": rate, "weight_decay": decay},
    }
    for name, parameter in model.trained_parameters():
        groups[_group_of(name)].setdefault("params", []).append(parameter)
    return torch.optim.AdamW([g for g in groups.values() if "params" in g], betas=_BETAS)


def _group_of(parameter: str) -> str:
    if parameter.endswith(".gate"):
        return "gate"
    if ".lora_" in parameter:
        return "lora"
    matched = parameter.startswith(("temporal_encoder.", "contrastive.")) or ".attention." in parameter
    return "matched" if matched else "fusion"


def warm_up_and_decay(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up over the first twentieth, then a cosine down to zero."""
    warm = max(1, steps // 20)

    def scale(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, scale)
