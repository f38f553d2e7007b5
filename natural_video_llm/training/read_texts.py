"""Texts run once through the layers that no face reaches and no training changes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.training.dataset import Example


class ReadTexts:
    """Hidden states below the fusion for the tokens of examples, kept by the tokens themselves.

    The key is the text's whole token sequence and the cache lives and dies with one model, so a stale entry cannot
    be found. Kept on the CPU in the LLM's own precision: 1.2 kB a token for the default LLM.
    """

    def __init__(self, model: NaturalVideoLLM, pad_id: int):
        self._model, self._pad_id = model, pad_id
        self._hidden: dict[bytes, Tensor] = {}

    def __call__(self, examples: Sequence[Example]) -> Tensor:
        """[batch, tokens, hidden], padded with zeros on the right."""
        missing = {e.ids.tobytes(): e.ids for e in examples if e.ids.tobytes() not in self._hidden}
        if missing:
            self._read(list(missing.values()))
        rows = [self._hidden[e.ids.tobytes()] for e in examples]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return padded.to(self._model.absence.device)

    def _read(self, texts: list[np.ndarray]) -> None:
        longest = max(len(ids) for ids in texts)
        ids = torch.full((len(texts), longest), self._pad_id)
        mask = torch.zeros(len(texts), longest, dtype=torch.bool)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.from_numpy(text)
            mask[row, : len(text)] = True
        device = self._model.absence.device
        hidden = self._model.read(ids.to(device), mask.to(device)).cpu()
        for row, text in enumerate(texts):
            self._hidden[text.tobytes()] = hidden[row, : len(text)].clone()
