"""Nets run on arrays: the one place that knows devices and precisions."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from natural_video_llm.device import pick_device
from natural_video_llm.errors import UserError, first_line
from natural_video_llm.preprocessing.options import Execution, check_precision

# float32 [n, …] → float32 [n, size]
Runner = Callable[[np.ndarray], np.ndarray]


def make_runner(module: nn.Module, execution: Execution, key: str) -> Runner:
    """`module`, which maps one tensor [n, …] to one tensor [n, size], as a function of arrays.

    Args:
        module: is moved to the device and turned to the precision.
        execution: device, precision, and by whom.
        key: names the net with its weights, so that what is derived from them can be kept.

    Raises:
        UserError: the device is not here, or cannot compute in that precision; ONNX Runtime cannot run the net; when
            run, it overflows.
    """
    if execution.onnx:
        from natural_video_llm.preprocessing.encoders.onnx_runner import make_onnx_runner

        return make_onnx_runner(module, execution, key)
    device, dtype = _device_and_dtype(execution)
    module = module.eval().to(device=device, dtype=dtype)

    @torch.inference_mode()
    def run(batch: np.ndarray) -> np.ndarray:
        found: torch.Tensor = module(torch.from_numpy(np.ascontiguousarray(batch)).to(device, dtype))
        return checked_finite(found.float().cpu().numpy(), execution.dtype)

    return run


def checked_finite(latents: np.ndarray, dtype: str) -> np.ndarray:
    """`latents` as they are; raises `UserError` where one is not finite."""
    if not np.isfinite(latents).all():
        raise UserError(f"the encoder's net gives no finite numbers in {dtype}; choose another precision")
    return latents


def _device_and_dtype(execution: Execution) -> tuple[torch.device, torch.dtype]:
    check_precision(execution.dtype)
    dtype: torch.dtype = getattr(torch, execution.dtype)
    try:
        device = torch.device(execution.device) if execution.device else pick_device()
        unit = torch.ones(8, 8, device=device, dtype=dtype)
        (unit @ unit).float().cpu()
    # PyTorch tells of a backend that it was built without by an AssertionError.
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {execution.device!r} cannot compute in {execution.dtype} here: {first_line(error)}"
        ) from error
    return device, dtype


def to_float16(latents: np.ndarray) -> np.ndarray:
    """As latents are kept; what is too large for that becomes the largest number there is."""
    limit = float(np.finfo(np.float16).max)
    return np.clip(latents, -limit, limit).astype(np.float16)
