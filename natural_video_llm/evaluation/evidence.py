"""Does the face matter, and is it the right face at the right time?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from natural_video_llm.checkpoint import autocast
from natural_video_llm.evaluation.statistics import Estimate, jackknife
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.loss import token_log_probs
from natural_video_llm.training.dataset import Example, FaceTrack, collate
from natural_video_llm.training.read_texts import ReadTexts


@dataclass(frozen=True)
class Scores:
    """log2 probabilities of each example's target tokens, one array an example."""

    log2_probs: list[np.ndarray]

    @property
    def sums(self) -> np.ndarray:
        return np.array([x.sum() for x in self.log2_probs])


class Scorer:
    """Scores target tokens; texts are read once and each face is encoded once, whatever they are paired with."""

    def __init__(self, model: NaturalVideoLLM, pad_id: int, batch_size: int = 32):
        self.model, self._pad_id, self._batch_size = model, pad_id, batch_size
        self._read = ReadTexts(model, pad_id)

    @torch.no_grad()
    def __call__(self, examples: Sequence[Example], faces: Sequence[FaceTrack]) -> Scores:
        """Score the target tokens of each example with the face given for it."""
        order = sorted(range(len(examples)), key=lambda i: (len(examples[i].ids), i))
        results: list[np.ndarray] = [np.zeros(0)] * len(examples)
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            parts = self._score_batch([examples[i] for i in rows], [faces[i] for i in rows])
            for i, part in zip(rows, parts, strict=True):
                results[i] = part
        return Scores(results)

    def _score_batch(self, examples: list[Example], faces: list[FaceTrack]) -> list[np.ndarray]:
        different = {id(face): face for face in faces}
        places = {key: place for place, key in enumerate(different)}
        batch = collate(examples, list(different.values()), self._pad_id).to(self.model.absence.device)
        with autocast(batch.ids.device):
            seen = self.model.encode(batch.face).rows(torch.tensor([places[id(f)] for f in faces]))
            out = self.model(
                batch.ids,
                batch.query_times,
                seen,
                text_hidden=self._read(examples),
                attention_mask=batch.mask,
                keep=batch.keep,
            )
        logs = token_log_probs(out.logits, batch.labels[batch.keep]).double().cpu().numpy() / math.log(2)
        return np.split(logs, np.cumsum(batch.keep.sum(1).cpu().numpy())[:-1])


def bits_per_token(scores: Scores, clusters: Sequence[str]) -> Estimate:
    """Mean cost of a target token in bits; lower is better."""
    sums, counts = -scores.sums, np.array([len(x) for x in scores.log2_probs])
    return jackknife(clusters, lambda i: float(sums[i].sum() / counts[i].sum()))


def bits_gained(better: Scores, worse: Scores, clusters: Sequence[str], weights: np.ndarray) -> Estimate:
    """Bits that `better` saves over `worse`, in all, divided by `weights` (tokens or words), paired by example."""
    difference = better.sums - worse.sums
    return jackknife(clusters, lambda i: float(difference[i].sum() / weights[i].sum()))


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

    @property
    def bits(self) -> np.ndarray:
        """[examples]: log2(candidates) + log2 probability of the right one: 0 without a face, log2(candidates) at
        best."""
        return math.log2(self.evidence.shape[1]) + self.log2_probability

    def choice_bits(self, clusters: Sequence[str]) -> Estimate:
        bits = self.bits
        limits = (-math.inf, math.log2(self.evidence.shape[1]))
        return jackknife(clusters, lambda i: float(bits[i].mean()), limits)

    def right_share(self, clusters: Sequence[str]) -> Estimate:
        correct = self.correct
        return jackknife(clusters, lambda i: float(correct[i].mean()), (0.0, 1.0))

    def between(self, wanted: np.ndarray) -> "Choices":
        """Choices among some candidates only: `wanted` [examples, candidates] bool, the right one among them."""
        rows = [np.flatnonzero(row) for row in wanted]
        evidence = np.array([e[r] for e, r in zip(self.evidence, rows, strict=True)])
        right = np.array([int(np.flatnonzero(r == k)[0]) for r, k in zip(rows, self.right, strict=True)])
        return Choices(evidence, right)
