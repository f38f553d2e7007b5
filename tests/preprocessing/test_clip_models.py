"""TimeSformer, VideoMAE and V-JEPA 2 on face crops: the models' own numbers at the right times, however fed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from tiny_models import CLIP_MODELS, SIZES, save_model
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    TimesformerForVideoClassification,
    TimesformerModel,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessorPil,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
)

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoded, Encoder, Frame, make_encoder
from natural_video_llm.preprocessing.encoders.face_crop import FaceCropper
from natural_video_llm.preprocessing.extract_video_latents import encode_segment
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.sessions.video import SegmentWriter, read_frames

PICTURES = {"timesformer": 8, "videomae": 4, "vjepa2": 6}
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# Latents are rounded to float16.
ROUNDING = 2e-3


def portrait(number: int) -> np.ndarray:
    """A face that drifts to the right and darkens."""
    left = 100 - 2 * number
    picture = astronaut()[:256, left : left + 256]
    return (picture * (1 - number / 100)).astype(np.uint8)


def frames_of(count: int, without_face: tuple[int, ...] = (), rate_hz: float = 15) -> list[Frame]:
    return [(2 + number / rate_hz, portrait(number) * (number not in without_face)) for number in range(count)]


def streamed(encoder: Encoder, frames: list[Frame]) -> Encoded:
    encoder.reset()
    return Encoded.join([encoder.encode([frame]) for frame in frames], encoder.latent_size)


def at_once(encoder: Encoder, frames: list[Frame]) -> Encoded:
    encoder.reset()
    return encoder.encode(frames)


def assert_same(found: Encoded, expected: Encoded) -> None:
    np.testing.assert_array_equal(found.times, expected.times)
    np.testing.assert_array_equal(found.faces, expected.faces)
    np.testing.assert_allclose(found.latents, expected.latents, atol=ROUNDING)


@pytest.fixture(scope="module")
def tiny_clip_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clip_models")
    return {kind: save_model(save, folder / kind) for kind, save in CLIP_MODELS.items()}


@pytest.fixture(params=CLIP_MODELS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def encoder(family: str, tiny_clip_models: dict[str, Path]) -> Encoder:
    return make_encoder(f"{family}:{tiny_clip_models[family]},window_s=0.5,stride_s=0.2", Execution("cpu"))


def copied(model: Path, to: Path) -> Path:
    return Path(shutil.copytree(model, to))


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_what_an_encoder_says_of_itself(family: str, encoder: Encoder, tiny_clip_models: dict[str, Path]) -> None:
    assert encoder.name == f"{family}:{tiny_clip_models[family]},stride_s=0.2,window_s=0.5"
    assert (encoder.latent_size, encoder.window_s, encoder.rate_hz) == (32, 0.5, 5)
    assert f"of a {family} model on {PICTURES[family]} pictures" in encoder.units
    plain = make_encoder(f"{family}:{tiny_clip_models[family]}")
    assert (plain.window_s, plain.rate_hz, plain.weights_sha256) == (1.0, 4, encoder.weights_sha256)


def test_a_stream_gives_what_a_file_gives(encoder: Encoder, tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "face.mp4", 256, 256, 15)
    for time_s, rgb in frames_of(16, without_face=(6, 7)):
        writer.write(rgb, time_s)
    writer.close()
    frames = list(read_frames(tmp_path / "face.mp4"))
    latents, count = encode_segment(tmp_path / "face.mp4", encoder)
    stream = streamed(encoder, frames)
    assert count == 16
    # Every third frame, and nobody is there in the third of these.
    np.testing.assert_array_equal(latents.times, [time_s for time_s, _ in frames[::3]])
    assert latents.present.tolist() == [True, True, False, True, True, True]
    assert latents.latents.dtype == np.float16
    assert (latents.latents[2] == 0).all()
    assert_same(stream, Encoded(latents.latents, latents.times, latents.present.astype(np.uint8)))


def test_more_clips_than_fit_in_a_batch(family: str, tiny_clip_models: dict[str, Path]) -> None:
    encoder = make_encoder(f"{family}:{tiny_clip_models[family]},stride_s=0.01", Execution("cpu"))
    frames = frames_of(36, without_face=(5, 30, 31))
    batch = at_once(encoder, frames)
    assert batch.times.tolist() == [time_s for time_s, _ in frames]
    assert np.flatnonzero(~batch.present).tolist() == [5, 30, 31]
    assert_same(streamed(encoder, frames), batch)


def test_nothing_looks_ahead(encoder: Encoder) -> None:
    frames = frames_of(16)
    changed = frames[:10] + [(time_s, 255 - rgb[:, ::-1]) for time_s, rgb in frames[10:]]
    found, other = at_once(encoder, frames), at_once(encoder, changed)
    past = found.times <= frames[9][0]
    assert 0 < past.sum() < len(past)
    np.testing.assert_allclose(other.latents[past], found.latents[past], atol=ROUNDING)
    assert np.abs(other.latents[~past].astype(float) - found.latents[~past]).max() > 10 * ROUNDING


def crops(side_px: int, face_task_file: Path, numbers: list[int]) -> list[np.ndarray]:
    """Upright faces of the frames `numbers` of a video, as an encoder follows it."""
    cropper = FaceCropper(face_task_file, side_px)
    found = [cropper.crop(frame)[0] for frame in frames_of(max(numbers) + 1, rate_hz=10)]
    pictures = [found[number] for number in numbers]
    assert all(picture is not None for picture in pictures)
    return pictures


def expected_latent(family: str, model_dir: Path, face_task_file: Path, numbers: list[int]) -> np.ndarray:
    """By the model's own processor, and by the model as a whole."""
    if family == "vjepa2":
        middle = np.stack(crops(36, face_task_file, numbers))[:, 2:34, 2:34]
        pixels = torch.from_numpy(((middle / 255 - MEAN) / STD).transpose(0, 3, 1, 2)[None]).float()
        found = VJEPA2Model.from_pretrained(model_dir)(pixel_values_videos=pixels)
        assert found.predictor_output is not None
        return found.last_hidden_state.mean(dim=1)[0].detach().numpy()
    processor = VideoMAEImageProcessorPil.from_pretrained(model_dir)
    pixels = processor(crops(32, face_task_file, numbers), return_tensors="pt")["pixel_values"]
    if family == "videomae":
        return VideoMAEModel.from_pretrained(model_dir)(pixels).last_hidden_state.mean(dim=1)[0].detach().numpy()
    return TimesformerModel.from_pretrained(model_dir)(pixels).last_hidden_state[0, 0].detach().numpy()


