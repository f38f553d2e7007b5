"""Convolutions over space and time by torchvision: R3D-18, MC3-18, R(2+1)D-18 (Tran et al. 2018, arXiv:1711.11248).

torchvision is no part of the default installation: its compiled part fits one build of PyTorch only.
"""

import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from natural_video_llm.assets import file_sha256
from natural_video_llm.errors import UserError, first_line
from natural_video_llm.preprocessing.encoders.clip_encoder import ClipEncoder, ClipNet, pictures_per_clip
from natural_video_llm.preprocessing.encoders.picture_rules import PictureRules
from natural_video_llm.preprocessing.encoders.spec import EncoderSpec
from natural_video_llm.preprocessing.options import Execution

# Of torchvision's Kinetics weights.
TRAINED_FRAMES = 16
_LATENT_SIZE = 512


class _ChannelsFirst(nn.Module):
    """[n, time, 3, H, W] → what `net` makes of [n, 3, time, H, W]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.net(clips.transpose(1, 2))
        return found


def make_torchvision_encoder(spec: EncoderSpec, execution: Execution) -> ClipEncoder:
    """Options: those of `ClipEncoder`, and `frames`, pictures a clip.

    Args:
        spec: its weights are a state-dict file, or empty for torchvision's own, trained on Kinetics-400.

    Raises:
        UserError: torchvision cannot be imported, the weights are not to be had or fit another net, or an option has no
            usable value.
    """
    places = pictures_per_clip(spec, default=TRAINED_FRAMES)
    models = _torchvision_models()
    name = spec.kind.replace("-", "_")
    kinetics = models.get_model_weights(name).DEFAULT
    file = Path(spec.weights) if spec.weights else _fetched(kinetics)
    with torch.device("meta"):  # the weights take the place of all that is in it
        net = models.get_model(name, weights=None)
        net.fc = nn.Identity()
    headless = {key: value for key, value in _read(file).items() if not key.startswith("fc.")}
    try:
        net.load_state_dict(headless, assign=True)
    except (RuntimeError, AttributeError) as error:
        raise UserError(f"{file}: not the weights of {spec.kind}; give a state-dict file of that net") from error
    trained = kinetics.transforms()
    side_px = trained.crop_size[0]
    mean, std = np.array(trained.mean, np.float32), np.array(trained.std, np.float32)
    clip_net = ClipNet(
        _ChannelsFirst(net),
        places,
        PictureRules(side_px, (side_px, side_px), 1 / 255, mean, std),
        _LATENT_SIZE,
        file_sha256(file),
        f"mean over time and space of what {spec.kind} gives its classifier of {places} pictures, without unit",
    )
    return ClipEncoder(spec, clip_net, execution)


def _torchvision_models() -> types.ModuleType:
    try:
        from torchvision import models
    # A build for another PyTorch lacks its operators, which shows in many ways.
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torchvision":
            trouble = "torchvision is not installed (the extra `torchvision`)"
        else:
            trouble = f"torchvision does not fit this PyTorch and cannot be imported ({first_line(error)})"
        raise UserError(
            f"{trouble}; install the one that was built with PyTorch {torch.__version__}, from the same index as that "
            "(https://download.pytorch.org/whl/cpu for the CPU build), or choose another encoder"
        ) from error
    return models


def _fetched(kinetics: Any) -> Path:
    """torchvision's own weights in PyTorch's cache, where torchvision looks for them too; downloaded on first use."""
    name = kinetics.url.rsplit("/", 1)[1]
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if file.exists():
        return file
    # The name holds the beginning of the SHA-256: r3d_18-b3b3357e.pth.
    sha256_begins = Path(name).stem.rpartition("-")[2]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(kinetics.url, str(file), hash_prefix=sha256_begins, progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{kinetics.url} could not be downloaded ({first_line(error)}); check the network, put the file at "
            f"{file}, or name a state-dict file"
        ) from error
    return file


def _read(file: Path) -> dict[str, torch.Tensor]:
    remedy = "give a state-dict file (.pt, .pth or .safetensors), or none for torchvision's own weights"
    if not file.is_file():
        raise UserError(f"{file}: no such file; {remedy}")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways
        raise UserError(f"{file}: no readable weights ({first_line(error)}); {remedy}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UserError(f"{file}: holds no state dict; {remedy}")
    return found
