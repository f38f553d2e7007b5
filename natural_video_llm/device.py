"""Where to compute and in which precision, chosen from what the machine has."""

import torch


def pick_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    # Apple's MPS has no float64, which times need: there the CPU does the work.
    return torch.device("cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where it is computed in hardware, else float32: emulated bfloat16 is slower than float32."""
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
