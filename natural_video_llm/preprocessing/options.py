"""The options of `nvllm extract` and `nvllm pretrain-encoder`, apart from code that needs libraries, so that --help
answers at once."""

import os
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

DEFAULT_ENCODER = "face-geometry"


@dataclass(frozen=True)
class ExtractOptions:
    """Of what, with which encoder, how.

    Args:
        sessions: a session folder or a folder of them.
        encoder: face-geometry, or kind:weights,option=value (docs/encoders.md lists them).
        workers: processes, each with an encoder of its own.
        watch: go on with every segment that is finished later, also of new sessions, until Ctrl-C.
        device: where a neural encoder runs, such as cpu or cuda:1; the best one by default.
        dtype: its precision: float32, bfloat16 or float16.
        onnx: run it by ONNX Runtime (on a GPU by TensorRT or CUDA, where installed) in PyTorch's place.
    """

    sessions: Positional[Path]
    encoder: str = DEFAULT_ENCODER
    workers: int = os.cpu_count() or 1
    watch: bool = False
    device: str | None = None
    dtype: str = "float32"
    onnx: bool = False


@dataclass(frozen=True)
class PretrainOptions:
    """From what, to where, how large and for how long.

    Args:
        sessions: a session folder or a folder of them; at least two people, or two sessions of one.
        out: the folder to write, which then names the encoder.
        window_s: length of a clip in seconds.
        pictures: of a clip, a multiple of 4.
        side_px: of the square face crops, a multiple of 8.
        hidden_size: numbers a latent, a multiple of 64.
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
    window_s: float = 1.0
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
