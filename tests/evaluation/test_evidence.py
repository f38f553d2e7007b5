"""Figures with known answers: conditions, choices, intervals."""

import math

import numpy as np
import pytest

from natural_video_llm.evaluation.conditions import conditions, freeze, moved_to, shuffle
from natural_video_llm.evaluation.evidence import Choices, Scores, bits_gained, bits_per_token
from natural_video_llm.training.dataset import Example, FaceTrack

MEMORY_S, WINDOW_S = 3.0, 2.0


def make_example(person: str = "a", start_s: float = 5.0, seed: int = 0) -> Example:
    """Ten tokens a tenth of a second apart, the last six of them to be predicted; 10 frames a second."""
    rng = np.random.default_rng(seed)
    times = np.arange(0, 12, 0.1)
    track = FaceTrack(rng.normal(size=(len(times), 2)).astype(np.float16), times, np.ones(len(times), bool))
    target = np.arange(10) >= 4
    return Example(
        person + str(seed),
        person,
        "question",
        "six words of a reply here",
        np.arange(10),
        start_s + np.arange(10) / 10,
        target,
        track,
    )


def test_shuffled_holds_the_same_frames_in_another_order() -> None:
    example = make_example()
    first_s, last_s = example.target_span_s
    face = shuffle(example, MEMORY_S, WINDOW_S, np.random.default_rng(0))
    for after_s, until_s in ((-np.inf, first_s - WINDOW_S), (first_s - WINDOW_S, last_s)):
        straight = example.seen(MEMORY_S).between(after_s, until_s).latents
        mixed = face.between(after_s, until_s).latents
        assert sorted(map(tuple, mixed.tolist())) == sorted(map(tuple, straight.tolist()))
        assert not np.array_equal(mixed, straight), "older frames are not in their true order either"


def test_frozen_holds_the_first_visible_frame() -> None:
    example = make_example()
    face = freeze(example.seen(MEMORY_S), 4.0)
    shown = face.latents[face.present]
    assert (shown == example.track.latents[40]).all()
    assert face.present.all()


def test_shifts_show_older_or_newer_faces() -> None:
    example = make_example()
    shown = conditions([example, make_example("b", seed=1)], MEMORY_S, WINDOW_S, seed=0)
    now = shown["true"](example)
    late, early = shown["0.5 s late"](example), shown["0.5 s early"](example)
    at = example.target_span_s[1]

    def newest(face: FaceTrack) -> np.ndarray:
        return face.latents[face.times <= at + 1e-9][-1]

    frame = round(at * 10)
    assert (newest(now) == example.track.latents[frame]).all()
    assert (newest(late) == example.track.latents[frame - 5]).all()
    assert (newest(early) == example.track.latents[frame + 5]).all()
    assert len(shown["none"](example).times) == 0


def test_another_person_is_another_person_in_step() -> None:
    examples = [make_example("a", 5.0, 0), make_example("a", 5.0, 1), make_example("b", 6.0, 2)]
    shown = conditions(examples, MEMORY_S, WINDOW_S, seed=0)["other person"]
    for example in examples[:2]:
        expected = moved_to(example, examples[2], MEMORY_S)
        assert np.array_equal(shown(example).latents, expected.latents)
        assert np.allclose(expected.times, examples[2].seen(MEMORY_S).times - 1.0)


def test_choice_bits_by_hand() -> None:
    choices = Choices(np.array([[0.0, 0.0, 0.0, 0.0], [20.0, 0.0, 0.0, 0.0]]), np.array([2, 0]))
    assert choices.log2_probability == pytest.approx([-2.0, 0.0], abs=1e-4)
    assert choices.correct.tolist() == [0.25, 1.0]
    people = ["a", "b"]
    assert choices.choice_bits(people).value == pytest.approx(1.0, abs=1e-4)
    assert choices.right_share(people).value == pytest.approx(0.625)
    narrowed = choices.between(np.array([[False, True, True, False], [True, True, False, False]]))
    assert narrowed.right.tolist() == [1, 0]
    assert narrowed.log2_probability == pytest.approx([-1.0, 0.0], abs=1e-4)


def test_bits_by_hand() -> None:
    good, bad = Scores([np.array([-1.0, -1.0]), np.array([-2.0])]), Scores([np.array([-2.0, -2.0]), np.array([-2.0])])
    people = ["a", "b"]
    assert bits_per_token(good, people).value == pytest.approx(4 / 3)
    assert bits_gained(good, bad, people, np.array([1, 1])).value == pytest.approx(1.0)


def test_paired_differences_are_tighter_than_unpaired_ones() -> None:
    rng = np.random.default_rng(0)
    people = [str(i) for i in range(30)]
    base = rng.normal(10, 5, 30)
    worse = Scores([np.array([-x]) for x in base])
    better = Scores([np.array([-x + 0.5]) for x in base])
    gained = bits_gained(better, worse, people, np.ones(30))
    assert gained.value == pytest.approx(0.5)
    assert gained.low == pytest.approx(0.5)
    assert gained.high == pytest.approx(0.5)
    spread = bits_per_token(worse, people)
    assert spread.high - spread.low > 1
    assert math.isclose(spread.value, base.mean())
