"""Makes torchvision importable in a process of its own, as a plugin that pytest loads before all else.

Where its compiled part was built for another PyTorch, the two operators that its Python part asks for on import are
declared here, without code: the nets on video use none of them.
"""

import importlib.util
from pathlib import Path

import torch

FOUND = importlib.util.find_spec("torchvision")
assert FOUND is not None
assert FOUND.origin is not None
DECLARED = torch.library.Library("torchvision", "FRAGMENT")
try:
    torch.ops.load_library(Path(FOUND.origin).with_name("_C.so"))
except OSError:
    for operator in ("nms", "qnms"):
        DECLARED.define(f"{operator}(Tensor boxes, Tensor scores, float overlap) -> Tensor")
