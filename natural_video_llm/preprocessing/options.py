"""Options about encoders, apart from the code that needs libraries, so that --help answers at once."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

from natural_video_llm.errors import UserError

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

_PRECISIONS = ("float32", "bfloat16", "float16")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")


def check_precision(dtype: str) -> None:
    if dtype not in _PRECISIONS:
        raise UserError(f"unknown precision {dtype!r}: choose one of {', '.join(_PRECISIONS)}")


def check_names(execution: Execution) -> None:
    """Raise `UserError` for a precision or device that no machine has, where no net is there to find it out."""
    check_precision(execution.dtype)
    if execution.device is not None and not _DEVICE.fullmatch(execution.device):
        raise UserError(f"unknown device {execution.device!r}: choose cpu, cuda or cuda:1, or leave --device out")


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
