"""What the model is trained on: the words that came next, and which face belongs to which words."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from natural_video_llm.models.face import SeenFace
from natural_video_llm.models.timed_attention import RelativeTime, TimedAttention


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log likelihood in nats; logits [tokens, vocabulary], labels [tokens]."""
    return functional.cross_entropy(logits.float(), labels)


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

    def forward(self, words: Tensor, pieces: Tensor, query_times: Tensor, face: SeenFace) -> Tensor:
        """Loss in nats over the pieces for which a face is in view; 0 where there are fewer than two.

        Args:
            words: input embeddings of tokens [batch, tokens, text_size].
            pieces: [batch, tokens] int, the number of the piece that a token belongs to, -1 for none.
            query_times: [batch, tokens] float64 seconds, when each token appears.
            face: the encoded stretches.
        """
        features, visible = self.relative_time(query_times, face.times, face.present)
        wanted = (pieces >= 0) & visible.any(-1)
        if not wanted.any():
            return words.new_zeros((), dtype=torch.float32)
        looked = self._look(face, features, visible)
        _, number = pieces[wanted].unique(return_inverse=True)
        plain = _mean(words[wanted].float(), number)
        texts = functional.normalize(self.text(_mean(self.token_dropout(words[wanted].float()), number)), dim=-1)
        faces = functional.normalize(self.face(_mean(looked[wanted].float(), number)), dim=-1)
        scores = self.log_scale.clamp(max=4.6).exp() * texts.float() @ faces.float().T
        own = torch.arange(len(scores), device=scores.device)
        # The same words said elsewhere are no counterexample.
        _, text = plain.unique(dim=0, return_inverse=True)
        scores = scores.masked_fill((text[:, None] == text) & (own[:, None] != own), float("-inf"))
        return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2

    def _look(self, face: SeenFace, features: Tensor, visible: Tensor) -> Tensor:
        """The face as each token sees it, [batch, tokens, face_size]; in front of it an empty place to look at."""
        keys = functional.pad(face.encodings, (0, 0, 1, 0))
        features, visible = functional.pad(features, (0, 0, 1, 0)), functional.pad(visible, (1, 0), value=True)
        return self.attention(self.query.expand(*visible.shape[:2], -1), keys, features, visible)


def _mean(rows: Tensor, group: Tensor) -> Tensor:
    """Means of rows [count, size] by group [count] -> [groups, size]"""
    groups = int(group.max()) + 1
    sums = rows.new_zeros(groups, rows.shape[1]).index_add_(0, group, rows)
    return sums / torch.bincount(group, minlength=groups)[:, None]
