"""A latents file as its header and its arrays, so that it can be put together again byte by byte."""

import json
from pathlib import Path

import numpy as np

from natural_video_llm.errors import UserError

# As `sessions.latents` writes them.
ARRAYS = ("latents", "times", "present")


def read_header(path: Path) -> str:
    """The safetensors header, JSON as it stands in the file.

    Raises:
        UserError: the file cannot be read or holds other arrays than latents, times and present.
    """
    try:
        with path.open("rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little")).decode()
        names = set(json.loads(header)) - {"__metadata__"}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no readable latents ({error}); delete it and run nvllm extract again") from error
    if names != set(ARRAYS):
        raise UserError(f"{path}: holds {', '.join(sorted(names))}; only {', '.join(ARRAYS)} can be exported")
    return header


def put_together(header: str, arrays: dict[str, np.ndarray]) -> bytes:
    """The file's bytes; `arrays` holds each of ARRAYS, which are given the types that the header names.

    Raises:
        ValueError: the arrays are not those of the header.
    """
    entries = json.loads(header)
    types = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "BOOL": np.bool_}
    content = len(header.encode()).to_bytes(8, "little") + header.encode()
    for name in sorted(ARRAYS, key=lambda name: entries[name]["data_offsets"]):
        entry = entries[name]
        content += arrays[name].astype(types[entry["dtype"]], copy=False).reshape(entry["shape"]).tobytes()
    return content


def metadata_of(header: str) -> dict[str, str]:
    return json.loads(header)["__metadata__"]
