"""Encodings of the last while of one face: each latent is encoded once, and none is kept for ever."""

import threading

import numpy as np
import torch

from natural_video_llm.models.face import Face, SeenFace
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM

# What was typed before may be read late: its tokens look at the face as it was then.
KEEP_S = 60.0
_ENCODE_FROM = 16  # so many new latents are worth a call
_MOST_WAITING = 512


class FaceRing:
    """Latents come in from any thread; encodings come out in the thread that computes.

    The temporal encoder is causal and bounded: a new frame's encoding needs the latents of the last `memory_s` seconds
    and leaves those of earlier frames as they are. So new frames are encoded together, as late as possible.
    """

    def __init__(self, model: NaturalVideoLLM, keep_s: float = KEEP_S):
        self._model, self._keep_s = model, max(keep_s, model.config.window_s)
        self._device = model.absence.device
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, np.ndarray, bool]] = []
        self._past: list[tuple[float, np.ndarray, bool]] = []  # what the next encodings depend on
        self._times_s = np.zeros(0)
        nothing = Face.absent(1, model.config.latent_size, self._device)
        self._seen = SeenFace(nothing.latents.new_zeros(1, 0, model.config.face_size), nothing.times, nothing.present)
        self._part: tuple[tuple[int, int], SeenFace] | None = None

    def add(self, time_s: float, latent: np.ndarray, present: bool) -> bool:
        """Take latent [latent_size], later than any before; True where it is time to `encode`."""
        with self._lock:
            self._waiting.append((time_s, latent, present))
            del self._waiting[:-_MOST_WAITING]
            return len(self._waiting) >= _ENCODE_FROM

    @property
    def latent_size(self) -> int:
        return self._model.config.latent_size

    @property
    def newest_s(self) -> float:
        """The time of the newest encoded frame; -inf where there is none."""
        return float(self._times_s[-1]) if len(self._times_s) else -np.inf

    @torch.no_grad()
    def encode(self) -> None:
        """Encode what is new, and forget what is too old."""
        with self._lock:
            new, self._waiting = self._waiting, []
        if not new:
            return
        oldest_s = new[0][0] - self._model.temporal_encoder.memory_s
        rows = [row for row in self._past if row[0] > oldest_s] + new
        face = Face(
            torch.from_numpy(np.stack([row[1] for row in rows]))[None],
            torch.tensor([[row[0] for row in rows]], dtype=torch.float64),
            torch.tensor([[row[2] for row in rows]], dtype=torch.bool),
        ).to(self._device)
        encoded = self._model.encode(face)
        keep_from_s = new[-1][0] - self._keep_s
        first = int(np.searchsorted(self._times_s, keep_from_s))
        added = len(rows) - len(new)
        self._seen = SeenFace(
            *(
                torch.cat([old[:, first:], now[:, added:]], dim=1)
                for old, now in (
                    (self._seen.encodings, encoded.encodings),
                    (self._seen.times, encoded.times),
                    (self._seen.present, encoded.present),
                )
            )
        )
        self._times_s = self._seen.times[0].cpu().numpy()
        still_s = new[-1][0] - self._model.temporal_encoder.memory_s
        self._past, self._part = [row for row in rows if row[0] > still_s], None

    def seen(self, first_s: float, last_s: float) -> SeenFace:
        """The face as tokens with query times from `first_s` to `last_s` see it; the same object until it changes."""
        self.encode()
        first = int(np.searchsorted(self._times_s, first_s - self._model.config.window_s, side="right"))
        last = int(np.searchsorted(self._times_s, last_s, side="right"))
        if self._part is None or self._part[0] != (first, last):
            part = SeenFace(
                self._seen.encodings[:, first:last], self._seen.times[:, first:last], self._seen.present[:, first:last]
            )
            self._part = (first, last), part
        return self._part[1]
