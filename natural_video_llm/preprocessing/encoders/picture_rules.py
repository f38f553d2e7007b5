"""How a vision model wants its pictures, read from its own processor's settings and done in NumPy.

Most processors of transformers are built on torchvision, which need not be there. Of what they do, only this matters to
a square that is cut at the size they resize to: a centre crop, a scale, a mean and a standard deviation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from natural_video_llm.errors import UserError

# What a processor may do that is not done here.
_NOT_DONE = ("do_flip_channel_order", "do_pad", "offset", "rescale_offset", "crop_pct", "do_grayscale")


@dataclass(frozen=True)
class PictureRules:
    """Squares of pixels → what the model takes.

    Args:
        side_px: of the squares that come in: the size to which the model's own processor resizes.
        crop_px: height and width of the middle part that goes on.
        scale: factor of the pixels' values, 0 to 255.
        mean, std: [3] float32, of the scaled values, red, green and blue.
    """

    side_px: int
    crop_px: tuple[int, int]
    scale: float
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any], name: str, default_side_px: int | None = None
    ) -> "PictureRules":
        """Read the settings of an image or video processor.

        Args:
            settings: as in `preprocessor_config.json`.
            name: the encoder's, for messages.
            default_side_px: where the processor does not resize.

        Raises:
            UserError: the processor does more than this class, or does not make squares.
        """
        more = [step for step in _NOT_DONE if settings.get(step)]
        if more:
            raise UserError(f"encoder {name}: its processor asks for {more[0]}, which is not supported")
        resized = settings.get("size") if settings.get("do_resize", True) else default_side_px
        height, width = _height_width(resized)
        if not height or height != width:
            raise UserError(f"encoder {name}: its processor resizes to {resized}, which is no square")
        crops = settings.get("do_center_crop") and settings.get("crop_size") is not None
        crop = _height_width(settings["crop_size"]) if crops else (height, height)
        if not 0 < min(crop) <= max(crop) <= height:
            raise UserError(f"encoder {name}: its processor cuts {settings['crop_size']} out of {height} pixels")
        normalises = settings.get("do_normalize", True)
        if normalises and not {"image_mean", "image_std"} <= settings.keys():
            raise UserError(f"encoder {name}: its processor's settings lack image_mean or image_std")
        return cls(
            height,
            crop,
            float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0,
            np.array(settings["image_mean"] if normalises else [0, 0, 0], np.float32),
            np.array(settings["image_std"] if normalises else [1, 1, 1], np.float32),
        )

    def __call__(self, squares: np.ndarray) -> np.ndarray:
        """[…, side_px, side_px, 3] uint8 → [… , 3, crop height, crop width] float32."""
        (height, width), side = self.crop_px, self.side_px
        top, left = (side - height) // 2, (side - width) // 2
        middle = squares[..., top : top + height, left : left + width, :].astype(np.float32)
        return np.moveaxis((middle * np.float32(self.scale) - self.mean) / self.std, -1, -3)


def _height_width(size: Any) -> tuple[int, int]:
    """Of a square picture brought to `size`, in any of the forms in which processors write it; 0 for unknown."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping):
        one = size.get("shortest_edge") or size.get("longest_edge") or 0
        return size.get("height", one), size.get("width", one)
    return 0, 0
