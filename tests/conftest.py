"""Fixtures shared by all tests."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from natural_video_llm import assets
from natural_video_llm.capture.sample_speaker import write_sample_sessions
from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.preprocessing.encoders import Encoded, Encoder, Frame
from natural_video_llm.preprocessing.encoders.clip_window import ClipWindow

FACES_DIR = Path(__file__).resolve().parents[2] / "shared" / "faces"


@pytest.fixture(scope="session")
def faces_dir() -> Path:
    """Folder of real faces (never part of the project); tests that need it skip where it is absent."""
    if not FACES_DIR.is_dir():
        pytest.skip(f"real faces are not on this machine (looked in {FACES_DIR})")
    return FACES_DIR


@pytest.fixture(scope="session")
def face_task_file() -> Path:
    """The real landmark nets, fetched into the user's cache on first use."""
    return assets.face_landmarker_file()


@pytest.fixture(scope="session")
def llm_dir() -> str:
    """The real default LLM, fetched into the user's cache on first use."""
    return assets.llm_folder()


@pytest.fixture(scope="session")
def tiny_llm(llm_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLM of two layers with the real tokenizer, on disk."""
    folder = tmp_path_factory.mktemp("llm")
    tokenizer = load_tokenizer(llm_dir)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.3, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sessions(tmp_path_factory: pytest.TempPathFactory, face_task_file: Path) -> Path:
    """Sample sessions of three people, one held out, three turns each; a test that writes takes a copy."""
    out = tmp_path_factory.mktemp("tiny_sessions")
    write_sample_sessions(
        out,
        face_task_file,
        people=3,
        held_out_people=1,
        held_out_messages=3,
        turns=3,
        rate_hz=10,
        workers=1,
    )
    return out


@pytest.fixture(scope="session")
def tiny_clip_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each family of clips with its processor, saved; 32 numbers, random weights."""
    from transformers import (
        TimesformerConfig,
        TimesformerModel,
        VideoMAEConfig,
        VideoMAEImageProcessor,
        VideoMAEModel,
        VJEPA2Config,
        VJEPA2Model,
    )

    common = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}
    feed_forward = {"image_size": 32, "intermediate_size": 64}
    predictor = {"pred_hidden_size": 32, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    torch.manual_seed(0)
    models = {
        "timesformer": TimesformerModel(TimesformerConfig(**common, **feed_forward, num_frames=8)),
        "videomae": VideoMAEModel(VideoMAEConfig(**common, **feed_forward, num_frames=4)),
        "vjepa2": VJEPA2Model(VJEPA2Config(**common, **predictor, crop_size=32, frames_per_clip=6)),
    }
    folder = tmp_path_factory.mktemp("clip_models")
    for kind, model in models.items():
        model.save_pretrained(folder / kind)
        if kind != "vjepa2":
            size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
            VideoMAEImageProcessor(**size).save_pretrained(folder / kind)
    # What its processor saves: the class itself cannot be imported without torchvision.
    content = {
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "return_metadata": False,
        "size": {"shortest_edge": 36},
        "video_processor_type": "VJEPA2VideoProcessor",
    }
    (folder / "vjepa2" / "video_preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
    return {kind: folder / kind for kind in models}


class _OwnEncoder:
    """An encoder as somebody may write one: the brightness of a picture, after a while."""

    latent_size, units, needs, weights_sha256 = 1, "brightness", "patience", "0" * 64

    def __init__(self, took_s: float, stride_s: float | None) -> None:
        self.name, self.rate_hz = "own", None if stride_s is None else 1 / stride_s
        self.window_s = stride_s or 0.0
        self._took_s, self._window = took_s, ClipWindow(2, self.window_s or 1.0, stride_s or 1e-4)

    def reset(self) -> None:
        self._window.reset()

    def encode(self, frames: Sequence[Frame]) -> Encoded:
        clips = [clip for time_s, rgb in frames if (clip := self._window.add(time_s, rgb, 1)) is not None]
        time.sleep(self._took_s * len(clips))
        latents = np.array([[clip.pictures[-1].mean() / 255] for clip in clips], np.float16).reshape(-1, 1)
        return Encoded(latents, np.array([clip.time_s for clip in clips]), np.ones(len(clips), np.uint8))


@pytest.fixture(scope="session")
def own_encoder() -> Callable[[float, float | None], Encoder]:
    """Makes an encoder that takes so many seconds for a latent; of clips, where a stride in seconds is given."""
    return _OwnEncoder
