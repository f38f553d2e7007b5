"""The text of one conversation inside the LLM, twice: with the face, and with nobody in view."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from natural_video_llm.models.face import SeenFace
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM


class Decoder(ABC):
    """A key-value cache over the tokens fed so far; `length` says how many it holds.

    Two rows run side by side on the same tokens, one with the face and one with nobody in view: what the face changes
    is the difference between their next-token distributions.
    """

    length: int

    @abstractmethod
    def feed(self, ids: Sequence[int], query_times: Sequence[float], face: SeenFace) -> Tensor:
        """Append tokens; the log-probabilities [2, vocabulary] float32 of what follows the last of them.

        Args:
            query_times: for each token the time in seconds at which the next one appears.
            face: one row; what was seen up to the last of these times, and over the window before the first.
        """

    @abstractmethod
    def cut(self, length: int) -> None:
        """Keep the first `length` tokens at most; where the LLM cannot go back, fewer are left, maybe none."""

    @abstractmethod
    def drop(self, first: int, last: int) -> None:
        """Forget the tokens [first, last) and close the gap; where the LLM cannot, all from `first` on are gone."""


class TransformersDecoder(Decoder):
    """Any LLM, through its own forward pass."""

    def __init__(self, model: NaturalVideoLLM):
        self.length = 0
        self._model = model
        self._cache: Any = None

    @torch.no_grad()
    def feed(self, ids: Sequence[int], query_times: Sequence[float], face: SeenFace) -> Tensor:
        device = self._model.absence.device
        queries = torch.tensor([query_times], dtype=torch.float64, device=device)
        keep = torch.zeros(2, len(ids), dtype=torch.bool, device=device)
        keep[:, -1] = True
        out = self._model(
            torch.tensor([ids], device=device).expand(2, -1),
            queries.expand(2, -1),
            _beside_nobody(face),
            past_key_values=self._cache,
            use_cache=True,
            keep=keep,
        )
        self._cache = out.past_key_values
        self.length += len(ids)
        return out.logits.float().log_softmax(-1)

    def cut(self, length: int) -> None:
        if length >= self.length:
            return
        try:
            self._cache.crop(length - self.length)
            self.length = length
        except (AttributeError, RuntimeError, ValueError):  # a sliding window has let go of what came before
            self._cache, self.length = None, 0

    def drop(self, first: int, last: int) -> None:
        self.cut(first)


def _beside_nobody(face: SeenFace) -> SeenFace:
    nobody = torch.zeros_like(face.present)
    return SeenFace(face.encodings.expand(2, -1, -1), face.times.expand(2, -1), torch.cat([face.present, nobody]))
