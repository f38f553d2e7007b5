"""Frame encoders: tiny models of each family, saved with real processors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from tiny_models import PICTURE_MODELS, SIZES, SQUARE, save_model, save_vit, seeded
from transformers import (
    AutoImageProcessor,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionModel,
    SiglipVisionModel,
    SwinConfig,
    SwinModel,
    VideoMAEConfig,
    VideoMAEModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoded, Encoder, Frame, make_encoder
from natural_video_llm.preprocessing.encoders.face_crop import FaceCropper
from natural_video_llm.preprocessing.encoders.picture_rules import PictureRules
from natural_video_llm.preprocessing.options import Execution

FAMILIES = sorted(PICTURE_MODELS)
NO_FACE = range(12, 17)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {family: save_model(save, folder / family) for family, save in PICTURE_MODELS.items()}


@pytest.fixture(scope="module")
def encoders(models: dict[str, Path], face_task_file: Path) -> dict[str, Encoder]:
    return {family: make_encoder(f"vit:{folder}") for family, folder in models.items()}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """A portrait that moves, at an uneven rate; for a moment nobody is in view."""
    picture = astronaut()
    shown = [np.roll(picture, (3 * i, -2 * i), axis=(0, 1)) for i in range(20)]
    for i in NO_FACE:
        shown[i] = np.zeros_like(picture)
    return [(100 + i / 15 + 0.01 * (i % 3), rgb) for i, rgb in enumerate(shown)]


def encoded(encoder: Encoder, frames: list[Frame], at_once: int) -> Encoded:
    encoder.reset()
    calls = [frames[i : i + at_once] for i in range(0, len(frames), at_once)]
    return Encoded.join([encoder.encode(call) for call in calls], encoder.latent_size)


def agree(one: np.ndarray, other: np.ndarray, tolerance: float) -> bool:
    return bool(np.abs(one.astype(np.float32) - other).max() <= tolerance * np.abs(other.astype(np.float32)).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_one_latent_a_frame_with_its_time(family: str, encoders: dict[str, Encoder], frames: list[Frame]) -> None:
    encoder = encoders[family]
    found = encoded(encoder, frames, 32)
    assert encoder.latent_size == SIZES["hidden_size"]
    assert found.latents.shape == (len(frames), encoder.latent_size)
    assert found.latents.dtype == np.float16
    np.testing.assert_array_equal(found.times, [time_s for time_s, _ in frames])
    np.testing.assert_array_equal(found.present, [i not in NO_FACE for i in range(len(frames))])
    assert (found.latents[~found.present] == 0).all()
    assert (found.latents[found.present].std(axis=0) > 0).all(), "latents depend on the picture"
    assert (encoder.rate_hz, encoder.window_s) == (None, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_gives_what_a_batch_gives(family: str, encoders: dict[str, Encoder], frames: list[Frame]) -> None:
    batch, stream, uneven = (encoded(encoders[family], frames, at_once) for at_once in (32, 1, 7))
    for other in (stream, uneven):
        np.testing.assert_array_equal(other.times, batch.times)
        np.testing.assert_array_equal(other.faces, batch.faces)
        assert agree(other.latents, batch.latents, 1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_latent_is_what_the_library_itself_gives(
    family: str, encoders: dict[str, Encoder], models: dict[str, Path], frames: list[Frame], face_task_file: Path
) -> None:
    from transformers import AutoModel

    rules = own_rules(models[family])
    square = FaceCropper(face_task_file, rules.side_px).crop(frames[0])[0]
    assert square is not None
    model = (SiglipVisionModel if family == "siglip" else AutoModel).from_pretrained(models[family])
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(rules(square)[None])).pooler_output[0].numpy()
    assert agree(encoded(encoders[family], frames[:1], 1).latents[0], expected, 1e-3)
    assert encoders[family].units.startswith("pooled output of a ")


def own_rules(folder: Path) -> PictureRules:
    return PictureRules.from_settings(json.loads((folder / "preprocessor_config.json").read_text()), "vit")


@pytest.mark.parametrize("family", ["vit", "dinov2", "siglip"])  # the one of DINOv3 cannot run without torchvision
def test_pixels_are_those_of_the_real_processor(family: str, models: dict[str, Path]) -> None:
    rules = own_rules(models[family])
    squares = np.random.default_rng(0).integers(0, 256, (2, rules.side_px, rules.side_px, 3), dtype=np.uint8)
    processor = AutoImageProcessor.from_pretrained(models[family])
    expected = np.stack([processor(square, return_tensors="np")["pixel_values"][0] for square in squares])
    assert rules(squares).dtype == np.float32
    np.testing.assert_allclose(rules(squares), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "side_px", "crop_px", "black"),
    [
        ({"size": 40, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}, 40, (40, 40), -2.0),
        (
            {"size": {"shortest_edge": 48}, "do_center_crop": True, "crop_size": 40, "do_normalize": False},
            48,
            (40, 40),
            0,
        ),
        ({"do_resize": False, "do_rescale": False, "image_mean": [10] * 3, "image_std": [2] * 3}, 64, (64, 64), -5.0),
    ],
)
def test_settings_of_older_processors(settings: dict, side_px: int, crop_px: tuple[int, int], black: float) -> None:
    rules = PictureRules.from_settings(settings, "vit", default_side_px=64)
    assert (rules.side_px, rules.crop_px) == (side_px, crop_px)
    pixels = rules(np.zeros((side_px, side_px, 3), np.uint8))
    assert pixels.shape == (3, *crop_px)
    assert (pixels == black).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": {"height": 32, "width": 48}}, "no square"),
        ({"max_num_patches": 256}, "no square"),
        ({"size": 32, "do_center_crop": True, "crop_size": 48}, "cuts 48 out of 32"),
        ({"size": 32}, "lack image_mean"),
        ({"size": 32, "do_flip_channel_order": True}, "do_flip_channel_order"),
    ],
)
def test_settings_that_cannot_be_followed(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        PictureRules.from_settings(settings, "vit:somewhere")


def test_a_classifier_gives_its_class_token(models: dict[str, Path], frames: list[Frame], tmp_path: Path) -> None:
    """Its checkpoint has no pooler: the library would make one up."""
    folder = tmp_path / "classifier"
    config = ViTConfig(**SIZES, image_size=32, patch_size=8)
    seeded(lambda: ViTForImageClassification(config)).save_pretrained(folder)
    ViTImageProcessorPil(size=SQUARE).save_pretrained(folder)
    first, second = (make_encoder(f"vit:{folder}") for _ in range(2))
    assert first.units.startswith("class token of a vit model")
    assert agree(encoded(first, frames[:2], 2).latents, encoded(second, frames[:2], 2).latents, 0)


def test_other_vision_transformers(frames: list[Frame], tmp_path: Path) -> None:
    swin = SwinConfig(embed_dim=16, depths=[1, 1], num_heads=[1, 2], window_size=4, image_size=32, patch_size=4)
    clip = CLIPConfig(text_config=SIZES | {"vocab_size": 50}, vision_config=SIZES | {"image_size": 32, "patch_size": 8})
    for name, make in {"swin": lambda: SwinModel(swin), "clip": lambda: CLIPModel(clip)}.items():
        seeded(make).save_pretrained(tmp_path / name)
        ViTImageProcessorPil(size=SQUARE).save_pretrained(tmp_path / name)
        found = encoded(make_encoder(f"vit:{tmp_path / name}"), frames[:3], 3)
        assert found.present.all()
        assert found.latents.shape == (3, 32)
    tower = CLIPVisionModel.from_pretrained(tmp_path / "clip")
    tower.save_pretrained(tmp_path / "tower")
    shutil.copy(tmp_path / "clip/preprocessor_config.json", tmp_path / "tower")
    alone = encoded(make_encoder(f"vit:{tmp_path / 'tower'}"), frames[:3], 3)
    assert agree(found.latents, alone.latents, 1e-3)


def test_the_uncropped_frame(models: dict[str, Path], encoders: dict[str, Encoder], frames: list[Frame]) -> None:
    whole = make_encoder(f"vit:{models['vit']},crop=none")
    assert whole.name == f"vit:{models['vit']},crop=none"
    assert make_encoder(f"vit:{models['vit']},crop=face").name == encoders["vit"].name
    assert "whole picture" in whole.units
    found, cropped = encoded(whole, frames, 32), encoded(encoders["vit"], frames, 32)
    np.testing.assert_array_equal(found.faces, cropped.faces)
    assert not agree(found.latents, cropped.latents, 0.05)
    # Where the face is on the picture makes the difference.
    moved = [(frames[0][0], np.roll(frames[0][1], (90, 60), axis=(0, 1)))]
    cropped_moved, found_moved = (
        np.abs(encoded(e, moved, 1).latents - encoded(e, frames[:1], 1).latents).mean()
        for e in (encoders["vit"], whole)
    )
    assert cropped_moved < 0.3 * found_moved


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_changes_little(
    dtype: str, models: dict[str, Path], encoders: dict[str, Encoder], frames: list[Frame]
) -> None:
    half = encoded(make_encoder(f"vit:{models['dinov2']}", Execution(dtype=dtype)), frames, 32).latents
    full = encoded(encoders["dinov2"], frames, 32).latents
    assert agree(half, full, 0.05)
    assert not np.array_equal(half, full)


def test_what_cannot_be_executed_is_told(models: dict[str, Path]) -> None:
    for execution, words in [
        (Execution(dtype="float8"), "unknown precision 'float8'.*bfloat16"),
        (Execution(device="toaster"), "device 'toaster' cannot compute"),
        (Execution(device="cuda:97"), "device 'cuda:97' cannot compute"),
    ]:
        with pytest.raises(UserError, match=words):
            make_encoder(f"vit:{models['vit']}", execution)


def test_overflow_is_told(frames: list[Frame], tmp_path: Path) -> None:
    save_vit(tmp_path / "vit")
    model = ViTModel.from_pretrained(tmp_path / "vit")
    with torch.no_grad():
        model.pooler.dense.weight.mul_(0)
        model.embeddings.cls_token.fill_(1e9)
        model.embeddings.position_embeddings[:, 0].fill_(-1e9)
    model.save_pretrained(tmp_path / "vit")
    encoder = make_encoder(f"vit:{tmp_path / 'vit'}", Execution(dtype="float16"))
    with pytest.raises(UserError, match="no finite numbers in float16"):
        encoder.encode(frames[:1])


def test_weights_are_told_apart(models: dict[str, Path], encoders: dict[str, Encoder], tmp_path: Path) -> None:
    sums = {encoder.weights_sha256 for encoder in encoders.values()}
    assert len(sums) == len(encoders)
    shutil.copytree(models["vit"], tmp_path / "copy")
    assert make_encoder(f"vit:{tmp_path / 'copy'}").weights_sha256 == encoders["vit"].weights_sha256
    model = ViTModel.from_pretrained(models["vit"])
    model.save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    shutil.copy(models["vit"] / "preprocessor_config.json", tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    sharded = make_encoder(f"vit:{tmp_path / 'sharded'}").weights_sha256
    shard = max((tmp_path / "sharded").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert make_encoder(f"vit:{tmp_path / 'sharded'}").weights_sha256 != sharded


def broken_folder(case: str, folder: Path) -> Path:
    save_model(save_vit, folder)
    if case == "text":
        BertModel(BertConfig(**SIZES, vocab_size=50)).save_pretrained(folder)
    elif case == "clips":
        VideoMAEModel(VideoMAEConfig(**SIZES, image_size=32, patch_size=8, num_frames=4)).save_pretrained(folder)
    elif case == "no weights":
        (folder / "model.safetensors").unlink()
    elif case == "damaged weights":
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    elif case == "another depth":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    elif case == "another width":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    elif case == "no processor":
        (folder / "preprocessor_config.json").unlink()
    elif case == "another size":
        ViTImageProcessorPil(size={"height": 48, "width": 48}).save_pretrained(folder)
    elif case == "no model":
        (folder / "config.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("text", "this is a bert model; vit needs a model of single pictures"),
        ("clips", "this is a videomae model; vit needs a model of single pictures"),
        ("no weights", r"no usable vision model.*model\.safetensors"),
        ("damaged weights", "no usable vision model"),
        ("another depth", r"the weights lack .*layers?\.2.* more of a vit model"),
        ("another width", "no usable vision model|the weights lack"),
        ("no processor", r"no usable vision model.*preprocessor_config\.json"),
        ("another size", "does not take the 48x48 pixels"),
        ("no model", "no usable vision model"),
    ],
)
def test_a_model_that_does_not_fit_is_told_in_one_line(case: str, words: str, tmp_path: Path) -> None:
    folder = broken_folder(case, tmp_path / "model")
    with pytest.raises(UserError, match=words) as told:
        make_encoder(f"vit:{folder}")
    assert "\n" not in str(told.value)
    assert str(folder) in str(told.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit", "name a model by its folder or Hub id, e.g. vit:facebook/dinov2-small"),
        ("vit:absent/folder/of/mine", "no usable vision model"),
        ("vit:some/model,crop=half", "crop must be face or none, not 'half'"),
        ("vit:some/model,stride=2", "unknown option 'stride'"),
    ],
)
def test_a_name_that_is_none_is_told_in_one_line(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as told:
        make_encoder(name)
    assert "\n" not in str(told.value)


def test_a_model_that_is_not_here_is_told_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read from the environment at import
    with pytest.raises(UserError, match=r"vit:nobody/no-such-model: no usable vision model \(offline: HF_HUB_OFFLINE"):
        make_encoder("vit:nobody/no-such-model")


def test_loading_says_nothing(models: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    make_encoder(f"vit:{models['siglip']}")
    said = capfd.readouterr()
    assert said.out == ""
    assert "LOAD REPORT" not in said.err
    assert "%|" not in said.err


def test_older_weights_and_newer_settings_give_the_same(
    models: dict[str, Path], encoders: dict[str, Encoder], frames: list[Frame], tmp_path: Path
) -> None:
    """Pickled weights, as before safetensors; the processor's settings within those of a processor for text as well."""
    torch.save(ViTModel.from_pretrained(models["vit"]).state_dict(), tmp_path / "pytorch_model.bin")
    shutil.copy(models["vit"] / "config.json", tmp_path)
    settings = json.loads((models["vit"] / "preprocessor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": settings}), encoding="utf-8")
    other = make_encoder(f"vit:{tmp_path}")
    assert agree(encoded(other, frames[:3], 3).latents, encoded(encoders["vit"], frames[:3], 3).latents, 0)
    assert other.weights_sha256 != encoders["vit"].weights_sha256
    assert encoded(other, [], 1).latents.shape == (0, other.latent_size)
    assert other.encode([]).times.shape == (0,)
