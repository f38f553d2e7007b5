"""ONNX Runtime in PyTorch's place: the same numbers, exported once, and a clear word where it cannot."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import encoder_with_model
from torch import nn
from transformers import ViTConfig, ViTModel

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoded, make_encoder
from natural_video_llm.preprocessing.encoders.real_time import portrait_frames
from natural_video_llm.preprocessing.encoders.runner import Runner, make_runner
from natural_video_llm.preprocessing.options import Execution

ONNX = Execution(onnx=True, device="cpu")
SIDE_PX = 32


class FirstToken(nn.Module):
    """A tiny vision transformer with random weights: pictures [n, 3, 32, 32] → [n, 32]."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=SIDE_PX,
            patch_size=16,
        )
        self.vit = ViTModel(config, add_pooling_layer=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.vit(pixel_values=pictures).last_hidden_state[:, 0]


class Fickle(nn.Module):
    """What it computes depends on the numbers that it gets, which no graph can hold."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.flatten(1) if pictures.sum() > 0 else -pictures.flatten(1)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, SIDE_PX, SIDE_PX)).astype(np.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, face_task_file: Path) -> Iterator[Path]:
    """A model cache of this module's own, so that nets are exported here."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        shutil.copy(face_task_file, folder)
        patch.setenv("NVLLM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def exported(cache: Path) -> tuple[Runner, Path]:
    """The tiny net by ONNX Runtime, and its folder in the cache."""
    runner = make_runner(FirstToken(0), ONNX, "seed 0")
    runner(pictures(1))
    (folder,) = cache.glob("onnx-*")
    return runner, folder


def test_any_batch_gives_what_pytorch_gives(exported: tuple[Runner, Path]) -> None:
    by_torch = make_runner(FirstToken(0), Execution(device="cpu"), "seed 0")
    for count in (1, 2, 5):
        found, expected = exported[0](pictures(count)), by_torch(pictures(count))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "latents that are all alike would show nothing"


def test_a_net_is_exported_once(exported: tuple[Runner, Path], cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made_ns = (exported[1] / "model.onnx").stat().st_mtime_ns
    again = make_runner(FirstToken(0), ONNX, "seed 0")(pictures(3))
    np.testing.assert_array_equal(again, exported[0](pictures(3)))
    assert list(cache.glob("onnx-*")) == [exported[1]]
    assert (exported[1] / "model.onnx").stat().st_mtime_ns == made_ns
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["timesformer", "videomae", "vjepa2"])
def test_clips_give_what_pytorch_gives(kind: str, cache: Path, tmp_path: Path) -> None:
    model = encoder_with_model(kind, tmp_path / "model")

    def encoded(onnx: bool) -> Encoded:
        encoder = make_encoder(f"{model},window_s=0.5,stride_s=0.2", Execution(onnx=onnx, device="cpu"))
        return encoder.encode(list(portrait_frames(15, 0.8)))

    found, expected = encoded(onnx=True), encoded(onnx=False)
    assert expected.faces.tolist() == [1] * 5
    np.testing.assert_array_equal(found.times, expected.times)
    np.testing.assert_allclose(found.latents, expected.latents, atol=1e-3, rtol=1e-3)  # latents are float16


def test_half_precision_has_an_export_of_its_own(
    exported: tuple[Runner, Path], cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    half = make_runner(FirstToken(0), Execution(onnx=True, device="cpu", dtype="float16"), "seed 0")
    found, whole = half(pictures(3)), exported[0](pictures(3))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - whole).max() < 0.02
    assert len(list(cache.glob("onnx-*"))) >= 2
    assert capfd.readouterr() == ("", ""), "exporter and runtime are silent"


def test_other_weights_under_the_same_key_are_noticed(exported: tuple[Runner, Path]) -> None:
    with pytest.raises(UserError, match=r"FirstToken: .*off by .*leave --onnx out"):
        make_runner(FirstToken(1), ONNX, "seed 0")(pictures(1))


def test_a_damaged_export_is_named(
    exported: tuple[Runner, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVLLM_CACHE", str(tmp_path))
    folder = tmp_path / exported[1].name
    folder.mkdir()
    (folder / "model.onnx").write_bytes((exported[1] / "model.onnx").read_bytes()[:1000])
    with pytest.raises(UserError, match=f"cannot run {folder} .*delete it"):
        make_runner(FirstToken(0), ONNX, "seed 0")(pictures(1))


def test_a_net_that_cannot_be_exported_is_named(cache: Path) -> None:
    before = set(cache.iterdir())
    with pytest.raises(UserError, match=r"Fickle cannot be exported to ONNX .*leave --onnx out") as raised:
        make_runner(Fickle(), ONNX, "fickle")(pictures(1))
    assert "\n" not in str(raised.value)
    assert set(cache.iterdir()) == before


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (Execution(onnx=True, dtype="bfloat16"), "float32 or float16, not in 'bfloat16'"),
        (Execution(onnx=True, dtype="int8"), "float32 or float16, not in 'int8'"),
        (Execution(onnx=True, device="mps"), "cpu or cuda, not on mps"),
        (Execution(onnx=True, device="toaster"), "unknown device 'toaster'"),
    ],
    ids=lambda value: f"{value.device} {value.dtype}" if isinstance(value, Execution) else "",
)
def test_what_onnx_runtime_cannot_do_is_told_at_once(execution: Execution, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_runner(FirstToken(0), execution, "seed 0")


def test_a_gpu_that_is_not_here_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="cannot compute on cuda"):
        make_runner(FirstToken(0), Execution(onnx=True, device="cuda"), "seed 0")(pictures(1))


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_without_the_extra_it_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails as if it were not there
    with pytest.raises(UserError, match=r"pip install 'natural-video-llm\[onnx\]'"):
        make_runner(FirstToken(0), ONNX, "seed 0")
