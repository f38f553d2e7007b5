"""Video with parts hidden, to be told from the rest: what is asked, what is known without a net, and how far off it is.

After VideoMAE (Tong et al. 2022, arXiv:2203.12602), which hides the same random places of all pictures. Here every
other batch hides the later half of the pictures instead, so that what a face does next has to be learned as well; and
the net says by how much the hidden pixels differ from the best that is known without it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEForPreTraining

HIDDEN_PLACES = 0.75


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
    pictures, shown = clips.shape[1], clips.shape[1] // 2
    mask = torch.zeros(len(clips), pictures, _places(config), dtype=torch.bool, device=clips.device)
    mask[:, shown:] = True
    mask = mask[:, :: config.tubelet_size].flatten(1)
    return Hidden(clips, mask, _hidden_patches(clips[:, shown - 1 : shown].expand_as(clips), mask, config), config)


def hide_places(clips: Tensor, config: VideoMAEConfig, average_face: Tensor, rng: np.random.Generator) -> Hidden:
    """Hides the same random places of all pictures [clips, pictures, 3, side, side]; average_face [3, side, side]."""
    places = _places(config)
    hidden = rng.random((len(clips), places)).argsort(axis=1) < round(HIDDEN_PLACES * places)
    mask = torch.from_numpy(np.tile(hidden, config.num_frames // config.tubelet_size)).to(clips.device)
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
