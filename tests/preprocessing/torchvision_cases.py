"""Cases for a process of its own, in which torchvision is to be had: test_torchvision_clips.py starts it."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage.data import astronaut
from test_encoders_main_path import carried_to_evidence
from torch import nn
from torchvision.models import video

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoded, Encoder, Frame, make_encoder
from natural_video_llm.preprocessing.encoders.face_crop import FaceCropper
from natural_video_llm.preprocessing.options import Execution

MAKERS = {"r3d-18": video.r3d_18, "mc3-18": video.mc3_18, "r2plus1d-18": video.r2plus1d_18}
SUFFIXES = {"r3d-18": ".pt", "mc3-18": ".pth", "r2plus1d-18": ".safetensors"}
MEAN, STD = [0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989]


@pytest.fixture(scope="module")
def nets() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {kind: maker(weights=None).eval() for kind, maker in MAKERS.items()}


@pytest.fixture(scope="module")
def weights(nets: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A state dict of each net, with its classifier, in each form."""
    folder = tmp_path_factory.mktemp("nets")
    files = {kind: folder / f"{kind}{suffix}" for kind, suffix in SUFFIXES.items()}
    for kind, file in files.items():
        if file.suffix == ".safetensors":
            save_file(nets[kind].state_dict(), file)
        else:
            torch.save(nets[kind].state_dict(), file)
    return files


@pytest.fixture(params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def encoders(weights: dict[str, Path]) -> dict[str, Encoder]:
    options = "frames=3,window_s=0.2,stride_s=0.2"
    return {kind: make_encoder(f"{kind}:{file},{options}", Execution("cpu")) for kind, file in weights.items()}


@pytest.fixture
def encoder(kind: str, encoders: dict[str, Encoder]) -> Encoder:
    encoders[kind].reset()
    return encoders[kind]


def frames_of(count: int, without_face: tuple[int, ...] = ()) -> list[Frame]:
    pictures = [astronaut()[:256, 90 - 2 * number : 346 - 2 * number] for number in range(count)]
    return [(number / 10, rgb * (number not in without_face)) for number, rgb in enumerate(pictures)]


def test_a_latent_is_the_nets_own_before_its_classifier(
    kind: str, encoder: Encoder, nets: dict[str, nn.Module], face_task_file: Path
) -> None:
    found = encoder.encode(frames_of(3))
    assert found.times.tolist() == [0.0, 0.2]
    assert (found.latents.shape, found.latents.dtype) == ((2, 512), np.float16)
    cropper = FaceCropper(face_task_file, 112)
    crops = np.stack([cropper.crop(frame)[0] for frame in frames_of(3)])
    clip = torch.from_numpy(((crops / 255 - MEAN) / STD).transpose(3, 0, 1, 2)[None]).float()
    seen: list[torch.Tensor] = []
    hook = nets[kind].fc.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        assert nets[kind](clip).shape == (1, 400)
    hook.remove()
    np.testing.assert_allclose(found.latents[1], seen[0][0], atol=2e-3, rtol=2e-3)
    assert np.abs(found.latents[1].astype(float) - found.latents[0]).max() > 0.01


def test_a_stream_gives_what_a_batch_gives(encoder: Encoder) -> None:
    frames = frames_of(5, without_face=(1, 2))
    batch = encoder.encode(frames)
    encoder.reset()
    stream = Encoded.join([encoder.encode([frame]) for frame in frames], 512)
    assert batch.present.tolist() == [True, False, True]
    np.testing.assert_array_equal(stream.times, batch.times)
    np.testing.assert_array_equal(stream.faces, batch.faces)
    np.testing.assert_allclose(stream.latents, batch.latents, atol=2e-3, rtol=2e-3)


def test_what_an_encoder_says_of_itself(weights: dict[str, Path]) -> None:
    plain = make_encoder(f"r3d-18:{weights['r3d-18']}")
    assert (plain.latent_size, plain.window_s, plain.rate_hz) == (512, 1.0, 4)
    assert "what r3d-18 gives its classifier of 16 pictures" in plain.units
    assert plain.weights_sha256 != make_encoder(f"mc3-18:{weights['mc3-18']}").weights_sha256


def test_weights_of_another_net_are_refused(weights: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"mc3-18\.pth: not the weights of r3d-18"):
        make_encoder(f"r3d-18:{weights['mc3-18']}")


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.pt: no such file"):
        make_encoder(f"r3d-18:{tmp_path / 'absent.pt'}")
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("no weights", encoding="utf-8")
        with pytest.raises(UserError, match=f"{name}: no readable weights") as raised:
            make_encoder(f"r3d-18:{tmp_path / name}")
        assert "\n" not in str(raised.value)
    for name, content in (("list.pt", [1]), ("other.pt", {"epoch": 3}), ("numbers.pt", {1: torch.zeros(2)})):
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=f"{name}: (holds no state dict|not the weights of r3d-18)"):
            make_encoder(f"r3d-18:{tmp_path / name}")


def test_kinetics_weights_offline(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=rf"{kind.replace('-', '_')}-\w+\.pth could not be downloaded .*refused"):
        make_encoder(kind)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing is left half there"


def test_kinetics_weights_once_they_are_there(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    there = tmp_path / "hub" / "checkpoints" / Path(video.R3D_18_Weights.DEFAULT.url).name
    there.parent.mkdir(parents=True)
    there.symlink_to(weights["r3d-18"])
    assert make_encoder("r3d-18").weights_sha256 == make_encoder(f"r3d-18:{weights['r3d-18']}").weights_sha256


def test_from_video_to_evidence(weights: dict[str, Path], tmp_path: Path) -> None:
    sessions, llm = (Path(os.environ[made_by_parent]) for made_by_parent in ("TINY_SESSIONS", "TINY_LLM"))
    carried_to_evidence(f"r3d-18:{weights['r3d-18']},frames=2,window_s=0.3,stride_s=1.5", sessions, llm, tmp_path)
