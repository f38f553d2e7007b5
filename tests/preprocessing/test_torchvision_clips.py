"""R3D-18 and its kin: torchvision absent, torchvision of another build, and torchvision's real nets."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from natural_video_llm.assets import cache_dir
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import make_encoder

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(__file__).with_name("torchvision_cases.py")


@pytest.fixture(scope="module")
def torchvision_env() -> dict[str, str]:
    """Of a process that finds torchvision: the installed one, or a copy in the user's cache, fetched on first use.

    It is not installed for all tests: the build on the package index fits one build of PyTorch, and beside another one
    transformers cannot be imported.
    """
    places = [str(ROOT)]
    if importlib.util.find_spec("torchvision") is None:
        major, minor = torch.__version__.split(".")[:2]
        folder = cache_dir() / f"torchvision-for-{major}.{minor}"
        if not folder.exists():
            install_torchvision(f"torchvision==0.{int(minor) + 15}.*", folder)
        places.append(str(folder))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}


def install_torchvision(release: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", f"{work}/entry", release]
        pip = subprocess.run(command, capture_output=True, text=True, check=False)
        if pip.returncode:
            pytest.skip(f"torchvision is not installed and pip cannot fetch {release}: {pip.stderr.strip()[-300:]}")
        Path(work, "entry").rename(folder)


def test_the_real_nets(torchvision_env: dict[str, str], tiny_sessions: Path, tiny_llm: Path) -> None:
    env = {**torchvision_env, "TINY_SESSIONS": str(tiny_sessions), "TINY_LLM": str(tiny_llm)}
    env["PYTHONPATH"] += f"{os.pathsep}{CASES.parent}"
    plugins = ["-p", "no:cacheprovider", "-p", "torchvision_operators"]
    command = [sys.executable, "-m", "pytest", *plugins, str(CASES)]
    cases = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert cases.returncode == 0, cases.stdout + cases.stderr
    assert "skipped" not in cases.stdout, cases.stdout


def test_a_build_for_another_pytorch_is_told_in_one_line(torchvision_env: dict[str, str], tiny_sessions: Path) -> None:
    nvllm = [sys.executable, "-c", "from natural_video_llm.cli import main; main()"]
    command = [*nvllm, "extract", str(tiny_sessions), "--encoder", "r3d-18:absent.pt", "--workers", "1"]
    extract = subprocess.run(command, capture_output=True, text=True, check=False, env=torchvision_env)
    assert extract.returncode == 1
    said = extract.stderr.strip().splitlines()
    assert len(said) == 1, extract.stderr
    if "absent.pt: no such file" in said[0]:
        pytest.skip("torchvision fits the PyTorch of this machine")
    assert "torchvision does not fit this PyTorch and cannot be imported (operator torchvision::nms" in said[0]
    assert f"built with PyTorch {torch.__version__}, from the same index" in said[0]


@pytest.mark.parametrize("kind", ["r3d-18", "mc3-18", "r2plus1d-18"])
def test_without_torchvision(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # Python's own way to say that a module is not there
    with pytest.raises(UserError, match=r"torchvision is not installed .*built with PyTorch") as raised:
        make_encoder(kind)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("frames", ["0", "some", "1.5"])
def test_an_unusable_number_of_pictures(frames: str) -> None:
    with pytest.raises(UserError, match=f"frames must be a (positive|whole) number, not '{frames}'"):
        make_encoder(f"r3d-18,frames={frames}")
