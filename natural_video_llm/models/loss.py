"""What the model is trained on: the words that came next, and which face belongs to which words."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from natural_video_llm.models.face import SeenFace


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log likelihood in nats; logits [tokens, vocabulary], labels [tokens]."""
    return functional.cross_entropy(logits.float(), labels)


def token_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability (nats) of each label; logits [tokens, vocabulary], labels [tokens] -> [tokens] float32."""
    return -functional.cross_entropy(logits.float(), labels, reduction="none")


class ContrastiveHead(nn.Module):
    """Symmetric InfoNCE between an utterance and its own stretch of face (as in CLIP, Radford et al. 2021).

    The words come from below the first fusion block, where no face has reached them yet: taken above it, the face
    would be matched with itself.
    """

    def __init__(self, text_size: int, face_size: int, size: int = 64):
        super().__init__()
        # A few hundred texts are soon known by heart; dropout on every token keeps to what many texts share.
        self.token_dropout = nn.Dropout(0.5)
        self.text = nn.Sequential(nn.LayerNorm(text_size), nn.Linear(text_size, size))
        self.face = nn.Sequential(nn.LayerNorm(face_size), nn.Linear(face_size, size))
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, text: Tensor, target: Tensor, face: SeenFace, in_reach: Tensor) -> Tensor:
        """Loss in nats over the pairs whose face is in view; 0 where there are fewer than two.

        Args:
            text: hidden states below the fusion [batch, tokens, text_size].
            target: [batch, tokens] bool, the utterance's own tokens.
            face: the encoded stretches.
            in_reach: [batch, frames] bool, frames that some token of the utterance may see.
        """
        seen = face.present & in_reach
        usable = seen.any(1) & target.any(1)
        if int(usable.sum()) < 2:
            return text.new_zeros((), dtype=torch.float32)
        words = functional.normalize(self.text(_mean(self.token_dropout(text.float()), target)[usable]), dim=-1)
        faces = functional.normalize(self.face(_mean(face.encodings.float(), seen)[usable]), dim=-1)
        scores = self.log_scale.clamp(max=4.6).exp() * words @ faces.T
        own = torch.arange(len(scores), device=scores.device)
        return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(x.dtype)[..., None]
    return (x * weights).sum(1) / weights.sum(1).clamp(min=1)
