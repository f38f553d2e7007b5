"""What every temporal encoder promises: causal, bounded, by time, blind to frames without a face."""

from dataclasses import replace

import pytest
import torch
from tiny_llms import LATENT_SIZE, make_face
from torch import Tensor

from natural_video_llm.models.face import Face
from natural_video_llm.models.temporal_encoder import TEMPORAL_ENCODERS, TemporalEncoder, make_temporal_encoder

SIZE, REACH_S = 24, 0.8
FRAMES = 50


def make_encoder(name: str) -> TemporalEncoder:
    torch.manual_seed(1)
    encoder = make_temporal_encoder(
        name, latent_size=LATENT_SIZE, components=6, size=SIZE, heads=6, layers=2, reach_s=REACH_S
    )
    encoder.basis.fit(torch.randn(200, LATENT_SIZE))
    return encoder.eval()


@pytest.fixture(params=TEMPORAL_ENCODERS)
def encoder(request: pytest.FixtureRequest) -> TemporalEncoder:
    return make_encoder(request.param)


def uneven(face: Face, seed: int = 3) -> Face:
    """The same face filmed by a camera that cannot keep its pace: 4 to 60 frames a second."""
    pauses = torch.rand(face.times.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return replace(face, times=(1 / 60 + pauses**4 / 4).cumsum(1))


def faces() -> list[Face]:
    return [make_face(frames=FRAMES), uneven(make_face(frames=FRAMES))]


def until(face: Face, frames: int) -> Face:
    return Face(face.latents[:, :frames], face.times[:, :frames], face.present[:, :frames])


def changed(face: Face, where: Tensor) -> Face:
    return replace(face, latents=torch.where(where[..., None], face.latents + 3, face.latents))


@torch.no_grad()
def test_gives_one_encoding_a_frame_and_reads_every_number(encoder: TemporalEncoder) -> None:
    face = make_face(frames=FRAMES)
    whole = encoder(face)
    assert whole.shape == (2, FRAMES, SIZE)
    assert not torch.allclose(whole[0], whole[1], atol=0.1)
    other = encoder(changed(face, torch.ones(2, FRAMES, dtype=torch.bool)))
    assert not torch.allclose(whole, other, atol=0.1)
    assert encoder(Face.absent(3, LATENT_SIZE)).shape == (3, 0, SIZE)


@torch.no_grad()
@pytest.mark.parametrize("face", faces(), ids=["even", "uneven"])
def test_later_frames_change_nothing(encoder: TemporalEncoder, face: Face) -> None:
    whole, middle = encoder(face), 20
    after = torch.arange(FRAMES).expand(2, -1) > middle
    moved = encoder(changed(face, after))
    assert torch.equal(moved[:, : middle + 1], whole[:, : middle + 1])
    assert not torch.allclose(moved[:, middle + 1 :], whole[:, middle + 1 :], atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("face", faces(), ids=["even", "uneven"])
def test_frame_by_frame_as_all_at_once(encoder: TemporalEncoder, face: Face) -> None:
    whole = encoder(face)
    for frames in range(1, FRAMES + 1):
        newest = encoder(until(face, frames))[:, -1]
        assert torch.allclose(newest, whole[:, frames - 1], atol=1e-5), frames


@torch.no_grad()
@pytest.mark.parametrize("face", faces(), ids=["even", "uneven"])
def test_only_the_last_memory_s_seconds_matter(encoder: TemporalEncoder, face: Face) -> None:
    for row, last in ((0, 30), (1, 45), (0, FRAMES - 1)):
        one = Face(face.latents[row : row + 1], face.times[row : row + 1], face.present[row : row + 1])
        kept = one.times[0] > one.times[0, last] - encoder.memory_s
        assert not kept.all()
        ring = Face(one.latents[:, kept], one.times[:, kept], one.present[:, kept])
        place = last - int((~kept).sum())
        whole = encoder(one)[0, last]
        assert torch.allclose(encoder(ring)[0, place], whole, atol=1e-5)
        oldest = kept & (one.times[0] < one.times[0, last] - 0.7 * encoder.memory_s)
        assert not torch.allclose(encoder(changed(one, oldest[None]))[0, last], whole, atol=1e-6), "it is no shorter"


@torch.no_grad()
def test_a_frame_without_a_face_is_as_if_it_were_not_there(encoder: TemporalEncoder) -> None:
    face = uneven(make_face(frames=FRAMES))
    there = torch.rand(FRAMES, generator=torch.Generator().manual_seed(5)) > 0.4
    there[:4] = False
    hidden = changed(replace(face, present=there.expand(2, -1)), ~there.expand(2, -1))
    without = Face(face.latents[:, there], face.times[:, there], face.present[:, there])
    encodings = encoder(hidden)
    assert torch.allclose(encodings[:, there], encoder(without), atol=1e-5)
    assert encodings.isfinite().all()


@torch.no_grad()
def test_only_relative_time_counts(encoder: TemporalEncoder) -> None:
    face = uneven(make_face(frames=FRAMES))
    assert torch.allclose(encoder(replace(face, times=face.times + 5000.0)), encoder(face), atol=1e-4)


@torch.no_grad()
def test_the_frame_rate_hardly_matters(encoder: TemporalEncoder) -> None:
    def filmed(rate_hz: float) -> Face:
        times = torch.arange(0.0, 3.0, 1 / rate_hz, dtype=torch.float64)
        place = torch.linspace(0, 2, LATENT_SIZE, dtype=torch.float64)
        movement = torch.sin(2.5 * times[:, None] + 3 * place) + place
        return Face(movement[None].float(), times[None], torch.ones(1, len(times), dtype=torch.bool))

    slow, fast = encoder(filmed(15))[0], encoder(filmed(60))[0, ::4]
    still = replace(filmed(15), latents=filmed(15).latents[:, :1].expand(-1, 45, -1))
    assert (slow - fast)[15:].norm() < 0.35 * (slow - encoder(still)[0])[15:].norm()


@torch.no_grad()
@pytest.mark.parametrize("name", ["attention", "gru", "transformer"])
def test_these_know_the_order_of_frames(name: str) -> None:
    encoder, face = make_encoder(name), make_face(frames=10)
    backwards = replace(face, latents=torch.cat([face.latents[:, :-1].flip(1), face.latents[:, -1:]], 1))
    assert not torch.allclose(encoder(backwards)[:, -1], encoder(face)[:, -1], atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mean", "max"])
def test_these_pool_what_each_frame_gives_by_itself(name: str) -> None:
    encoder, face = make_encoder(name), uneven(make_face(frames=FRAMES))
    alone = encoder.inner(encoder.basis(face.latents))
    for place in range(FRAMES):
        age_s = face.times[0, place] - face.times[0]
        seen = alone[0, (age_s >= 0) & (age_s < REACH_S)]
        expected = encoder.norm(seen.mean(0) if name == "mean" else seen.amax(0))
        assert torch.allclose(encoder(face)[0, place], expected, atol=1e-5)


def test_noise_is_added_while_training_only(encoder: TemporalEncoder) -> None:
    face = make_face(frames=FRAMES)
    encoder.training_noise = 0.5
    with torch.no_grad():
        quiet = encoder(face)
        assert torch.equal(encoder(face), quiet)
        encoder.train()
        assert not torch.allclose(encoder(face), quiet, atol=1e-2)
        encoder.training_noise = 0.0
        assert torch.equal(encoder(face), quiet)


def test_every_weight_learns(encoder: TemporalEncoder) -> None:
    face = make_face(frames=FRAMES)
    hidden = replace(face, present=(torch.arange(FRAMES) % 5 > 0).expand(2, -1))
    (encoder(hidden)[:, 1:] * torch.randn(2, FRAMES - 1, SIZE)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().max() > 0, name


def test_an_unknown_name_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ValueError, match=r"'lstm'; choose one of mean, max, attention, gru, transformer"):
        make_encoder("lstm")
