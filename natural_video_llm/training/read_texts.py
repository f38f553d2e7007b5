"""Texts run once through the layers that no face reaches and no training changes."""

from collections import OrderedDict
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

    Args:
        limit_bytes: beyond this, what was not asked for longest is dropped; no limit by default.
        read_alone: run each text by itself, so that what comes out is the same to the last bit whatever company a
            text is asked for in; else all that are missing run together, which differs by rounding.
    """

    def __init__(
        self, model: NaturalVideoLLM, pad_id: int, limit_bytes: float = float("inf"), read_alone: bool = False
    ):
        self._model, self._pad_id = model, pad_id
        self._limit_bytes, self._read_alone = limit_bytes, read_alone
        self._hidden: OrderedDict[bytes, Tensor] = OrderedDict()
        self.kept_bytes = 0

    def __call__(self, examples: Sequence[Example]) -> Tensor:
        """[batch, tokens, hidden], padded with zeros on the right."""
        wanted = {e.ids.tobytes(): e.ids for e in examples}
        missing = [ids for key, ids in wanted.items() if key not in self._hidden]
        for texts in [[ids] for ids in missing] if self._read_alone else [missing]:
            self._read(texts)
        for key in wanted:
            self._hidden.move_to_end(key)
        rows = [self._hidden[e.ids.tobytes()] for e in examples]
        self._drop()
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return padded.to(self._model.absence.device)

    def _read(self, texts: list[np.ndarray]) -> None:
        if not texts:
            return
        longest = max(len(ids) for ids in texts)
        ids = torch.full((len(texts), longest), self._pad_id)
        mask = torch.zeros(len(texts), longest, dtype=torch.bool)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.from_numpy(text)
            mask[row, : len(text)] = True
        device = self._model.absence.device
        hidden = self._model.read(ids.to(device), mask.to(device)).cpu()
        for row, text in enumerate(texts):
            kept = hidden[row, : len(text)].clone()
            self._hidden[text.tobytes()] = kept
            self.kept_bytes += kept.nbytes

    def _drop(self) -> None:
        while self.kept_bytes > self._limit_bytes:
            _, hidden = self._hidden.popitem(last=False)
            self.kept_bytes -= hidden.nbytes
