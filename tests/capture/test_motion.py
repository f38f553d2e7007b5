"""The six motions: backwards pairs, equal statistics of everything but the expression."""

import numpy as np
import pytest

from natural_video_llm.capture.motion import MOTIONS, SWAY, draw_turn, play
from natural_video_llm.capture.portrait import MOVEMENTS
from natural_video_llm.sessions.candidates import ORDER_PAIRS

NOT_EXPRESSION = [MOVEMENTS.index("jaw_down"), MOVEMENTS.index("lids_down")]


def test_there_are_six_motions_with_both_order_pairs() -> None:
    assert len(MOTIONS) == 6
    assert {motion for pair in ORDER_PAIRS for motion in pair} < set(MOTIONS)


@pytest.mark.parametrize(("forwards", "backwards"), ORDER_PAIRS)
def test_a_backwards_motion_is_its_partner_in_reverse(forwards: str, backwards: str) -> None:
    draw = draw_turn(np.random.default_rng(3), 4.0)
    times = np.random.default_rng(4).uniform(0, 4, 50)
    for there, back in zip(play(forwards, draw, times), play(backwards, draw, 4.0 - times), strict=True):
        np.testing.assert_allclose(there, back, atol=1e-12)


@pytest.mark.parametrize(("forwards", "backwards"), ORDER_PAIRS)
def test_an_order_pair_shows_the_same_frames(forwards: str, backwards: str) -> None:
    draw = draw_turn(np.random.default_rng(5), 4.0)
    times = (np.arange(60) + 0.5) / 15
    there, back = (np.hstack(play(motion, draw, times)) for motion in (forwards, backwards))
    assert np.abs(there - back).max() > 0.3
    np.testing.assert_allclose(np.sort(there, axis=0), np.sort(back, axis=0), atol=1e-12)
    np.testing.assert_allclose(there[::-1], back, atol=1e-12)


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_face_goes_between_rest_and_the_held_expression(motion: str) -> None:
    changes = []
    for seed in range(40):
        draw = draw_turn(np.random.default_rng(seed), 3.8)
        weights, _ = play(motion, draw, np.array([0.0, 3.8]))
        weights[:, NOT_EXPRESSION] = 0
        rest, held = weights[::-1] if motion in dict(ORDER_PAIRS).values() else weights
        assert np.abs(rest).max() < 0.3
        changes.append(held.max())
    assert min(changes) > 0.5
    assert max(changes) < 1.8
    assert np.std(changes) > 0.1


def test_motion_is_smooth() -> None:
    times = np.arange(0, 4, 0.001)
    for motion in MOTIONS:
        for seed in range(5):
            weights, sway = play(motion, draw_turn(np.random.default_rng(seed), 4.0), times)
            assert np.abs(np.diff(weights, axis=0)).max() < 0.03
            assert np.abs(np.diff(sway, axis=0)).max() < 0.003


def test_talking_blinks_and_sway_do_not_depend_on_the_motion() -> None:
    draw = draw_turn(np.random.default_rng(8), 4.0)
    times = np.linspace(0, 4, 41)  # symmetric about the middle, so that backwards motions can be compared too
    seen = []
    for motion in MOTIONS:
        weights, sway = play(motion, draw, times)
        both = np.hstack([weights[:, NOT_EXPRESSION], sway])
        seen.append(both[::-1] if motion in dict(ORDER_PAIRS).values() else both)
    for other in seen[1:]:
        np.testing.assert_allclose(seen[0], other, atol=1e-12)
    assert seen[0].shape[1] == 2 + len(SWAY)
    assert seen[0][:, 0].std() > 0.05


def test_talking_blinks_and_sway_have_no_direction_in_time() -> None:
    times = np.arange(0, 4, 1 / 15)
    rises = []
    for seed in range(400):
        weights, sway = play("smile_comes", draw_turn(np.random.default_rng(seed), 4.0), times)
        steps = np.diff(np.hstack([weights[:, NOT_EXPRESSION], sway]), axis=0)
        rises.append((steps**3).mean(axis=0) / (np.abs(steps) ** 3).mean(axis=0).clip(1e-12))
    rises_mean = np.mean(rises, axis=0)
    assert np.all(np.abs(rises_mean) < 4 * np.std(rises, axis=0) / np.sqrt(len(rises)) + 1e-9)
