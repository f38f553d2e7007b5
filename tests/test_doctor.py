"""What `nvllm doctor` says of this machine, and what live use says of an encoder that cannot keep up."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from natural_video_llm import cli
from natural_video_llm.assets import model_files
from natural_video_llm.checkpoint import load_base_llm
from natural_video_llm.doctor import cameras, examine, extras, print_examination
from natural_video_llm.errors import UserError
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.encoders.real_time import portrait_frames
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.sessions.video import SegmentWriter

CAMERAS_HERE = list(Path("/dev").glob("video*")) or not sys.platform.startswith("linux")


def nvllm(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{before}\nfrom natural_video_llm.cli import main; main()"
    # One thread, so that what is slow here is slow on any machine.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def slow_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A vision transformer that needs about fifteen thousand million operations for a picture."""
    folder = tmp_path_factory.mktemp("slow")
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 4}
    torch.manual_seed(0)
    ViTModel(ViTConfig(**sizes, image_size=224, patch_size=8)).save_pretrained(folder)
    ViTImageProcessorPil().save_pretrained(folder)
    return f"vit:{folder}"


def test_the_machine_as_json_and_as_tables(slow_encoder: str) -> None:
    result = nvllm("doctor", "--json", "--encoder", slow_encoder, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["ok"], found["broken"]) == (True, [])
    assert found["machine"]["cores"] == os.cpu_count()
    assert found["machine"]["torch"] == torch.__version__
    assert found["cache"]["free_gb"] > 0
    assert {name: Path(model["file"]) for name, model in found["models"].items()} == model_files()
    assert found["models"]["default face model"]["fetched"]
    default, slow = found["encoders"]
    assert (default["encoder"], slow["encoder"]) == ("face-geometry", slow_encoder)
    for one in (default, slow):
        assert one["face_seen"]
        assert 0 < one["median_s"] <= one["p95_s"]
        assert one["factor"] > 0
    assert not slow["keeps_up"]
    assert slow["verdict"].startswith("too slow for live use: ")
    assert slow["factor"] < default["factor"]

    out = io.StringIO()
    print_examination(found, Console(file=out, width=200))
    shown = out.getvalue()
    for words in (torch.__version__, slow["verdict"], default["verdict"], "default LLM", found["cache"]["folder"]):
        assert words in shown


def test_an_unknown_encoder_is_told_before_anything_is_measured() -> None:
    steps: list[str] = []
    for name, words in (("nonsense", "unknown encoder 'nonsense'"), ("vit:somewhere,colour=red", "option 'colour'")):
        with pytest.raises(UserError, match=words):
            examine(["face-geometry", name], Execution(), steps.append)
    assert steps == []


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, list[str]]:
    """This machine with an encoder whose folder is empty: what was found, its tables, the steps."""
    steps: list[str] = []
    folder = tmp_path_factory.mktemp("empty")
    found = examine([f"vit:{folder}", "face-geometry"], Execution(device="cpu"), steps.append)
    out = io.StringIO()
    print_examination(found, Console(file=out, width=400))
    return found, out.getvalue(), steps


def test_an_encoder_that_does_not_run_is_told_beside_the_others(
    examined: tuple[dict[str, Any], str, list[str]],
) -> None:
    found, shown, steps = examined
    default, missing = found["encoders"]
    assert default["factor"] > 0
    assert default["verdict"] in shown
    assert missing["error"].startswith(f"encoder {missing['encoder']}: ")
    assert "does not run" in shown
    assert (found["ok"], found["broken"]) == (False, [missing["error"]])
    assert steps[:2] == ["measuring face-geometry", f"measuring {missing['encoder']}"]


@pytest.mark.skipif(bool(CAMERAS_HERE), reason="this machine may have a camera")
def test_no_camera_is_normal_and_told(
    examined: tuple[dict[str, Any], str, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    found, shown, _ = examined
    assert found["cameras"] == cameras() == {}
    assert "none gives a picture, as on a server; else plug one in" in shown
    assert "--video FILE" in shown
    assert capfd.readouterr() == ("", "")


def test_a_damaged_face_model_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NVLLM_CACHE", str(tmp_path))
    face_model = model_files()["default face model"]
    face_model.write_bytes(b"not a bundle")
    with pytest.raises(UserError) as raised:
        cli.doctor(json=True)
    assert str(face_model) in str(raised.value)
    assert "\n" not in str(raised.value)
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["broken"]) == (False, [str(raised.value)])
    assert not found["models"]["default LLM"]["fetched"], "nothing is fetched that is not needed"


def test_a_library_that_cannot_be_loaded_is_one_line() -> None:
    result = nvllm("doctor", before="import sys; sys.modules['av'] = None")
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert "a library cannot be loaded (import of av halted" in result.stderr


def test_extras_are_read_from_the_metadata() -> None:
    requirements = [
        "torch>=2.6",
        "pytest>=8; extra == 'dev'",
        'PySide6-Essentials-of-nobody>=6.7; extra == "desktop"',
        "numpy>=2 ; python_version > '3' and extra == 'several'",
        "no-such-package; extra == 'several'",
        "numpy; extra == 'there'",
    ]
    assert extras(requirements) == {
        "desktop": ["PySide6-Essentials-of-nobody"],
        "several": ["no-such-package"],
        "there": [],
    }


def test_chat_warns_of_an_encoder_that_cannot_keep_up(slow_encoder: str, tiny_llm: Path, tmp_path: Path) -> None:
    base = load_base_llm(str(tiny_llm))
    encoder = make_encoder(slow_encoder, Execution(device="cpu"))
    size = 2 * encoder.latent_size
    config = FusionConfig(base.name, base.sha256, encoder.name, encoder.weights_sha256, size, fusion_layers=(1,))
    NaturalVideoLLM(base.model, config).save_pretrained(tmp_path / "run")
    writer = SegmentWriter(tmp_path / "face.mp4", 640, 480)
    for time_s, rgb in portrait_frames(30, 0.5):
        writer.write(rgb, time_s)
    writer.close()
    chat = ["chat", str(tmp_path / "run"), "--video", str(tmp_path / "face.mp4"), "--say", "Hello.", "--device", "cpu"]
    result = nvllm(*chat)
    assert result.returncode == 0, result.stderr
    warned, _, conversation = result.stdout.partition("you: Hello.")
    (line,) = [line for line in warned.splitlines() if "needs" in line]
    assert line.startswith(f"the encoder {encoder.name} needs ")
    assert line.endswith(" s for each second of video: frames will be dropped; nvllm doctor measures it")
    assert "reply:" in conversation
