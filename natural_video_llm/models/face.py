"""What the model is given of a face: latents with their times, and the person's own slow neutral."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Face:
    """A batch of stretches of video, as latents.

    Args:
        latents: [batch, frames, latent_size].
        times: [batch, frames] float64, seconds on the clock of the query times.
        present: [batch, frames] bool; False where no face was in view and where a shorter stretch is padded.
    """

    latents: Tensor
    times: Tensor
    present: Tensor

    @classmethod
    def absent(cls, batch: int, latent_size: int, device: torch.device | str = "cpu") -> "Face":
        """No face at all: what a model with a camera knows when nobody is in view."""
        return cls(
            torch.zeros(batch, 0, latent_size, device=device),
            torch.zeros(batch, 0, dtype=torch.float64, device=device),
            torch.zeros(batch, 0, dtype=torch.bool, device=device),
        )

    def part(self, first: int, last: int) -> "Face":
        """Rows [first, last) of the batch."""
        return Face(self.latents[first:last], self.times[first:last], self.present[first:last])

    def to(self, device: torch.device | str) -> "Face":
        return replace(
            self,
            latents=self.latents.to(device),
            times=self.times.to(device),
            present=self.present.to(device),
        )


@dataclass(frozen=True)
class SeenFace:
    """A face after the temporal encoder: encodings [batch, frames, face_size], with the times and presence of its
    latents. One face looked at by many texts is encoded once."""

    encodings: Tensor
    times: Tensor
    present: Tensor

    def rows(self, index: Tensor) -> "SeenFace":
        """The batch made of the faces at `index`, with repetition."""
        return SeenFace(self.encodings[index], self.times[index], self.present[index])


class PersonNeutral:
    """The running mean of one person's latents: how this face is when nothing in particular happens.

    A plain mean over the first `memory_s` seconds in view, an exponential one with that time constant afterwards.
    Causal: what it adds to a frame depends on that frame and earlier ones only, so a stream and a file agree.
    """

    def __init__(self, memory_s: float = 20.0):
        self.memory_s = memory_s
        self._mean: np.ndarray | None = None
        self._seen_s = 0.0
        self._last_s = 0.0

    def extend(self, latents: np.ndarray, times: np.ndarray, present: np.ndarray) -> np.ndarray:
        """[frames, size] -> [frames, 2 * size] float16: each latent as it is, then relative to the neutral so far.

        Frames without a face give zeros; `present` says so to the model.
        """
        out = np.zeros((len(latents), 2 * latents.shape[1]), np.float16)
        for row, (latent, time_s) in enumerate(zip(latents.astype(np.float32), times, strict=True)):
            if present[row]:
                neutral = self._update(latent, float(time_s))
                out[row] = np.concatenate([latent, latent - neutral])
        return out

    def _update(self, latent: np.ndarray, time_s: float) -> np.ndarray:
        if self._mean is None:
            self._mean = latent.copy()
        else:
            # A face that was away for a minute must not count a minute for its first frame back.
            step_s = min(max(time_s - self._last_s, 1e-3), 0.2)
            self._seen_s = min(self._seen_s + step_s, self.memory_s)
            self._mean += (latent - self._mean) * min(step_s / (self._seen_s + step_s), 1.0)
        self._last_s = time_s
        return self._mean
