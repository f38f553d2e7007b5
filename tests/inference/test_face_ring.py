"""Encodings of a stream are those of the whole, and no more of them are kept than must."""

import numpy as np
import pytest
import torch
from live_models import POINTS_SIZE, adapted, tiny_llama
from transformers import PreTrainedTokenizerBase

from natural_video_llm.inference.face_ring import FaceRing
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.temporal_encoder import TEMPORAL_ENCODERS, make_temporal_encoder

RATE_HZ = 15.0


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerBase) -> NaturalVideoLLM:
    return adapted(tiny_llama(tokenizer))


def stream(frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(frames, 2 * POINTS_SIZE)).astype(np.float16)
    return np.arange(frames) / RATE_HZ + rng.uniform(0, 0.02, frames), latents, rng.random(frames) > 0.2


@pytest.mark.parametrize("name", TEMPORAL_ENCODERS)
def test_streamed_is_batch(model: NaturalVideoLLM, name: str) -> None:
    own = model.temporal_encoder
    sizes = {"latent_size": 2 * POINTS_SIZE, "components": 6, "size": 24, "heads": 6, "layers": 2, "reach_s": 1.0}
    model.temporal_encoder = make_temporal_encoder(name, **sizes).eval()
    model.temporal_encoder.basis.load_state_dict(own.basis.state_dict())
    times, latents, present = stream(120)
    ring = FaceRing(model)
    for number, row in enumerate(zip(times, latents, present, strict=True)):
        ring.add(float(row[0]), row[1], bool(row[2]))
        if number % 7 == 0:
            ring.encode()
    seen = ring.seen(0.0, float(times[-1]))
    whole = Face(torch.from_numpy(latents)[None], torch.from_numpy(times)[None], torch.from_numpy(present)[None])
    with torch.no_grad():
        expected = model.encode(whole)
    model.temporal_encoder = own
    assert torch.equal(seen.times, expected.times)
    there = expected.present
    assert torch.equal(seen.present, there)
    assert torch.allclose(seen.encodings[there], expected.encodings[there], atol=1e-4)


def test_only_what_a_token_can_see_is_given(model: NaturalVideoLLM) -> None:
    times, latents, present = stream(150)
    ring = FaceRing(model)
    for row in zip(times, latents, present, strict=True):
        ring.add(float(row[0]), row[1], bool(row[2]))
    window_s = model.config.window_s
    part = ring.seen(6.0, 7.0)
    assert part.times.min() > 6.0 - window_s
    assert 6.8 < part.times.max() <= 7.0
    assert ring.seen(6.0, 7.0) is part, "the same until something changes"
    assert ring.seen(6.0, 7.5) is not part
    assert ring.seen(-9.0, -8.0).times.shape == (1, 0)


def test_an_hour_costs_what_a_minute_costs(model: NaturalVideoLLM) -> None:
    ring, latent = FaceRing(model), np.zeros(2 * POINTS_SIZE, np.float16)
    kept = []
    for number in range(6000):
        if ring.add(number / RATE_HZ, latent, present=True):
            ring.encode()
            kept.append(len(ring._times_s) + len(ring._past))
    assert max(kept[len(kept) // 2 :]) <= max(kept[: len(kept) // 2])
    assert max(kept) < 70 * RATE_HZ
    for number in range(2000):  # nobody computes
        ring.add(9e5 + number, latent, present=True)
    assert len(ring._waiting) <= 512


def test_before_the_first_frame_nobody_is_in_view(model: NaturalVideoLLM) -> None:
    seen = FaceRing(model).seen(0.0, 1.0)
    assert seen.encodings.shape == (1, 0, model.config.face_size)
    assert seen.times.shape == seen.present.shape == (1, 0)
