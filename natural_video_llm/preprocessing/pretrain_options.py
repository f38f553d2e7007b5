"""The options of `nvllm pretrain-encoder`, apart from the code that needs libraries, so that --help answers at once."""

import os
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class PretrainOptions:
    """From what, to where, how large and for how long.

    Args:
        sessions: a session folder or a folder of them; at least two people, or two sessions of one.
        out: the folder to write, which then names the encoder.
        window_s: length of a clip in seconds.
        pictures: of a clip, an even number.
        side_px: of the square face crops, a multiple of 8.
        hidden_size: numbers a latent, a multiple of 32.
        layers: of the encoder.
        steps: optimiser steps.
        batch_size: clips a step.
        learning_rate: peak.
        weight_decay: AdamW's.
        test_share: share of people held out (of sessions where there is one person), unless the data marks its own.
        cache_gb: how much disk the face crops may take for as long as it runs; more recordings than that are not used.
        workers: threads that cut out faces.
        device: where to learn, such as cpu or cuda:1; the best one by default.
        seed: of the split, the initial weights and what is drawn.
    """

    sessions: Positional[Path]
    out: Path
    window_s: float = 2.0
    pictures: int = 8
    side_px: int = 64
    hidden_size: int = 128
    layers: int = 4
    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    test_share: float = 0.25
    cache_gb: float = 20.0
    workers: int = os.cpu_count() or 1
    device: str | None = None
    seed: int = 0