def test_a_latent_is_the_models_own_of_the_pictures_of_its_window(
    family: str, tiny_clip_models: dict[str, Path], face_task_file: Path
) -> None:
    # Over as many steps of a tenth of a second as there are between its pictures.
    window_s = (PICTURES[family] - 1) / 10
    encoder = make_encoder(f"{family}:{tiny_clip_models[family]},window_s={window_s},stride_s=0.9", Execution("cpu"))
    found = at_once(encoder, frames_of(10, rate_hz=10))
    assert found.times.tolist() == [2.0, 2.9]
    for row, numbers in enumerate([[0] * PICTURES[family], list(range(10 - PICTURES[family], 10))]):
        expected = expected_latent(family, tiny_clip_models[family], face_task_file, numbers)
        np.testing.assert_allclose(found.latents[row], expected, atol=ROUNDING, rtol=1e-3)


HEADED = {
    "timesformer": TimesformerForVideoClassification,
    "videomae": VideoMAEForVideoClassification,
    "vjepa2": VJEPA2ForVideoClassification,
}


def test_a_classifier_is_left_off(family: str, tiny_clip_models: dict[str, Path], tmp_path: Path) -> None:
    model = copied(tiny_clip_models[family], tmp_path / "model")
    HEADED[family].from_pretrained(model).save_pretrained(model)
    assert json.loads((model / "config.json").read_text(encoding="utf-8"))["architectures"] == [HEADED[family].__name__]
    frames = frames_of(4)
    headed, plain = make_encoder(f"{family}:{model}"), make_encoder(f"{family}:{tiny_clip_models[family]}")
    assert_same(at_once(headed, frames), at_once(plain, frames))
    assert headed.weights_sha256 != plain.weights_sha256


def test_the_whole_picture_is_there_when_the_face_is(family: str, tiny_clip_models: dict[str, Path]) -> None:
    frames = frames_of(10, without_face=(0, 6))
    name = f"{family}:{tiny_clip_models[family]},stride_s=0.1"
    whole, face = at_once(make_encoder(f"{name},crop=none"), frames), at_once(make_encoder(name), frames)
    assert whole.present.tolist() == face.present.tolist()
    assert 0 < whole.present.sum() < len(whole.present)
    assert np.abs(whole.latents.astype(float) - face.latents)[whole.present].max() > 10 * ROUNDING


def test_one_frame_no_frame_and_nobody(encoder: Encoder) -> None:
    assert at_once(encoder, []).latents.shape == (0, 32)
    one = at_once(encoder, frames_of(1))
    assert (one.times.tolist(), one.present.tolist(), one.latents.shape) == ([2.0], [True], (1, 32))
    nobody = at_once(encoder, frames_of(4, without_face=(0, 1, 2, 3)))
    assert not nobody.present.any()
    assert (nobody.latents == 0).all()


