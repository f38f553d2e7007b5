"""Video with parts hidden, to be told from the rest: what is hidden, what is known without a net, where a net begins.

After VideoMAE (Tong et al. 2022, arXiv:2203.12602), which hides the same random places of all pictures. Here every
other batch hides the later half of the pictures instead, so that what a face does next has to be learned as well; and
the net says by how much the hidden pixels differ from what is known without it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import VideoMAEConfig, VideoMAEForPreTraining
from transformers.models.videomae.modeling_videomae import VideoMAEAttention, VideoMAESelfAttention

HIDDEN_PLACES = 0.75

# The paper's values for small data.
_ALIKE, _TAKEN_OFF = 0.7, 0.4
# So that the place itself outweighs its neighbours.
_OWN_PLACE = 3.5


@dataclass(frozen=True)
class Hidden:
    """A batch of clips of which a part is hidden.

    Args:
        clips: [clips, pictures, 3, side, side].
        mask: [clips, patches] bool, what is hidden; equally many in each clip.
        known: [clips, hidden, numbers], what could be said of the hidden patches without a net: of later pictures the
            last one that is shown, of hidden places the average face.
    """

    clips: Tensor
    mask: Tensor
    known: Tensor
    config: VideoMAEConfig

    @property
    def truth(self) -> Tensor:
        """[clips, hidden, numbers]."""
        return self.of(self.clips)

    def of(self, clips: Tensor) -> Tensor:
        """The hidden patches of other clips of the same shape (or of one that is the same for all of the batch)."""
        return _hidden_patches(clips.expand_as(self.clips), self.mask, self.config)

    @property
    def shown_mean(self) -> Tensor:
        """[clips, 1, 3, side, side], the mean of the pictures before the later half."""
        return self.clips[:, : self.clips.shape[1] // 2].mean(dim=1, keepdim=True)

    def ask(self, model: VideoMAEForPreTraining) -> Tensor:
        """[clips, hidden, numbers], the model's word: how far truth lies from what is known, in units of its choice."""
        logits: Tensor = model(self.clips, bool_masked_pos=self.mask).logits
        return logits


def hide_later(clips: Tensor, config: VideoMAEConfig) -> Hidden:
    """Shows the first half of the pictures [clips, pictures, 3, side, side]."""
    shown, places = clips.shape[1] // 2, _places(config)
    mask = torch.arange(2 * places, device=clips.device).expand(len(clips), -1) >= places
    return Hidden(clips, mask, _hidden_patches(clips[:, shown - 1 : shown].expand_as(clips), mask, config), config)


def hide_places(clips: Tensor, config: VideoMAEConfig, average_face: Tensor, rng: np.random.Generator) -> Hidden:
    """Hides the same random places of all pictures [clips, pictures, 3, side, side]; average_face [3, side, side]."""
    places = _places(config)
    hidden = rng.random((len(clips), places)).argsort(axis=1) < round(HIDDEN_PLACES * places)
    mask = torch.from_numpy(np.tile(hidden, 2)).to(clips.device)
    return Hidden(clips, mask, _hidden_patches(average_face.expand_as(clips), mask, config), config)


def _places(config: VideoMAEConfig) -> int:
    side, patch = _side_and_patch(config)
    return (side // patch) ** 2


def _side_and_patch(config: VideoMAEConfig) -> tuple[int, int]:
    side, patch = config.image_size, config.patch_size
    assert isinstance(side, int)
    assert isinstance(patch, int)
    return side, patch


def _hidden_patches(clips: Tensor, mask: Tensor, config: VideoMAEConfig) -> Tensor:
    """[clips, hidden, numbers] of [clips, pictures, 3, side, side], in the order of VideoMAE's own labels."""
    (side, patch), joined = _side_and_patch(config), config.tubelet_size
    count, pictures, colours = clips.shape[:3]
    cut = clips.reshape(count, pictures // joined, joined, colours, side // patch, patch, side // patch, patch)
    patches = cut.permute(0, 1, 4, 6, 2, 5, 7, 3).flatten(4).flatten(1, 3)
    return patches[mask].view(count, -1, patches.shape[-1])


def begin(model: VideoMAEForPreTraining) -> None:
    """Weights from which a small net learns in minutes what it would else be stuck before for hours.

    Its answer begins as what is known without it. Attention begins as in nets that have learned: a token looks at what
    resembles it and takes that off itself (mimetic initialisation, Trockman and Kolter 2023, arXiv:2305.09828). In the
    decoder a hidden patch first looks at its own place in the half that is shown.
    """
    with torch.no_grad():
        for attention in (part for part in model.modules() if isinstance(part, VideoMAEAttention)):
            _begin_mimetic(attention.attention, attention.output.dense)
        _look_at_own_place(model.get_submodule("decoder.decoder_layers.0.attention.attention"), _places(model.config))
        model.get_parameter("decoder.head.weight").zero_()


def _begin_mimetic(attention: VideoMAESelfAttention, output: nn.Linear) -> None:
    size, head = output.in_features, attention.attention_head_size

    def near_one(scale: float) -> tuple[Tensor, Tensor]:
        """Two matrices whose product is `scale` times (one plus noise of the same size)."""
        u, s, v = torch.linalg.svd(scale * torch.eye(size) + abs(scale) * torch.randn(size, size) / math.sqrt(size))
        return (u * s.sqrt()).T, s.sqrt()[:, None] * v

    for first in range(0, size, head):
        query, key = near_one(_ALIKE)
        attention.query.weight[first : first + head] = query[:head]
        attention.key.weight[first : first + head] = key[:head]
    into, out_of = near_one(-_TAKEN_OFF)
    attention.value.weight.copy_(out_of)
    output.weight.copy_(into.T)


def _look_at_own_place(attention: nn.Module, places: int) -> None:
    """A query at position i meets the key at i - places: VideoMAE's sines and cosines of the position, of which each
    head reads some wavelengths, turned on by that many positions in the key."""
    assert isinstance(attention, VideoMAESelfAttention)
    size, head, heads = attention.query.in_features, attention.attention_head_size, attention.num_attention_heads
    attention.query.weight.zero_()
    attention.key.weight.zero_()
    for pair in range(size // 2):
        row = pair % heads * head + pair // heads * 2
        angle = places * 10_000 ** (-2 * pair / size)
        turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        attention.query.weight[row : row + 2, 2 * pair : 2 * pair + 2] = math.sqrt(_OWN_PLACE) * torch.eye(2)
        attention.key.weight[row : row + 2, 2 * pair : 2 * pair + 2] = math.sqrt(_OWN_PLACE) * turn
