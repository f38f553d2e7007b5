"""Text of the base LLM's own, which is to stay as likely as it was, whatever the face does.

What a face changes should be replies to the person, not the language. The text is sampled from the base LLM itself: its
cross-entropy under the adapted model is then, but for a constant, how far the two are apart (data-free distillation, as
in LLM-QAT, Liu et al. 2023).
"""

import torch
from torch import Tensor

from natural_video_llm.models.face import SeenFace
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.loss import next_token_loss

_TEXTS, _LENGTH = 96, 40


class OwnText:
    """Texts sampled once, from `seed`; with `is_read` the layers that no face reaches run over them once, too."""

    def __init__(self, model: NaturalVideoLLM, seed: int, is_read: bool):
        self._model = model
        self.ids = sample_text(model, _TEXTS, _LENGTH, seed)
        everything = torch.ones_like(self.ids, dtype=torch.bool)[:, 1:]
        self._hidden = model.read(self.ids[:, :-1], everything) if is_read else None

    def __len__(self) -> int:
        return len(self.ids)

    def loss(self, rows: list[int], seen: SeenFace, ends_s: Tensor) -> Tensor:
        """Sum of the texts' mean losses in nats a token.

        Args:
            rows: numbers of texts.
            seen: a face for each; the tokens appear evenly over one window up to `ends_s` [rows].
        """
        ids = self.ids[rows]
        share = torch.linspace(-1, 0, ids.shape[1] - 1, dtype=torch.float64, device=ids.device)
        times = ends_s[:, None] + self._model.config.window_s * share
        hidden = None if self._hidden is None else self._hidden[rows]
        out = self._model(ids[:, :-1], times, seen, text_hidden=hidden)
        return next_token_loss(out.logits.flatten(0, 1), ids[:, 1:].flatten(), ids.shape[1] - 1)


@torch.no_grad()
def sample_text(model: NaturalVideoLLM, texts: int, length: int, seed: int) -> Tensor:
    """Token ids [texts, length] from the base LLM: any first token, then what it says next."""
    vocabulary, device = model.llm.config.get_text_config().vocab_size, model.absence.device
    generator = torch.Generator().manual_seed(seed)
    newest = torch.randint(vocabulary, (texts, 1), generator=generator).to(device)
    parts, cache = [newest], None
    while len(parts) < length:
        out = model(newest, past_key_values=cache, use_cache=True)
        # By the inverse of the distribution function: torch.multinomial takes longer than the LLM.
        below = out.logits[:, -1].float().softmax(-1).cumsum(-1)
        drawn = torch.rand(texts, 1, generator=generator).to(device) * below[:, -1:]
        newest, cache = torch.searchsorted(below, drawn).clamp(max=vocabulary - 1), out.past_key_values
        parts.append(newest)
    return torch.cat(parts, dim=1)
