"""The processes that train one model together, as `accelerate launch` or `torchrun` started them."""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import FullyShardedDataParallelPlugin, broadcast_object_list
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from natural_video_llm.models.fusion_transformer import decoder_layers

T = TypeVar("T")

# The main process may read data for hours while the others wait.
_PATIENCE = timedelta(hours=12)


class Processes:
    """All processes of a run; each computes its share of every step's batch. One where nothing else was started.

    count, rank: how many there are and which this is, from 0.
    is_main: this is the one that prints and writes.
    shards: an accelerate configuration asks for FSDP.
    """

    def __init__(self) -> None:
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
        self.count, self.rank, self.is_main = state.num_processes, state.process_index, state.is_main_process
        self._state = state
        self.shards = self.count > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"

    def wait(self) -> None:
        """Until all processes have come here."""
        self._state.wait_for_everyone()

    def agreed(self, value: T) -> T:
        """The main process's value, in all."""
        box: list[Any] = [value]
        return broadcast_object_list(box)[0] if self.count > 1 else value

    def take_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Make these tensors what they are in the main process."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), src=0)

    def add(self, figures: Tensor) -> Tensor:
        """The sum over the processes of a tensor without gradient."""
        if self.count > 1:
            distributed.all_reduce(figures)
        return figures

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give each parameter the sum of its gradients; one that has none in any process is left without."""
        if self.count == 1:
            return
        device = parameters[0].device
        has_any = self.add(torch.tensor([float(p.grad is not None) for p in parameters], device=device)) > 0
        chosen = [p for p, some in zip(parameters, has_any.tolist(), strict=True) if some]
        if not chosen:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in chosen])
        for parameter, total in zip(chosen, self.add(flat).split([p.numel() for p in chosen]), strict=True):
            parameter.grad = total.view_as(parameter).to(parameter.dtype)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows [count, size] of all processes one after the other, those of smaller size padded with -1.

        Each process is to put its `count`-th part of one and the same loss upon the result: gradients are summed over
        the processes on their way back.
        """
        if self.count == 1:
            return rows
        shapes = [torch.zeros(2, dtype=torch.long, device=rows.device) for _ in range(self.count)]
        distributed.all_gather(shapes, torch.tensor(rows.shape, device=rows.device))
        counts = [int(shape[0]) for shape in shapes]
        most, widest = max(counts), max(int(shape[1]) for shape in shapes)
        if not most:
            return rows
        padded = nn.functional.pad(rows, (0, widest - rows.shape[1], 0, most - len(rows)), value=-1)
        parts = _Gather.apply(padded, self.rank, self.count)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def shard(self, llm: PreTrainedModel) -> None:
        """Part the weights of the LLM's layers among the processes (FSDP2), as the accelerate configuration says.

        The embeddings and the adapter, which is small, stay whole in each process.
        """
        if not self.shards:
            return
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
        settings = {"reshard_after_forward": plugin.reshard_after_forward, "offload_policy": plugin.cpu_offload}
        layers = decoder_layers(llm)
        inside = {p for layer in layers for p in layer.parameters()}
        for layer in layers:
            fully_shard(layer, **settings)
        fully_shard(llm, **settings, ignored_params=set(llm.parameters()) - inside)


class _Gather(torch.autograd.Function):
    """Tensors of one shape from all processes; gradients come back summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, count: int) -> tuple[Tensor, ...]:
        ctx.rank = rank
        parts = [torch.empty_like(rows) for _ in range(count)]
        distributed.all_gather(parts, rows.contiguous())
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = torch.stack(gradients)
        distributed.all_reduce(total)
        return total[ctx.rank], None, None
