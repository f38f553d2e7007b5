"""LoRA (Hu et al. 2021, through peft) on a base LLM: put on, switched off, merged, taken away."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


def add_lora(llm: PreTrainedModel, rank: int, layers: Iterable[nn.Module]) -> None:
    """Put LoRA on every linear map of `layers`, kept in float32."""
    inside = {id(module) for layer in layers for module in layer.modules()}
    linear = {
        name: module
        for name, module in llm.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D)
    }
    is_transposed = any(isinstance(module, Conv1D) for module in linear.values())
    own = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(linear), fan_in_fan_out=is_transposed)
    inject_adapter_in_model(own, llm)
    for name, parameter in llm.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


@contextmanager
def lora_enabled(llm: PreTrainedModel, enabled: bool) -> Iterator[None]:
    """Let LoRA count, or let it not."""
    for module in _tuned(llm):
        module._disable_adapters = not enabled
    yield


def merge_lora(llm: PreTrainedModel) -> None:
    """Add LoRA's products to the weights beneath, and take it away."""
    for module in _tuned(llm):
        module.merge(safe_merge=True)
    remove_lora(llm)


def remove_lora(llm: PreTrainedModel) -> None:
    """Take LoRA away, whatever it has learned."""
    for parent in list(llm.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BaseTunerLayer):
                setattr(parent, name, child.get_base_layer())
    llm.__dict__.pop("peft_config", None)


def _tuned(llm: PreTrainedModel) -> list[BaseTunerLayer]:
    return [module for module in llm.modules() if isinstance(module, BaseTunerLayer)]
