"""What the model is trained on: the words that came next, and which face belongs to which words."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from natural_video_llm.models.face import SeenFace
from natural_video_llm.models.timed_attention import RelativeTime, TimedAttention


def next_token_loss(logits: Tensor, labels: Tensor, tokens: int | None = None) -> Tensor:
    """Mean negative log likelihood in nats; logits [tokens, vocabulary], labels [tokens].

    `tokens` is how many the mean is over where these are a part of them: the parts' losses then add up to the whole's.
    """
    return functional.cross_entropy(logits.float(), labels, reduction="sum") / (
        len(labels) if tokens is None else tokens
    )


def token_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability (nats) of each label; logits [tokens, vocabulary], labels [tokens] -> [tokens] float32."""
    return -functional.cross_entropy(logits.float(), labels, reduction="none")


class ContrastiveHead(nn.Module):
    """Symmetric InfoNCE between pieces of text and the face as it was at their time (as in CLIP, Radford et al. 2021).

    The words come as the LLM's own input embeddings: taken from inside the LLM they would carry the face that they are
    to be matched with, or a sentence that is soon known by heart.
    """

    def __init__(self, text_size: int, face_size: int, heads: int, time: RelativeTime, size: int = 64):
        super().__init__()
        self.relative_time = time
        # A few hundred texts are soon known by heart; dropout on every token keeps to what many texts share.
        self.token_dropout = nn.Dropout(0.5)
        self.text = nn.Sequential(nn.LayerNorm(text_size), nn.Linear(text_size, size))
        self.face = nn.Sequential(nn.LayerNorm(face_size), nn.Linear(face_size, size))
        self.query = nn.Parameter(0.02 * torch.randn(face_size))
        self.attention = TimedAttention(face_size, face_size, face_size, heads, time)
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(
        self,
        ids: Tensor,
        words: Tensor,
        pieces: Tensor,
        query_times: Tensor,
        face: SeenFace,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Loss in nats over the pieces for which a face is in view; 0 where there are fewer than two.

        Args:
            ids: tokens [batch, tokens]; two pieces are the same text where their tokens are the same.
            words: their input embeddings [batch, tokens, text_size].
            pieces: [batch, tokens] int, the number of the piece that a token belongs to, -1 for none; rising in a row.
            query_times: [batch, tokens] float64 seconds, when each token appears.
            face: the encoded stretches.
            gather: gives the rows of all processes' tensors in the place of this one's, shorter rows padded with -1,
                gradients passed on; then each process gets the loss over the pieces of all.
        """
        features, visible = self.relative_time(query_times, face.times, face.present)
        wanted = (pieces >= 0) & visible.any(-1)
        looked = self._look(face, features, visible)
        _, number = pieces[wanted].unique(return_inverse=True)
        tokens = _pad(ids[wanted], number)
        texts = functional.normalize(self.text(_mean(self.token_dropout(words[wanted].float()), number)), dim=-1)
        faces = functional.normalize(self.face(_mean(looked[wanted].float(), number)), dim=-1)
        if gather is not None:
            tokens, texts, faces = (gather(rows) for rows in (tokens, texts.float(), faces.float()))
        if not len(tokens):
            return words.new_zeros((), dtype=torch.float32)
        scores = self.log_scale.clamp(max=4.6).exp() * texts.float() @ faces.float().T
        own = torch.arange(len(scores), device=scores.device)
        # The same words said elsewhere are no counterexample.
        _, text = tokens.unique(dim=0, return_inverse=True)
        scores = scores.masked_fill((text[:, None] == text) & (own[:, None] != own), float("-inf"))
        return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2

    def _look(self, face: SeenFace, features: Tensor, visible: Tensor) -> Tensor:
        """The face as each token sees it, [batch, tokens, face_size]; in front of it an empty place to look at."""
        keys = functional.pad(face.encodings, (0, 0, 1, 0))
        features, visible = functional.pad(features, (0, 0, 1, 0)), functional.pad(visible, (1, 0), value=True)
        return self.attention(self.query.expand(*visible.shape[:2], -1), keys, features, visible)


def _mean(rows: Tensor, group: Tensor) -> Tensor:
    """Means of rows [count, size] by group [count] -> [groups, size]"""
    sizes = torch.bincount(group)
    sums = rows.new_zeros(len(sizes), rows.shape[1]).index_add_(0, group, rows)
    return sums / sizes[:, None]


def _pad(values: Tensor, group: Tensor) -> Tensor:
    """values [count] by group [count], those of a group side by side -> [groups, longest], padded with -1"""
    sizes = torch.bincount(group)
    order = group.argsort(stable=True)
    place = torch.arange(len(group), device=group.device) - (sizes.cumsum(0) - sizes)[group[order]]
    padded = values.new_full((len(sizes), int(sizes.max()) if len(sizes) else 0), -1)
    padded[group[order], place] = values[order]
    return padded