def test_several_faces_are_counted(tiny_clip_models: dict[str, Path]) -> None:
    encoder = make_encoder(f"videomae:{tiny_clip_models['videomae']}")
    two = np.hstack([portrait(0), portrait(0)])
    assert at_once(encoder, [(0.0, two)]).faces.tolist() == [2]


def test_half_precision_gives_nearly_the_same(family: str, tiny_clip_models: dict[str, Path]) -> None:
    name = f"{family}:{tiny_clip_models[family]}"
    full = at_once(make_encoder(name, Execution("cpu")), frames_of(4)).latents.astype(float)
    half = at_once(make_encoder(name, Execution("cpu", "bfloat16")), frames_of(4)).latents
    assert 0 < np.abs(full - half).max() < 0.05 * np.abs(full).max()


def test_vjepa2_takes_fewer_pictures_where_asked(tiny_clip_models: dict[str, Path]) -> None:
    name = f"vjepa2:{tiny_clip_models['vjepa2']}"
    few = make_encoder(f"{name},frames=2")
    assert "on 2 pictures" in few.units
    assert np.abs(
        at_once(few, frames_of(9)).latents.astype(float) - at_once(make_encoder(name), frames_of(9)).latents
    ).any()
    with pytest.raises(UserError, match="2 at a time, 3 is no multiple"):
        make_encoder(f"{name},frames=3")
    with pytest.raises(UserError, match=r"frames must be a whole number, not '2\.5'"):
        make_encoder(f"{name},frames=2.5")
    with pytest.raises(UserError, match="unknown option 'frames'; videomae has these: crop, window_s, stride_s"):
        make_encoder(f"videomae:{tiny_clip_models['videomae']},frames=2")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("crop=half", "crop must be face or none, not 'half'"),
        ("window_s=0", "window_s must be a positive number, not '0'"),
        ("stride_s=often", "stride_s must be a positive number, not 'often'"),
    ],
)
def test_unusable_options(option: str, said: str, tiny_clip_models: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=said):
        make_encoder(f"videomae:{tiny_clip_models['videomae']},{option}")


def picture_model(folder: Path) -> Path:
    ViTModel(ViTConfig(**SIZES, image_size=32)).save_pretrained(folder)
    return folder


def text_model(folder: Path) -> Path:
    BertModel(BertConfig(**SIZES, vocab_size=50)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("make", "kind"), [(picture_model, "vit"), (text_model, "bert")])
def test_a_model_of_another_kind_is_refused(
    family: str, make: Callable[[Path], Path], kind: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"this is a {kind} model; {family} needs a model of type {family}") as raised:
        make_encoder(f"{family}:{make(tmp_path)}")
    assert "\n" not in str(raised.value)


def test_a_model_of_another_family_is_refused(tiny_clip_models: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="this is a videomae model; timesformer needs a model of type timesformer"):
        make_encoder(f"timesformer:{tiny_clip_models['videomae']}")
    with pytest.raises(UserError, match="this is a vjepa2 model; vit needs a model of single pictures"):
        make_encoder(f"vit:{tiny_clip_models['vjepa2']}")


def test_weights_that_are_not_there(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for weights in ("facebook/absent-model", str(tmp_path)):
        with pytest.raises(UserError, match=f"{weights}.*no usable vision model") as raised:
            make_encoder(f"{family}:{weights}")
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=rf"name a model by its folder or Hub id, e\.g\. {family}:"):
        make_encoder(family)


def test_weights_that_lack_a_part(family: str, tiny_clip_models: dict[str, Path], tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(tiny_clip_models[family])
    state = model.state_dict()
    lost = next(key for key in state if "layer.1." in key)
    del state[lost]
    copy = copied(tiny_clip_models[family], tmp_path / "model")
    model.save_pretrained(copy, state_dict=state)
    with pytest.raises(UserError, match=f"the weights lack {lost}"):
        make_encoder(f"{family}:{copy}")


def test_a_processor_that_does_not_fit_its_model(
    family: str, tiny_clip_models: dict[str, Path], tmp_path: Path
) -> None:
    copy = copied(tiny_clip_models[family], tmp_path / "model")
    edit(next(copy.glob("*preprocessor_config.json")), crop_size={"height": 16, "width": 16})
    with pytest.raises(UserError, match="makes pictures of 16x16 pixels, the model takes 32x32"):
        make_encoder(f"{family}:{copy}")


def test_a_timesformer_that_sees_no_time_is_refused(tiny_clip_models: dict[str, Path], tmp_path: Path) -> None:
    config = TimesformerModel.from_pretrained(tiny_clip_models["timesformer"]).config
    copy = copied(tiny_clip_models["timesformer"], tmp_path / "model")
    config.attention_type = "space_only"
    TimesformerModel(config).save_pretrained(copy)
    with pytest.raises(UserError, match="sees one picture at a time"):
        make_encoder(f"timesformer:{copy}")
