"""Linear maps for one token after the other: joined, laid out for the CPU, in eight bits where asked for."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = ("native", "int8", "int4")
_GROUP = 32
_LIKELIEST = 64
_ROWS = 8  # oneDNN keeps a program for each number of rows that it has seen: they come in eights


class LeanLinear:
    """One linear map, or several that take the same input joined into one; no gradients.

    On a CPU with bfloat16, oneDNN reads weights in blocks of its own nearly twice as fast as rows, and gives the same
    bits: there they are laid out so once.

    Args:
        modules: linear maps, with or without LoRA, which is added.
        weights: "native" as they are; "int8" with a scale for each output; "int4" with a scale and a zero for each 32
            inputs. Inputs keep their precision. Where the shape does not suit the kernel, as they are.

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


class LeanHead:
    """The map to the logits: those of the likeliest words in float32, which costs next to nothing.

    Where logits lie, bfloat16 has steps of an eighth; words that differ by less would tie.

    Args:
        module, weights: as for `LeanLinear`; the likeliest words' logits are of the weights as they are.
    """

    def __init__(self, module: nn.Module, weights: str):
        self._rough = LeanLinear([module], weights)
        self._weight, self._bias = _weight_and_bias(module)

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, inputs] float32 -> [rows, vocabulary] float32"""
        logits = self._rough(x.to(self._weight.dtype)).float()
        likeliest = logits.topk(min(_LIKELIEST, logits.shape[1])).indices.flatten()
        bias = None if self._bias is None else self._bias[likeliest].float()
        logits[:, likeliest] = functional.linear(x, self._weight[likeliest].float(), bias)
        return logits


def _weight_and_bias(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    if isinstance(module, BaseTunerLayer):
        tuned: Any = module
        weight, bias = _weight_and_bias(tuned.get_base_layer())
        learned = sum(tuned.get_delta_weight(name).detach().float() for name in tuned.active_adapters)
        return (weight.float() + learned).to(weight.dtype), bias
    assert isinstance(module, nn.Linear)
    return module.weight.detach(), None if module.bias is None else module.bias.detach()


def _laid_out(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not _has_blocks():
        return lambda x: functional.linear(x, weight, bias)
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight, 1)

    def run(x: Tensor) -> Tensor:
        rows = len(x)
        missing = -rows % _ROWS if rows > 2 else 0
        padded = functional.pad(x, (0, 0, 0, missing)) if missing else x
        return torch.ops.mkldnn._linear_pointwise(padded, blocks, bias, "none", [], "")[:rows]

    return run


def _has_blocks() -> bool:
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _in_int8(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    scale = weight.float().abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    codes = (weight.float() / scale).round().to(torch.int8)
    scales = scale[:, 0].to(weight.dtype)
    return _plus(bias, lambda x: torch._weight_int8pack_mm(x, codes, scales))


def _in_int4(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    groups = weight.float().unflatten(1, (-1, _GROUP))
    low, high = groups.aminmax(dim=-1)
    scale = ((high - low) / 15).clamp(min=1e-8)
    codes = ((groups - low[..., None]) / scale[..., None]).round().clamp(0, 15).flatten(1).to(torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    # The kernel takes code 8 for zero.
    scales = torch.stack([scale, low + 8 * scale], dim=-1).transpose(0, 1).to(weight.dtype).contiguous()
    return _plus(bias, lambda x: torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, _GROUP, scales))


def _plus(bias: Tensor | None, run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return run if bias is None else lambda x: run(x) + bias
