"""Does the face matter, and is it the right face at the right time?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from natural_video_llm.evaluation.statistics import Estimate, bootstrap
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.loss import token_log_probs
from natural_video_llm.training.dataset import Example, FaceTrack, collate


@dataclass(frozen=True)
class Scores:
    """log2 probabilities of each example's target tokens, one array an example."""

    log2_probs: list[np.ndarray]

    @property
    def sums(self) -> np.ndarray:
        return np.array([x.sum() for x in self.log2_probs])


@torch.no_grad()
def score(
    model: NaturalVideoLLM,
    examples: Sequence[Example],
    face_of: Callable[[Example], FaceTrack],
    pad_id: int,
    batch_size: int = 32,
) -> Scores:
    """Score the target tokens of `examples`, each with the face that `face_of` gives it."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids))
    results: list[np.ndarray] = [np.zeros(0)] * len(examples)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        chosen = [examples[i] for i in rows]
        faces = [face_of(e) for e in chosen]
        batch = collate(chosen, faces, model.config.window_s, pad_id).to(model.absence.device)
        out = model(batch.ids, batch.query_times, batch.face, attention_mask=batch.mask, keep=batch.keep)
        logs = token_log_probs(out.logits, batch.labels[batch.keep]).double().cpu().numpy() / math.log(2)
        counts = batch.keep.sum(1).tolist()
        for i, part in zip(rows, np.split(logs, np.cumsum(counts)[:-1]), strict=True):
            results[i] = part
    return Scores(results)


def bits_per_token(scores: Scores, clusters: Sequence[str]) -> Estimate:
    """Mean cost of a target token in bits; lower is better."""
    sums, counts = -scores.sums, np.array([len(x) for x in scores.log2_probs])
    return bootstrap(clusters, lambda i: float(sums[i].sum() / counts[i].sum()))


def bits_gained(better: Scores, worse: Scores, clusters: Sequence[str], weights: np.ndarray) -> Estimate:
    """Bits that `better` saves over `worse`, in all, divided by `weights` (tokens or words), paired by example."""
    difference = better.sums - worse.sums
    return bootstrap(clusters, lambda i: float(difference[i].sum() / weights[i].sum()))


@dataclass(frozen=True)
class Choices:
    """Which of the candidate replies a face points to.

    `evidence` [examples, candidates]: log2 p(reply | text, face) - log2 p(reply | text, no face);
    `right` [examples]: the index of the reply that was given.
    """

    evidence: np.ndarray
    right: np.ndarray

    @property
    def log2_probability(self) -> np.ndarray:
        """[examples]: log2 of the probability that a softmax over the candidates gives the right one."""
        natural = self.evidence * math.log(2)
        shifted = natural - natural.max(1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        return log_softmax[np.arange(len(natural)), self.right] / math.log(2)

    @property
    def correct(self) -> np.ndarray:
        """[examples]: credit for the top choice, shared where several candidates tie."""
        top = self.evidence.max(1, keepdims=True)
        tied = self.evidence == top
        return tied[np.arange(len(tied)), self.right] / tied.sum(1)

    def choice_bits(self, clusters: Sequence[str]) -> Estimate:
        """log2(candidates) + mean log2 probability of the right one: 0 without a face, log2(candidates) at best."""
        limit, logs = math.log2(self.evidence.shape[1]), self.log2_probability
        return bootstrap(clusters, lambda i: float(limit + logs[i].mean()))

    def right_share(self, clusters: Sequence[str]) -> Estimate:
        correct = self.correct
        return bootstrap(clusters, lambda i: float(correct[i].mean()))

    def between(self, wanted: np.ndarray) -> "Choices":
        """Choices among some candidates only: `wanted` [examples, candidates] bool, the right one among them."""
        rows = [np.flatnonzero(row) for row in wanted]
        evidence = np.array([e[r] for e, r in zip(self.evidence, rows, strict=True)])
        right = np.array([int(np.flatnonzero(r == k)[0]) for r, k in zip(rows, self.right, strict=True)])
        return Choices(evidence, right)
