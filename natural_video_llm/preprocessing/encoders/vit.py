"""Frame encoders: any vision transformer of the `transformers` library on the face of each frame."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from natural_video_llm.assets import face_landmarker_file, file_sha256, text_sha256
from natural_video_llm.errors import UserError, first_line
from natural_video_llm.preprocessing.encoders import Encoded, Frame
from natural_video_llm.preprocessing.encoders.face_crop import FaceCropper
from natural_video_llm.preprocessing.encoders.picture_rules import PictureRules
from natural_video_llm.preprocessing.encoders.pretrained import VisionModel, load_vision_model
from natural_video_llm.preprocessing.encoders.runner import make_runner, to_float16
from natural_video_llm.preprocessing.encoders.spec import EncoderSpec
from natural_video_llm.preprocessing.options import Execution

EXAMPLE = "vit:facebook/dinov2-small"

_CLASS_TOKENS = ("cls_token", "class_embedding", "class_token")


class VitEncoder:
    """Pictures → one latent [latent_size] each: what the model says of the upright face crop.

    That is its pooled output where it has a trained one, else its class token, else the mean of its patch tokens.
    With `crop=none` the model sees the whole picture, and a latent is still present only where a face was seen.

    Raises `UserError` where the weights are no model of single pictures, or do not run as `execution` asks.
    """

    needs = "a vision transformer of the Hugging Face Hub or in a folder; the face landmark model (4 MB, fetched once)"
    rate_hz: float | None = None
    window_s = 0.0

    def __init__(self, spec: EncoderSpec, execution: Execution) -> None:
        self.name = str(spec)
        whole_frame = spec.whole_frame
        found = load_vision_model(spec, EXAMPLE)
        side_px = getattr(found.model.config, "image_size", None)
        self._rules = PictureRules.from_settings(found.processor, self.name, side_px)
        task_file = face_landmarker_file()
        self._cropper = FaceCropper(task_file, self._rules.side_px, whole_frame)
        self.weights_sha256 = text_sha256("\n".join([found.sha256, file_sha256(task_file)]))
        says = _PictureToLatent(found, self._rules, self.name)
        self.latent_size = says.size
        self._run = make_runner(says, execution, found.sha256)
        of_what = "whole picture" if whole_frame else "upright face crop"
        self.units = f"{says.output} of a {found.model.config.model_type} model on the {of_what}, without unit"

    def reset(self) -> None:
        """Forgets the face that is being followed."""
        self._cropper.reset()

    def encode(self, frames: Sequence[Frame]) -> Encoded:
        """One latent for each frame."""
        squares, rows = [], []
        faces = np.zeros(len(frames), np.uint8)
        for row, frame in enumerate(frames):
            square, count = self._cropper.crop(frame)
            if square is not None:
                squares.append(square)
                rows.append(row)
                faces[row] = min(count, 255)
        latents = np.zeros((len(frames), self.latent_size), np.float16)
        if squares:
            found = self._run(self._rules(np.stack(squares)))
            latents[rows] = to_float16(found)
        return Encoded(latents, np.array([time_s for time_s, _ in frames], np.float64), faces)


class _PictureToLatent(nn.Module):
    """[n, 3, height, width] → [n, size]; `output` says in words what that is."""

    def __init__(self, found: VisionModel, rules: PictureRules, name: str) -> None:
        super().__init__()
        self.model = found.model
        pooled, tokens = self._tried(rules, name)
        self._pooled = found.trained_pooler and pooled is not None
        own_names = {key.rpartition(".")[2] for key, _ in found.model.named_parameters()}
        self._class_token = not own_names.isdisjoint(_CLASS_TOKENS)
        if not self._pooled and (tokens is None or tokens.ndim != 3):
            raise UserError(f"encoder {name}: the model gives neither a pooled output nor tokens; choose another model")
        self.output = "pooled output" if self._pooled else "class token" if self._class_token else "mean of the patches"
        self.size = (pooled.flatten(1) if self._pooled else tokens).shape[-1]

    def _tried(self, rules: PictureRules, name: str) -> tuple[Any, Any]:
        """Pooled output and tokens of one black picture, None where the model has none."""
        try:
            with torch.inference_mode():
                found = self.model(pixel_values=torch.zeros(1, 3, *rules.crop_px))
        except (ValueError, RuntimeError, TypeError) as error:
            height, width = rules.crop_px
            raise UserError(
                f"encoder {name}: the model does not take the {height}x{width} pixels that its own processor makes: "
                f"{first_line(error)}"
            ) from error
        return getattr(found, "pooler_output", None), getattr(found, "last_hidden_state", None)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found = self.model(pixel_values=pixels)
        if self._pooled:
            return found.pooler_output.flatten(1)
        tokens = found.last_hidden_state
        return tokens[:, 0] if self._class_token else tokens.mean(dim=1)
