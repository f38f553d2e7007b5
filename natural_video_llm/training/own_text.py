"""Text of the base LLM's own, which is to stay as likely as it was, whatever the face does.

What a face changes should be replies to the person, not the language. The text is sampled from the base LLM itself: its
cross-entropy under the adapted model is then, but for a constant, how far the two are apart (data-free distillation, as
in LLM-QAT, Liu et al. 2023).
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from natural_video_llm.models.face import SeenFace
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.loss import token_log_probs

_CONVERSATIONS = 4  # to one such text in a step; with a text for each, half of a step's time went into it


class OwnText:
    """A model's own texts, `ids` as `sample_text` gives them; with `is_read` the layers that no face reaches run over
    them once."""

    def __init__(self, model: NaturalVideoLLM, ids: Tensor, is_read: bool):
        self._model, self.ids = model, ids
        everything = torch.ones_like(self.ids, dtype=torch.bool)[:, 1:]
        self._hidden = model.read(self.ids[:, :-1], everything) if is_read else None

    def __len__(self) -> int:
        return len(self.ids)

    def losses(self, rows: Tensor, seen: SeenFace, ends_s: Tensor) -> Tensor:
        """The texts' mean losses in nats a token [rows].

        Args:
            rows: numbers of texts.
            seen: a face for each; the tokens appear evenly over one window up to `ends_s` [rows].
        """
        ids = self.ids[rows]
        share = torch.linspace(-1, 0, ids.shape[1] - 1, dtype=torch.float64, device=ids.device)
        times = ends_s[:, None] + self._model.config.window_s * share
        hidden = None if self._hidden is None else self._hidden[rows]
        out = self._model(ids[:, :-1], times, seen, text_hidden=hidden)
        return -token_log_probs(out.logits.flatten(0, 1), ids[:, 1:].flatten()).unflatten(0, (len(rows), -1)).mean(1)


def texts_of_step(size: int) -> int:
    """How many texts a step over `size` conversations takes."""
    return -(-size // _CONVERSATIONS)


def faces_of_step(step: int, size: int, rank: int, processes: int) -> list[tuple[int, int]]:
    """Under which of this process's faces the texts of a step are put: [(place among its faces, which text), ...].

    The faces of all processes take turns over the steps. Each process has as many as any other, for all run the LLM
    together where its weights are parted; a text past `texts_of_step` is one too many and counts nothing.
    """
    texts = texts_of_step(size)
    turns = {i: (i * processes + rank - step * texts) % size for i in range(size // processes)}
    return sorted(turns.items(), key=lambda turn: turn[1])[: -(-texts // processes)]


@torch.no_grad()
def sample_text(llm: PreTrainedModel, seed: int, texts: int = 96, length: int = 40) -> Tensor:
    """Token ids [texts, length] from the base LLM: any first token, then what it says next."""
    vocabulary, device = llm.config.get_text_config().vocab_size, llm.device
    generator = torch.Generator().manual_seed(seed)
    newest = torch.randint(vocabulary, (texts, 1), generator=generator).to(device)
    parts, cache = [newest], None
    while len(parts) < length:
        out = llm(input_ids=newest, past_key_values=cache, use_cache=True)
        # By the inverse of the distribution function: torch.multinomial takes longer than the LLM.
        below = out.logits[:, -1].float().softmax(-1).cumsum(-1)
        drawn = torch.rand(texts, 1, generator=generator).to(device) * below[:, -1:]
        newest, cache = torch.searchsorted(below, drawn).clamp(max=vocabulary - 1), out.past_key_values
        parts.append(newest)
    return torch.cat(parts, dim=1)
