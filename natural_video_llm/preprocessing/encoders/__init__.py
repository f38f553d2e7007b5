"""Encoders: pictures → latents, one for each picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from natural_video_llm.errors import UserError

ENCODER_NAMES = ("face-geometry",)


class Encoder(Protocol):
    """Pictures in the order of their capture → one latent each; the state holds nothing but the past."""

    name: str
    latent_size: int
    units: str
    weights_sha256: str

    def reset(self) -> None:
        """Forgets the past; the next picture is the first one."""

    def encode(self, rgb: np.ndarray, time_s: float) -> np.ndarray | None:
        """Latent [latent_size] float16 of `rgb` [H, W, 3] uint8 taken at `time_s`; None where no face is."""


def make_encoder(name: str, weights: Path) -> Encoder:
    """The encoder called `name`, with its weights from a file.

    Raises `UserError` where the name is unknown or the file unusable.
    """
    if name == "face-geometry":
        from natural_video_llm.preprocessing.encoders.face_geometry import FaceGeometryEncoder

        return FaceGeometryEncoder(weights)
    raise UserError(f"unknown encoder {name!r}: choose one of {', '.join(ENCODER_NAMES)}")


def mirror_of(name: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """What turns latents [..., latent_size] of the encoder `name` into those of the same faces seen in a mirror; None
    where latents cannot be mirrored."""
    if name == "face-geometry":
        from natural_video_llm.preprocessing.encoders.face_geometry import mirror_latent

        return mirror_latent
    return None
