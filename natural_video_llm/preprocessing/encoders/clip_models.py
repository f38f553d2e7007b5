"""Clip encoders of the `transformers` library, without their heads and decoders.

TimeSformer (Bertasius et al. 2021, arXiv:2102.05095), VideoMAE (Tong et al. 2022, arXiv:2203.12602) and V-JEPA 2
(Assran et al. 2025, arXiv:2506.09985).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders.clip_encoder import ClipEncoder, ClipNet, pictures_per_clip
from natural_video_llm.preprocessing.encoders.picture_rules import PictureRules
from natural_video_llm.preprocessing.encoders.pretrained import load_vision_model
from natural_video_llm.preprocessing.encoders.spec import EncoderSpec
from natural_video_llm.preprocessing.options import Execution


@dataclass(frozen=True)
class _Family:
    """What differs from one family to the next.

    Args:
        example: a specification that works.
        side, frames: what the model's configuration calls the side of a picture and the pictures of a clip.
        class_token: its first token speaks for the clip; else the mean of all tokens does.
        tower: the part of the model that sees; empty where all of it does.
    """

    example: str
    side: str
    frames: str
    class_token: bool
    tower: str = ""


_FAMILIES = {
    "timesformer": _Family("timesformer:facebook/timesformer-base-finetuned-k400", "image_size", "num_frames", True),
    "videomae": _Family("videomae:MCG-NJU/videomae-base", "image_size", "num_frames", False),
    # The predictor serves training alone.
    "vjepa2": _Family("vjepa2:facebook/vjepa2-vitl-fpc64-256", "crop_size", "frames_per_clip", False, "encoder"),
}


class _ClipToLatent(nn.Module):
    """[n, pictures, 3, side, side] → [n, size]."""

    def __init__(self, tower: nn.Module, class_token: bool) -> None:
        super().__init__()
        self.tower, self._class_token = tower, class_token

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.tower(clips).last_hidden_state
        return tokens[:, 0] if self._class_token else tokens.mean(dim=1)


def make_clip_model_encoder(spec: EncoderSpec, execution: Execution) -> ClipEncoder:
    """Options: those of `ClipEncoder`; of vjepa2 also `frames`, pictures a clip, where it shall not be as many as the
    model was trained on.

    Args:
        spec: its weights are a folder or a Hub id.

    Raises:
        UserError: the weights are not to be had or of another family, the model's own settings do not fit each other,
            or an option has no usable value.
    """
    family = _FAMILIES[spec.kind]
    found = load_vision_model(spec, family.example, {spec.kind})
    config = found.model.config
    rules = PictureRules.from_settings(found.processor, str(spec), getattr(config, family.side))
    places = pictures_per_clip(spec, default=getattr(config, family.frames))
    _check_fits(spec, config, rules, getattr(config, family.side), places)
    what = "class token" if family.class_token else "mean of the tokens"
    net = ClipNet(
        _ClipToLatent(found.model.get_submodule(family.tower), family.class_token),
        places,
        rules,
        config.hidden_size,
        found.sha256,
        f"{what} of a {spec.kind} model on {places} pictures, without unit",
    )
    return ClipEncoder(spec, net, execution)


def _check_fits(spec: EncoderSpec, config: PreTrainedConfig, rules: PictureRules, side: Any, places: int) -> None:
    height, width = (side, side) if isinstance(side, int) else side
    if rules.crop_px != (height, width):
        made = "x".join(map(str, rules.crop_px))
        raise UserError(
            f"encoder {spec}: its processor makes pictures of {made} pixels, the model takes {height}x{width}"
        )
    # A net that joins pictures two by two would leave the newest one out.
    together = getattr(config, "tubelet_size", 1)
    if places % together:
        raise UserError(
            f"encoder {spec}: the model takes pictures {together} at a time, {places} is no multiple of that"
        )
    if getattr(config, "attention_type", None) == "space_only":
        raise UserError(f"encoder {spec}: this model (attention_type space_only) sees one picture at a time, no clips")
