"""Encoders: frames with their times → latents with theirs. A new encoder is one file and one line in `_KINDS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders.spec import EncoderSpec
from natural_video_llm.preprocessing.options import Execution, check_names
from natural_video_llm.sessions.latents import Latents

# (capture time in seconds, rgb [H, W, 3] uint8)
Frame = tuple[float, np.ndarray]


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of some frames.

    Args:
        latents: [n, latent_size] float16; zeros where no face was there.
        times: [n] float64 seconds, rising: the newest moment that each latent has seen.
        faces: [n] uint8, how many faces were in view when they were last counted; 0 where the latent shows none.
    """

    latents: np.ndarray
    times: np.ndarray
    faces: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """[n] bool, a face was there."""
        return self.faces > 0

    @classmethod
    def join(cls, parts: Sequence["Encoded"], latent_size: int) -> "Encoded":
        """The parts one after the other; none give an empty one."""
        return cls(
            np.concatenate([np.zeros((0, latent_size), np.float16), *(part.latents for part in parts)]),
            np.concatenate([np.zeros(0), *(part.times for part in parts)]),
            np.concatenate([np.zeros(0, np.uint8), *(part.faces for part in parts)]),
        )


class Encoder(Protocol):
    """Frames in the order of their capture → latents; the state holds nothing but the past.

    name: the specification in its one canonical form, which latents, aligned data and checkpoints carry.
    latent_size: numbers a latent.
    units: what they mean, in a sentence.
    needs: what has to be on the machine, in a sentence.
    weights_sha256: of all weights that a latent depends on.
    rate_hz: latents a second; None where each frame gives one.
    window_s: how much video before its time a latent sees; 0 where it sees one picture.
    """

    name: str
    latent_size: int
    units: str
    needs: str
    weights_sha256: str
    rate_hz: float | None
    window_s: float

    def reset(self) -> None:
        """Forgets the past; the next frame is the first one."""

    def encode(self, frames: Sequence[Frame]) -> Encoded:
        """The latents that became due with these frames, maybe none.

        How frames are cut into calls changes nothing but the last bits: a live camera passes one at a time, a file
        many.

        Raises:
            ValueError: a picture is no [H, W, 3] uint8.
        """


def latents_of(encoder: Encoder, parts: Sequence[Encoded]) -> Latents:
    """What `encoder` made of one segment, part by part, as it is stored."""
    found = Encoded.join(parts, encoder.latent_size)
    return Latents(
        found.latents,
        found.times,
        found.present,
        encoder.name,
        encoder.weights_sha256,
        encoder.units,
        crowded=int((found.faces > 1).sum()),
    )


@dataclass(frozen=True)
class _Kind:
    """What `kind` in `kind:weights,option=value` stands for."""

    make: Callable[[EncoderSpec, Execution], Encoder]
    options: dict[str, str] = field(default_factory=dict)


def _face_geometry(spec: EncoderSpec, execution: Execution) -> Encoder:
    from natural_video_llm.preprocessing.encoders.face_geometry import FaceGeometryEncoder

    check_names(execution)  # it is the same on all machines, so nothing else reads them
    return FaceGeometryEncoder(spec)


def _vit(spec: EncoderSpec, execution: Execution) -> Encoder:
    from natural_video_llm.preprocessing.encoders.vit import VitEncoder

    return VitEncoder(spec, execution)


def _clip_model(spec: EncoderSpec, execution: Execution) -> Encoder:
    from natural_video_llm.preprocessing.encoders.clip_models import make_clip_model_encoder

    return make_clip_model_encoder(spec, execution)


def _torchvision_clips(spec: EncoderSpec, execution: Execution) -> Encoder:
    from natural_video_llm.preprocessing.encoders.torchvision_clips import make_torchvision_encoder

    return make_torchvision_encoder(spec, execution)


_CLIP_OPTIONS = {"crop": "face", "window_s": "1.0", "stride_s": "0.25"}
_KINDS = {
    "face-geometry": _Kind(_face_geometry),
    "vit": _Kind(_vit, {"crop": "face"}),
    "timesformer": _Kind(_clip_model, _CLIP_OPTIONS),
    "videomae": _Kind(_clip_model, _CLIP_OPTIONS),
    "vjepa2": _Kind(_clip_model, {**_CLIP_OPTIONS, "frames": "model"}),
    "r3d-18": _Kind(_torchvision_clips, {**_CLIP_OPTIONS, "frames": "model"}),
    "mc3-18": _Kind(_torchvision_clips, {**_CLIP_OPTIONS, "frames": "model"}),
    "r2plus1d-18": _Kind(_torchvision_clips, {**_CLIP_OPTIONS, "frames": "model"}),
}
ENCODER_KINDS = tuple(_KINDS)


def make_encoder(name: str, execution: Execution | None = None, sha256: str | None = None) -> Encoder:
    """The encoder that `name` specifies: `kind`, `kind:weights` or `kind:weights,option=value,…`.

    Args:
        name: weights are a file, a folder or a Hub id; where they are left out, the kind's default.
        execution: how it runs.
        sha256: the weights that it must have, where latents or a checkpoint depend on them.

    Raises:
        UserError: the name is no specification, its weights are not to be had or of another kind, or not those of
            `sha256`.
    """
    encoder = _KINDS[parse_encoder(name).kind].make(parse_encoder(name), execution or Execution())
    if sha256 is not None and encoder.weights_sha256 != sha256:
        raise UserError(
            f"encoder {name}: its weights have SHA-256 {encoder.weights_sha256[:12]}, {sha256[:12]} is needed; fetch "
            "the same weights, or extract, align and train again"
        )
    return encoder


def parse_encoder(name: str) -> EncoderSpec:
    """Raises `UserError` where `name` is no specification of a known kind of encoder."""
    return EncoderSpec.parse(name, {kind: known.options for kind, known in _KINDS.items()})


def mirror_of(name: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """What turns latents [..., latent_size] of the encoder `name` into those of the same faces seen in a mirror; None
    where latents cannot be mirrored."""
    if parse_encoder(name).kind == "face-geometry":
        from natural_video_llm.preprocessing.encoders.face_geometry import mirror_latent

        return mirror_latent
    return None


def pose_numbers_of(name: str) -> int:
    """How many of the last numbers of a latent of the encoder `name` are the head's pose; 0 where that is unknown."""
    if parse_encoder(name).kind == "face-geometry":
        from natural_video_llm.preprocessing.encoders.face_geometry import POSE_SIZE

        return POSE_SIZE
    return 0
