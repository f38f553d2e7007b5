"""What this machine has, and which encoders keep up with live video on it."""

import os
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from natural_video_llm.assets import cache_dir, model_files
from natural_video_llm.capture.camera_source import camera_names, find_source
from natural_video_llm.device import pick_device
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import make_encoder, parse_encoder
from natural_video_llm.preprocessing.encoders.real_time import measure_real_time
from natural_video_llm.preprocessing.options import Execution

_PACKAGE = "natural-video-llm"
_DEFAULT_ENCODER = "face-geometry"
_CAMERAS = 4
_VIDEO_S, _AT_MOST_S = 3.0, 4.0
_NO_CAMERA = (
    "none gives a picture, as on a server; else plug one in, close what uses it, see that it may be read, "
    "or give a file: --video-source FILE, --video FILE"
)


def examine(encoders: Sequence[str], execution: Execution, report: Callable[[str], None]) -> dict[str, Any]:
    """Everything that `nvllm doctor` tells, as JSON takes it; `broken` lists what stands in the way of work.

    The default encoder and `encoders` are timed on a portrait. Fetches the face model, as the default encoder needs
    it, and nothing else.

    Args:
        encoders: specifications.
        execution: how they run.
        report: is told what is being done.

    Raises:
        UserError: one of `encoders` is no specification.
    """
    names = list(dict.fromkeys(str(parse_encoder(name)) for name in (_DEFAULT_ENCODER, *encoders)))
    cache = _cache()
    broken = [] if cache["writable"] else [f"{cache['folder']} cannot be written; set NVLLM_CACHE elsewhere"]
    timed = []
    for name in names:
        report(f"measuring {name}")
        timed.append(_timed(name, execution))
    broken += [found["error"] for found in timed if "error" in found]
    report("looking for cameras")
    return {
        "ok": not broken,
        "broken": broken,
        "machine": _machine(),
        "cache": cache,
        "models": {name: {"file": str(file), "fetched": file.exists()} for name, file in model_files().items()},
        "cameras": cameras(),
        "extras": extras(_requirements()),
        "encoders": timed,
    }


def print_examination(found: dict[str, Any], console: Console) -> None:
    """Print what `examine` found as two tables."""
    machine, cache = found["machine"], found["cache"]
    table = Table("what", "found", title="this machine")

    def add(what: str, told: str) -> None:
        table.add_row(escape(what), escape(told))

    add("Python", f"{machine['python']} on {machine['platform']}")
    add("PyTorch", f"{machine['torch']}, computes on {machine['device']}")
    add("CPU cores", str(machine["cores"]))
    add("model cache", f"{cache['folder']}, {cache['free_gb']:.1f} GB free")
    for name, model in found["models"].items():
        add(name, "there" if model["fetched"] else "not fetched yet; the first use fetches it")
    add("cameras", ", ".join(f"{number} ({name})" for number, name in found["cameras"].items()) or _NO_CAMERA)
    for name, missing in found["extras"].items():
        add(f"extra {name}", f"not installed: {', '.join(missing)}" if missing else "installed")
    console.print(table)
    timed = Table("encoder", "x real time", "ms a latent", "95 %", "verdict", title="encoders, live")
    for one in found["encoders"]:
        if "error" in one:
            timed.add_row(escape(one["encoder"]), "", "", "", "does not run")
            continue
        figures = f"{one['factor']:.3g}", f"{1000 * one['median_s']:.3g}", f"{1000 * one['p95_s']:.3g}"
        timed.add_row(escape(one["encoder"]), *figures, one["verdict"])
    console.print(timed)


def extras(requirements: Sequence[str]) -> dict[str, list[str]]:
    """Each optional extra with the packages of it that are not installed.

    Args:
        requirements: of the package, as its metadata lists them: `PySide6-Essentials>=6.7; extra == "desktop"`.
    """
    missing: dict[str, list[str]] = {}
    for requirement in requirements:
        found = re.fullmatch(r"([\w.-]+)[^;]*;.*\bextra\s*==\s*['\"]([\w-]+)['\"].*", requirement)
        if found and found[2] != "dev":
            missing.setdefault(found[2], [])
            try:
                metadata.version(found[1])
            except metadata.PackageNotFoundError:
                missing[found[2]].append(found[1])
    return missing


def _requirements() -> list[str]:
    try:
        return metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:  # run from its sources
        return []


def _machine() -> dict[str, Any]:
    device = pick_device()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "cores": os.cpu_count() or 1,
    }


def _cache() -> dict[str, Any]:
    folder = cache_dir()
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return {
        "folder": str(folder),
        "free_gb": shutil.disk_usage(there).free / 1e9,
        "writable": there.is_dir() and os.access(there, os.W_OK),
    }


def cameras() -> dict[int, str]:
    """Number → name of the first cameras, those that give a picture."""
    found, names = {}, camera_names()
    for number in range(_CAMERAS):
        try:
            camera = find_source(str(number), 640, 480, 30)
            camera.open()
        except UserError:
            continue
        camera.close()
        found[number] = names.get(number, camera.name)
    return found


def _timed(name: str, execution: Execution) -> dict[str, Any]:
    """How an encoder keeps up, or what keeps it from running."""
    try:
        found = measure_real_time(make_encoder(name, execution), video_s=_VIDEO_S, at_most_s=_AT_MOST_S)
    except UserError as error:
        return {"encoder": name, "error": str(error)}
    if not found.face_seen:
        return {"encoder": name, "error": f"encoder {name}: sees no face in a portrait; delete its model files"}
    return {**asdict(found), "keeps_up": found.keeps_up, "verdict": found.verdict}
