"""An encoder as somebody may write one, which takes a known while."""

import time
from collections.abc import Sequence

import numpy as np

from natural_video_llm.preprocessing.encoders import Encoded, Frame
from natural_video_llm.preprocessing.encoders.clip_window import ClipWindow


class OwnEncoder:
    """The brightness of a picture, `took_s` seconds later; of clips, where a stride in seconds is given."""

    latent_size, units, needs, weights_sha256 = 1, "brightness", "patience", "0" * 64

    def __init__(self, took_s: float, stride_s: float | None = None) -> None:
        self.name, self.rate_hz = "own", None if stride_s is None else 1 / stride_s
        self.window_s = stride_s or 0.0
        self._took_s, self._window = took_s, ClipWindow(2, stride_s or 1.0, stride_s or 1e-4)

    def reset(self) -> None:
        self._window.reset()

    def encode(self, frames: Sequence[Frame]) -> Encoded:
        clips = [clip for time_s, rgb in frames if (clip := self._window.add(time_s, rgb, 1)) is not None]
        time.sleep(self._took_s * len(clips))
        latents = np.array([[clip.pictures[-1].mean() / 255] for clip in clips], np.float16).reshape(-1, 1)
        return Encoded(latents, np.array([clip.time_s for clip in clips]), np.ones(len(clips), np.uint8))
