"""What each condition shows, on a track whose every frame tells which one it is."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from natural_video_llm.evaluation.conditions import SHIFTS_S, Condition, conditions, freeze, moved_to, shuffle
from natural_video_llm.training.dataset import Example, FaceTrack

MEMORY_S, WINDOW_S = 5.0, 3.0
TOKENS, FIRST_TARGET = 12, 5


def make_example(
    person: str = "a", session: str | None = None, start_s: float = 8.0, seconds: float = 30.0, seed: int = 0
) -> Example:
    """Frames at an uneven rate, each of its own number and its track's `seed`, some without a face; twelve tokens a
    tenth of a second apart, the last seven of them to be predicted."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.03, 0.12, int(seconds / 0.075)))
    latents = np.stack([np.arange(len(times)), np.full(len(times), seed)], axis=1).astype(np.float16)
    present = rng.random(len(times)) > 0.1
    return Example(
        session_id=session or person,
        person=person,
        prompt="question",
        reply="some words of an answer",
        ids=np.arange(TOKENS),
        times=start_s + np.arange(TOKENS) / 10,
        target=np.arange(TOKENS) >= FIRST_TARGET,
        track=FaceTrack(latents, times, present),
    )


def shown(examples: list[Example], seed: int = 0) -> dict[str, Condition]:
    return conditions(examples, MEMORY_S, WINDOW_S, seed)


def numbers_of(face: FaceTrack) -> list[int]:
    return [int(x) for x in face.latents[:, 0]]


def track_of(face: FaceTrack) -> int:
    (seed,) = {int(x) for x in face.latents[:, 1]}
    return seed


def test_the_conditions_are_those_of_the_report() -> None:
    examples = [make_example(person, start_s=start_s) for person in "ab" for start_s in (6.0, 20.0)]
    assert set(shown(examples)) == {
        *("true", "none", "other person", "another moment", "shuffled", "frozen"),
        *(f"{s} s {way}" for s in (0.5, 1.0, 2.0) for way in ("early", "late")),
    }


def test_true_is_all_that_any_token_can_see() -> None:
    example = make_example()
    face = shown([example])["true"](example)
    times = example.track.times
    wanted = (times > example.times[1] - MEMORY_S) & (times <= example.times[-1])
    assert numbers_of(face) == np.flatnonzero(wanted).tolist()
    assert len(shown([example])["none"](example).times) == 0


@pytest.mark.parametrize("seconds", SHIFTS_S)
def test_shifts_move_the_face_by_exactly_their_name(seconds: float) -> None:
    example = make_example()
    name = f"{abs(seconds)} s {'late' if seconds > 0 else 'early'}"
    face = shown([example])[name](example)
    rows = numbers_of(face)
    assert np.array_equal(face.times, example.track.times[rows] + seconds)
    assert np.array_equal(face.present, example.track.present[rows])
    inside = (face.times > example.times[1] - MEMORY_S) & (face.times <= example.times[-1])
    assert inside.all()
    assert rows == list(range(rows[0], rows[-1] + 1))
    # Nothing that a token may see is missing: the next frame either way lies outside.
    assert example.track.times[rows[-1] + 1] + seconds > example.times[-1]
    assert example.track.times[rows[0] - 1] + seconds <= example.times[1] - MEMORY_S


@given(seed=st.integers(0, 50), start_s=st.floats(6.0, 25.0))
def test_shuffled_holds_the_same_frames_of_the_window(seed: int, start_s: float) -> None:
    example = make_example(start_s=start_s, seed=seed)
    first_s, last_s = example.target_span_s
    face = shuffle(example, MEMORY_S, WINDOW_S, np.random.default_rng(seed))
    for after_s, until_s in ((-np.inf, first_s - WINDOW_S), (first_s - WINDOW_S, last_s)):
        straight = example.seen(MEMORY_S).between(after_s, until_s)
        mixed = face.between(after_s, until_s)
        seen = numbers_of(replace(straight, latents=straight.latents[straight.present]))
        shuffled = numbers_of(replace(mixed, latents=mixed.latents[mixed.present]))
        assert sorted(shuffled) == seen
        assert shuffled != seen
    assert np.array_equal(face.times, example.seen(MEMORY_S).times)


def test_frozen_holds_one_frame_with_a_face() -> None:
    example = make_example()
    face = shown([example])["frozen"](example)
    (number,) = set(numbers_of(face))
    assert example.track.present[number]
    from_s = example.target_span_s[0] - WINDOW_S
    earlier = (example.track.times >= from_s) & (np.arange(len(example.track.times)) < number)
    assert not example.track.present[earlier].any(), "it is the first one of the window"
    assert face.present.all()


def test_frozen_without_any_face_in_the_window_shows_none() -> None:
    example = make_example()
    gone = replace(example.track, present=np.zeros(len(example.track.times), bool))
    face = freeze(gone.between(3.0, 9.0), 5.0)
    assert not face.present.any()


def test_another_person_is_another_person_in_step() -> None:
    people = "aaabbbccc"
    examples = [make_example(p, f"{p}{i}", 7.0 + i % 3, seed=i) for i, p in enumerate(people)]
    condition = shown(examples)["other person"]
    for example, seed in itertools.product(examples, range(5)):
        face = shown(examples, seed)["other person"](example)
        partner = track_of(face)
        assert people[partner] != example.person
        other = examples[partner]
        offset_s = example.target_span_s[0] - other.target_span_s[0]
        assert np.array_equal(face.times, other.track.times[numbers_of(face)] + offset_s)
        assert np.array_equal(face.times, moved_to(example, other, MEMORY_S).times)
    partners = [track_of(condition(e)) for e in examples]
    assert len(set(partners)) > 2, "not one for all"
    assert [track_of(shown(examples)["other person"](e)) for e in examples] == partners


def test_another_moment_is_the_same_persons_own_and_apart() -> None:
    examples = [make_example(p, p, start_s, seed=i) for i, p in enumerate("ab") for start_s in (6.0, 7.0, 16.0, 20.0)]
    for seed in range(5):
        for example in examples:
            face = shown(examples, seed)["another moment"](example)
            track = example.track
            assert track_of(face) == track.latents[0, 1], "the same person"
            offset_s = float(face.times[0] - track.times[numbers_of(face)[0]])
            (start_s,) = {e.times[0] for e in examples if abs(example.times[0] - e.times[0] - offset_s) < 1e-6}
            assert abs(start_s - example.times[0]) > WINDOW_S, "not the utterance before, whose window is the same"


def test_another_moment_comes_from_another_session_where_a_session_has_one() -> None:
    examples = [make_example("a", f"a{i}", seed=i) for i in range(2)] + [
        make_example("b", f"b{i}", seed=9) for i in "01"
    ]
    faces = shown(examples)["another moment"]
    assert [track_of(faces(e)) for e in examples[:2]] == [1, 0]
    assert "another moment" not in shown([*examples, make_example("c")]), "somebody has none"


def test_of_one_person_another_session_stands_in() -> None:
    examples = [make_example("a", f"s{i}", seed=i) for i in range(3)]
    condition = shown(examples)["another session"]
    assert "other person" not in shown(examples)
    for number, example in enumerate(examples):
        assert track_of(condition(example)) != number


def test_the_same_seed_shuffles_alike_and_another_otherwise() -> None:
    examples = [make_example(seed=i, session=str(i)) for i in range(2)]
    orders = [numbers_of(shown(examples, seed)["shuffled"](examples[0])) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_with_nobody_else_there_is_no_other_person() -> None:
    assert not {"other person", "another session"} & set(shown([make_example(seed=1), make_example(seed=2)]))
