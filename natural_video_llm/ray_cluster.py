"""A Ray cluster of this machine's own, quiet and closed to others; shared by all that runs on Ray."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from natural_video_llm.errors import UserError

# What travels is small: nothing needs much shared memory. Ray takes a third of the machine's otherwise.
_OBJECT_STORE_BYTES = 100_000_000


def prepare_ray(own_cluster: bool) -> None:
    """To be called before Ray is imported: no usage reports, no chatter, and for a cluster of our own a token."""
    # Read when Ray is imported, also by the processes that it starts.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if own_cluster:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."  # what it tells on stdout of workers that died


def no_ray(option: str, error: ImportError) -> UserError:
    """What to say where Ray cannot be imported."""
    return UserError(f"{option} needs the extra scale ({error}); install it: pip install 'natural-video-llm[scale]'")


def short_folder() -> str | None:
    # Ray's sockets lie in it, and the path of a socket may have about a hundred characters.
    return "/tmp" if Path("/tmp").is_dir() else None


def cluster_here(cpus: int, logs: str) -> dict[str, Any]:
    """Options of `ray.init` for a cluster that listens on this machine alone."""
    return {
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": logs,
    }


@contextmanager
def stderr_into(file: Path) -> Iterator[None]:
    """Ray's libraries say there which log level they were told to keep to."""
    sys.stderr.flush()
    before, there = os.dup(2), os.open(file, os.O_WRONLY | os.O_CREAT)
    os.dup2(there, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(there)
