"""What encoders of clips have in common: face crops, the sliding window, batches through a net."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from natural_video_llm.assets import face_landmarker_file, file_sha256, text_sha256
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoded, Frame
from natural_video_llm.preprocessing.encoders.clip_window import Clip, ClipWindow
from natural_video_llm.preprocessing.encoders.face_crop import FaceCropper
from natural_video_llm.preprocessing.encoders.picture_rules import PictureRules
from natural_video_llm.preprocessing.encoders.runner import make_runner, to_float16
from natural_video_llm.preprocessing.encoders.spec import EncoderSpec
from natural_video_llm.preprocessing.options import Execution

# The options of every clip encoder with their defaults are in `encoders._KINDS`; this stands for the net's own number.
FRAMES_OF_MODEL = "model"

# What goes through the net at once: sixteen clips of eight pictures, or two of sixty-four.
_BATCH_PICTURES = 128


@dataclass(frozen=True)
class ClipNet:
    """A net on clips, without its head.

    Args:
        module: [n, places, 3, height, width] → [n, latent_size].
        places: pictures a clip.
        rules: how the net wants its pictures.
        latent_size: numbers a clip.
        sha256: of its weights.
        units: what the numbers mean.
    """

    module: nn.Module
    places: int
    rules: PictureRules
    latent_size: int
    sha256: str
    units: str


class ClipEncoder:
    """Pictures → one latent for each `stride_s` seconds, made of the `window_s` before it.

    Options of the specification: `crop` (face, or none for the whole picture), `window_s`, `stride_s`.

    Raises `UserError` where an option has no usable value, the device is not here or the face model is unusable.
    """

    needs = "a video model of the Hugging Face Hub, of torchvision or in a file; the face landmark model (4 MB)"

    def __init__(self, spec: EncoderSpec, net: ClipNet, execution: Execution) -> None:
        whole_frame = spec.whole_frame
        self.window_s, stride_s = spec.number("window_s"), spec.number("stride_s")
        self.rate_hz: float | None = 1 / stride_s
        self.name, self.latent_size = str(spec), net.latent_size
        self.units = f"{net.units}; {'whole pictures' if whole_frame else 'upright face crops'}"
        face_model = face_landmarker_file()
        self.weights_sha256 = text_sha256("\n".join([net.sha256, file_sha256(face_model)]))
        self._window = ClipWindow(net.places, self.window_s, stride_s)
        self._cropper = FaceCropper(face_model, net.rules.side_px, whole_frame)
        self._rules, self._run = net.rules, make_runner(net.module, execution, net.sha256)
        self._clips_at_once = max(1, _BATCH_PICTURES // net.places)

    def reset(self) -> None:
        """Forgets the pictures and the face that is being followed."""
        self._window.reset()
        self._cropper.reset()

    def encode(self, frames: Sequence[Frame]) -> Encoded:
        """The latents of the clips that became due, through the net in few batches."""
        clips: list[Clip] = []
        for frame in frames:
            clip = self._window.add(frame[0], *self._cropper.crop(frame))
            if clip is not None:
                clips.append(clip)
        latents = np.zeros((len(clips), self.latent_size), np.float16)
        seen = [row for row, clip in enumerate(clips) if clip.pictures]
        for first in range(0, len(seen), self._clips_at_once):
            rows = seen[first : first + self._clips_at_once]
            found = self._run(self._rules(np.array([clips[row].pictures for row in rows])))
            latents[rows] = to_float16(found)
        faces = np.array([min(clip.faces, 255) for clip in clips], np.uint8)
        return Encoded(latents, np.array([clip.time_s for clip in clips], np.float64), faces)


def pictures_per_clip(spec: EncoderSpec, default: int) -> int:
    """The option `frames`, `default` where the kind has no such option or it says `model`.

    Raises:
        UserError: it is no whole number above zero.
    """
    given = spec.options.get("frames", FRAMES_OF_MODEL)
    if given == FRAMES_OF_MODEL:
        return default
    if not spec.number("frames").is_integer():
        raise UserError(f"encoder {spec}: frames must be a whole number, not {given!r}")
    return int(spec.number("frames"))
