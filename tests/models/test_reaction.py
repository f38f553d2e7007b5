"""The face ahead: what is asked, what is known of it, what the baselines say, and that it is learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_llms import VOCABULARY, make_face, make_llm, make_model
from torch import Tensor

from natural_video_llm.models.face import Face, SeenFace
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.reaction import HORIZONS_S, TOLERANCE_S, Moments, Reaction, ReactionHead
from natural_video_llm.models.temporal_encoder import LatentBasis

COMPONENTS, HIDDEN, FACE_SIZE = 3, 8, 12


def make_head() -> ReactionHead:
    torch.manual_seed(0)
    head = ReactionHead(HIDDEN, FACE_SIZE, COMPONENTS)
    torch.nn.init.normal_(head.out[1].weight)
    return head


def unit_basis() -> LatentBasis:
    """Latents that are their own components: COMPONENTS numbers as they are, as many relative to the neutral."""
    basis = LatentBasis(2 * COMPONENTS, COMPONENTS)
    basis.directions.copy_(torch.eye(COMPONENTS))
    return basis


def moving(frames: int = 60, rate_hz: float = 15.0, slope: float = 0.4) -> Face:
    """A face that moves along a straight line, each component at another speed."""
    times = torch.arange(frames, dtype=torch.float64) / rate_hz
    as_is = slope * times[:, None] * torch.arange(1.0, COMPONENTS + 1)
    return Face(torch.cat([as_is, as_is - 1], -1)[None].float(), times[None], torch.ones(1, frames, dtype=torch.bool))


def seen(face: Face) -> SeenFace:
    encodings = torch.randn(*face.times.shape, FACE_SIZE, generator=torch.Generator().manual_seed(1))
    return SeenFace(encodings, face.times, face.present)


def react(head: ReactionHead, times: list[float], face: Face, future: Face, rows: list[int] | None = None) -> Reaction:
    hidden = torch.randn(len(times), HIDDEN, generator=torch.Generator().manual_seed(2))
    moments = Moments(hidden, torch.tensor(times, dtype=torch.float64), torch.tensor(rows or [0] * len(times)))
    with torch.no_grad():
        return head(moments, unit_basis(), face, seen(face), future)


def test_what_happened_and_what_the_baselines_expected_by_hand() -> None:
    face = moving()
    reaction = react(make_head(), [1.0, 1.4], face, face)
    assert reaction.known.all()
    speed = 0.4 * torch.arange(1.0, COMPONENTS + 1)
    for place, horizon_s in enumerate(HORIZONS_S):
        for moment in range(2):
            # The nearest frame is up to half a frame off.
            assert reaction.actual[moment, place] == pytest.approx(
                (speed * horizon_s).tolist(), abs=0.5 / 15 * 1.2 + 1e-4
            )
            assert reaction.continued[moment, place] == pytest.approx((speed * horizon_s).tolist(), abs=1e-3)
    assert reaction.relaxed[0, 0] == pytest.approx((1 - speed * 1.0).tolist(), abs=1e-5)
    errors = reaction.squared_errors()
    assert errors["stays as it is"][0] == pytest.approx(reaction.actual[0].square().mean(-1).tolist())
    assert float(errors["linear extrapolation"].max()) < 1e-3
    assert reaction.loss() == pytest.approx(float(errors["model"].mean()), rel=1e-5)
    assert reaction.loss(moments=4) == pytest.approx(float(errors["model"].mean()) / 2, rel=1e-5)


def test_untrained_it_says_that_a_face_goes_back_to_its_neutral() -> None:
    torch.manual_seed(0)
    reaction = react(ReactionHead(HIDDEN, FACE_SIZE, COMPONENTS), [1.0], moving(), moving())
    assert torch.equal(reaction.predicted, reaction.relaxed)
    assert not torch.equal(reaction.predicted, torch.zeros(1, len(HORIZONS_S), COMPONENTS))


def test_only_what_came_before_a_moment_is_used_for_its_prediction() -> None:
    head, face = make_head(), moving()
    before = react(head, [1.0], face, face)
    later = (face.times > 1.0)[..., None]
    changed = replace(face, latents=torch.where(later, face.latents + 5, face.latents))
    after = react(head, [1.0], changed, changed)
    for name in ("predicted", "continued", "relaxed"):
        assert torch.equal(getattr(after, name), getattr(before, name))
    assert not torch.allclose(after.actual, before.actual, atol=0.1)
    earlier = (face.times <= 1.0)[..., None]
    moved = react(head, [1.0], replace(face, latents=torch.where(earlier, face.latents + 5, face.latents)), face)
    assert not torch.allclose(moved.predicted, before.predicted, atol=1e-2)


def test_a_moment_without_a_frame_near_enough_does_not_count() -> None:
    face = moving(frames=30)  # ends just before 2 s
    known = react(make_head(), [0.6, 1.2, 1.45], face, face).known
    assert known.tolist() == [[True, True, False], [True, False, False], [True, False, False]]
    hidden = replace(face, present=(face.times < 1.0 - TOLERANCE_S) | (face.times >= 1.4))
    assert react(make_head(), [1.0], hidden, face).known.tolist() == [[False] * 3], "nobody in view now"
    assert react(make_head(), [0.5], face, hidden).known.tolist() == [[False, True, False]], "nobody in view then"


@pytest.mark.parametrize("empty", ["face", "future"])
def test_without_frames_nothing_is_known_and_the_loss_is_zero(empty: str) -> None:
    nobody = Face.absent(1, 2 * COMPONENTS)
    faces = {"face": moving(), "future": moving(), empty: nobody}
    reaction = react(make_head(), [1.0], faces["face"], faces["future"])
    assert not reaction.known.any()
    assert float(reaction.loss()) == 0.0
    assert reaction.predicted.isfinite().all()


def test_one_frame_has_no_slope() -> None:
    face = moving()
    lone = replace(face, present=face.times == face.times[0, 15])
    assert torch.equal(react(make_head(), [1.0], lone, face).continued, torch.zeros(1, len(HORIZONS_S), COMPONENTS))


def test_each_moment_looks_at_its_own_row() -> None:
    slow, fast = moving(slope=0.2), moving(slope=0.9)
    both = Face(*(torch.cat([getattr(f, name) for f in (slow, fast)]) for name in ("latents", "times", "present")))
    reaction = react(make_head(), [1.0, 1.0], both, both, rows=[1, 0])
    for moment, face in enumerate((fast, slow)):
        alone = react(make_head(), [1.0], face, face)
        for name in ("actual", "continued", "relaxed"):
            assert torch.equal(getattr(reaction, name)[moment], getattr(alone, name)[0])


def swinging(seed: int) -> Face:
    """Many faces that swing at one speed, each from a place of its own: neither staying nor going on is right."""
    generator = torch.Generator().manual_seed(seed)
    times = torch.arange(60, dtype=torch.float64) / 15
    phase = 6.3 * torch.rand(16, 1, COMPONENTS, generator=generator)
    as_is = torch.sin(2.4 * times.float()[None, :, None] + phase)
    return Face(torch.cat([as_is, as_is], -1), times.expand(16, -1), torch.ones(16, 60, dtype=torch.bool))


def test_it_learns_a_movement_that_both_baselines_get_wrong() -> None:
    torch.manual_seed(0)
    head = ReactionHead(HIDDEN, FACE_SIZE, COMPONENTS)
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)

    def reaction(seed: int) -> Reaction:
        face = swinging(seed)
        blank = SeenFace(torch.zeros(16, 60, FACE_SIZE), face.times, face.present)
        times = torch.full((16,), 1.5, dtype=torch.float64)
        return head(Moments(torch.zeros(16, HIDDEN), times, torch.arange(16)), unit_basis(), face, blank, face)

    for step in range(150):
        optimiser.zero_grad()
        reaction(step).loss().backward()
        optimiser.step()
    with torch.no_grad():
        errors = {name: float(e.mean()) for name, e in reaction(1000).squared_errors().items()}
    assert errors["model"] < 0.2 * min(errors["stays as it is"], errors["linear extrapolation"])


IDS = torch.randint(0, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(3))
TIMES = torch.linspace(1.0, 1.9, 6, dtype=torch.float64).expand(2, -1)


def whole_reaction(model: NaturalVideoLLM, keep: Tensor) -> Reaction:
    face = make_face()
    now = Face(face.latents[:, :30], face.times[:, :30], face.present[:, :30])
    out = model(IDS, TIMES, now, keep=keep)
    return model.react(out, keep, TIMES, now, face)


def test_the_loss_reaches_text_and_face_of_the_fused_model() -> None:
    model = make_model(make_llm("llama"), reaction=True)
    torch.nn.init.normal_(model.reaction.out[1].weight)
    keep = torch.zeros(2, 6, dtype=torch.bool)
    keep[0, 2:] = keep[1, :3] = True
    reaction = whole_reaction(model, keep)
    assert reaction.predicted.shape == (7, len(HORIZONS_S), model.config.components)
    assert reaction.known.all()
    reaction.loss().backward()
    for name in (
        "reaction.text.1.weight",
        "temporal_encoder.inner.weight",
        "blocks.3.gate",
        "blocks.1.attention.out.weight",
    ):
        assert dict(model.named_parameters())[name].grad.abs().max() > 0, name
    assert all(p.grad is None for p in model.llm.parameters())


def test_the_head_is_saved_with_the_model_that_has_one(tmp_path: Path) -> None:
    model = make_model(make_llm("llama"), reaction=True)
    torch.nn.init.normal_(model.reaction.out[1].weight)
    model.save_pretrained(tmp_path)
    loaded = NaturalVideoLLM.from_pretrained(tmp_path, make_llm("llama")).eval()
    keep = torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(whole_reaction(loaded, keep).predicted, whole_reaction(model, keep).predicted)


def test_a_model_without_a_head_says_so() -> None:
    with pytest.raises(ValueError, match="reaction=True"):
        whole_reaction(make_model(make_llm("llama")), torch.ones(2, 6, dtype=torch.bool))
