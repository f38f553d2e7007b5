"""`nvllm` twice in each of the processes that a launcher starts: as it is, then with FSDP, into two run folders.

Usage: torchrun --nproc-per-node 2 two_processes.py RUN FSDP_RUN train …
"""

import os
import sys

from torch.distributed.tensor import DTensor
from train_points import add_points
from transformers import PreTrainedModel

from natural_video_llm.cli import main
from natural_video_llm.training.processes import Processes

_shard = Processes.shard


def _checked(self: Processes, llm: PreTrainedModel) -> None:
    """No process may hold the whole LLM where it is to be parted."""
    _shard(self, llm)
    layers = [p for name, p in llm.named_parameters() if ".layers." in name]
    assert layers
    assert all(isinstance(p, DTensor) == self.shards for p in layers)
    if self.shards:
        assert all(2 * p.to_local().numel() == p.numel() for p in layers if p.shape[0] % 2 == 0)


if __name__ == "__main__":
    add_points()
    Processes.shard = _checked
    run, fsdp_run = sys.argv[1:3]
    arguments = ["nvllm", *sys.argv[3:]]
    sys.argv = [*arguments, "--out", run]
    main()
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    sys.argv = [*arguments, "--out", fsdp_run]
    main()
