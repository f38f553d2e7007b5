"""Linear maps for one token after the other: joined, laid out for the CPU, in eight bits where asked for."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = ("native", "int8", "int4")
_GROUP = 32


class LeanLinear:
    """One linear map, or several that take the same input joined into one; float32 in and out, no gradients.

    On a CPU of x86, weights of 16 bits are laid out once for FBGEMM, which multiplies in float32 while it reads them:
    half the time of oneDNN in bfloat16 for one token, and exact.

    Args:
        modules: linear maps, with or without LoRA, which is added.
        weights: "native" as they are; "int8" with a scale for each output; "int4" with a scale and a zero for each 32
            inputs. Where the shape does not suit the kernel, as they are.

    Raises:
        ValueError: fewer bits on another device than a CPU.
    """

    def __init__(self, modules: Sequence[nn.Module], weights: str):
        parts = [_weight_and_bias(module) for module in modules]
        weight = torch.cat([weight for weight, _ in parts])
        biases = [bias for _, bias in parts if bias is not None]
        bias = torch.cat(biases) if biases else None
        if weights != "native" and weight.device.type != "cpu":
            raise ValueError(f"{weights} weights run on a CPU only")
        make = {"native": _laid_out, "int8": _in_int8, "int4": _in_int4}[weights]
        suits = weight.shape[0] % 64 == 0 and weight.shape[1] % _GROUP == 0
        self._run = (make if suits else _laid_out)(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, inputs] -> [rows, outputs]"""
        return self._run(x)


def _weight_and_bias(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    if isinstance(module, BaseTunerLayer):
        tuned: Any = module
        weight, bias = _weight_and_bias(tuned.get_base_layer())
        learned = sum(tuned.get_delta_weight(name).detach().float() for name in tuned.active_adapters)
        return (weight.float() + learned).to(weight.dtype), bias
    assert isinstance(module, nn.Linear)
    return module.weight.detach(), None if module.bias is None else module.bias.detach()


def _laid_out(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    if not _suits_fbgemm(weight):
        return lambda x: functional.linear(x.to(weight.dtype), weight, bias).float()
    packed = torch.ops.quantized.linear_prepack_fp16(weight.float(), None if bias is None else bias.float())
    return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, packed)


def _suits_fbgemm(weight: Tensor) -> bool:
    """Whether float16 holds the weights: of bfloat16, also if widened to float32, it loses digits below 3e-8 alone."""
    if weight.device.type != "cpu" or torch.backends.quantized.engine not in ("x86", "fbgemm"):
        return False
    return bool((weight.float() - weight.half().float()).abs().max() <= 2**-25)


def _in_int8(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    scale = weight.float().abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    codes = (weight.float() / scale).round().to(torch.int8)
    scales = scale[:, 0].to(weight.dtype)
    return _plus(bias, lambda x: torch._weight_int8pack_mm(x.to(scales.dtype), codes, scales).float())


def _in_int4(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    groups = weight.float().unflatten(1, (-1, _GROUP))
    low, high = groups.aminmax(dim=-1)
    scale = ((high - low) / 15).clamp(min=1e-8)
    codes = ((groups - low[..., None]) / scale[..., None]).round().clamp(0, 15).flatten(1).to(torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    # The kernel takes code 8 for zero.
    scales = torch.stack([scale, low + 8 * scale], dim=-1).transpose(0, 1).to(weight.dtype).contiguous()
    run = torch.ops.aten._weight_int4pack_mm_for_cpu
    return _plus(bias, lambda x: run(x.to(scales.dtype), packed, _GROUP, scales).float())


def _plus(bias: Tensor | None, run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return run if bias is None else lambda x: run(x) + bias
