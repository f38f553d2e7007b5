"""The adapter that comes with the package reads real strangers, though no real face was in its data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from natural_video_llm.assets import STARTER, starter_folder
from natural_video_llm.capture.sample_corpus import load_corpus
from natural_video_llm.checkpoint import load_base_llm, load_run
from natural_video_llm.evaluation.clip_odds import reply_odds
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.extract_video_latents import encode_segment

Starter = tuple[NaturalVideoLLM, PreTrainedTokenizerBase]


@pytest.fixture(scope="module")
def starter() -> Starter:
    return load_run(Path(STARTER))


@pytest.fixture(scope="module")
def odds_in(starter: Starter, faces_dir: Path) -> Callable[[str, list[float]], np.ndarray]:
    """Bits for the glad against the consoling replies to held-out messages at some moments of a clip, [moments]."""
    choices = [(c.message, c.replies["smile_comes"], c.replies["mouth_droops"]) for c in load_corpus()[-6:]]

    def odds(clip: str, moments_s: list[float]) -> np.ndarray:
        latents, _ = encode_segment(faces_dir / "pyfeat" / clip, make_encoder(starter[0].config.encoder))
        return reply_odds(*starter, latents, choices, latents.times[0] + np.array(moments_s)).mean(1)

    return odds


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in starter_folder().iterdir()) < 10_000_000


def test_without_a_face_it_is_the_base_llm(starter: Starter) -> None:
    model, tokenizer = starter
    ids = torch.tensor([tokenizer("The train was late again, so we walked.")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, load_base_llm().model(ids).logits)


def test_a_stranger_who_cries_and_then_laughs(odds_in: Callable[[str, list[float]], np.ndarray]) -> None:
    crying, laughing = np.split(odds_in("WolfgangLanger_Pexels.mp4", [4.0, 6.0, 8.0, 14.0, 16.0, 18.0]), 2)
    assert crying.mean() < 0 < laughing.mean()
    assert laughing.mean() > crying.mean() + 3


def test_a_stranger_who_begins_to_smile(odds_in: Callable[[str, list[float]], np.ndarray]) -> None:
    neutral, smile = odds_in("single_face.mp4", [0.8, 2.3])
    assert smile > neutral
