"""Options about encoders, apart from the code that needs libraries, so that --help answers at once."""

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

DEFAULT_ENCODER = "face-geometry"


@dataclass(frozen=True)
class Execution:
    """How an encoder runs; latents depend on it by rounding only.

    Args:
        device: where a neural encoder runs, such as cpu or cuda:1; the best one by default.
        dtype: its precision: float32, bfloat16 or float16.
        onnx: run it by ONNX Runtime (on a GPU by TensorRT or CUDA, where installed) in PyTorch's place.
    """

    device: str | None = None
    dtype: str = "float32"
    onnx: bool = False


DEFAULT_EXECUTION = Execution()


@dataclass(frozen=True)
class ExtractOptions:
    """Of what, with which encoder, how.

    Args:
        sessions: a session folder or a folder of them.
        encoder: face-geometry, or kind:weights,option=value (docs/encoders.md lists them).
        workers: processes, each with an encoder of its own; one for each core by default.
        watch: go on with every segment that is finished later, also of new sessions, until Ctrl-C.
        execution: device, precision, runtime.
        ray: the Ray cluster that does it: auto or HOST:6379 on one of its machines, or local for one that is
            started here. All machines must have this package, and the sessions at the same path.
    """

    sessions: Positional[Path]
    encoder: str = DEFAULT_ENCODER
    workers: int | None = None
    watch: bool = False
    execution: Execution = field(default_factory=Execution)
    ray: str | None = None
