"""Does the model know what a face will do next better than one who expects nothing new?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from natural_video_llm.checkpoint import autocast
from natural_video_llm.evaluation.statistics import Estimate, jackknife
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.reaction import HORIZONS_S, TOLERANCE_S
from natural_video_llm.training.dataset import Example, collate, collate_faces

_BATCH_SIZE = 16


@dataclass(frozen=True)
class ReactionErrors:
    """Errors of what was expected of faces, in variances of a component of movement.

    Args:
        sums: by who expected it ("model", "stays as it is", "linear extrapolation", "back to neutral"), summed over
            an example's moments [examples, horizons].
        counts: [examples, horizons], moments after which the face was in view.
    """

    sums: dict[str, np.ndarray]
    counts: np.ndarray


@torch.no_grad()
def reaction_errors(model: NaturalVideoLLM, examples: Sequence[Example], pad_id: int) -> ReactionErrors:
    """How far the model and the baselines are off, on the right face; the model must have a reaction head."""
    device = model.absence.device
    sums: dict[str, list[np.ndarray]] = {}
    counts = []
    for start in range(0, len(examples), _BATCH_SIZE):
        part = list(examples[start : start + _BATCH_SIZE])
        batch = collate(part, [e.seen(model.memory_s) for e in part], pad_id).to(device)
        future = collate_faces([e.ahead(max(HORIZONS_S) + TOLERANCE_S) for e in part]).to(device)
        with autocast(device):
            out = model(batch.ids, batch.query_times, batch.face, attention_mask=batch.mask, keep=batch.keep)
            reaction = model.react(out, batch.keep, batch.query_times, batch.face, future)
        ends = np.cumsum(batch.keep.sum(1).cpu().numpy())[:-1]
        for name, errors in reaction.squared_errors().items():
            per_example = [x.sum(0) for x in np.split(errors.double().cpu().numpy(), ends)]
            sums.setdefault(name, []).extend(per_example)
        counts += [x.sum(0) for x in np.split(reaction.known.cpu().numpy(), ends)]
    return ReactionErrors({name: np.array(rows) for name, rows in sums.items()}, np.array(counts))


def summarise_reactions(parts: Sequence[ReactionErrors], clusters: Sequence[str]) -> dict[str, Any]:
    """By horizon: moments, the model's mean squared error, and its ratio to each baseline's (below 1 the model is the
    better one), each [value, low, high]; None for a horizon after which no face was ever in view."""
    sums = {name: np.concatenate([part.sums[name] for part in parts]) for name in parts[0].sums}
    counts = np.concatenate([part.counts for part in parts])
    summary: dict[str, Any] = {}
    for place, horizon_s in enumerate(HORIZONS_S):
        # Whoever was never in view must not count among the people of the interval.
        rows = np.flatnonzero(counts[:, place])
        if not len(rows):
            summary[f"{horizon_s} s"] = None
            continue
        people = [clusters[int(i)] for i in rows]
        own, known = sums["model"][rows, place], counts[rows, place]
        figures: dict[str, Any] = {"moments": int(known.sum()), "squared_error": _ratio(people, own, known)}
        for name in (n for n in sums if n != "model"):
            figures[f"ratio to {name}"] = _ratio(people, own, sums[name][rows, place])
        summary[f"{horizon_s} s"] = figures
    return summary


def _ratio(clusters: Sequence[str], above: np.ndarray, below: np.ndarray) -> Estimate:
    """Of two sums over examples; a baseline that was never off counts as off by next to nothing."""
    return jackknife(clusters, lambda i: float(above[i].sum() / max(below[i].sum(), 1e-9)), (0.0, np.inf))
