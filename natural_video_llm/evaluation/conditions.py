"""The faces that a model is given to find out whether it uses the right one, at the right time."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from natural_video_llm.evaluation.reply_records import OTHER_PERSON, OTHER_SESSION
from natural_video_llm.training.dataset import Example, FaceTrack, no_face

SHIFTS_S = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
# The time-shift curve; the conditions above are points of it.
CURVE_S = (-2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

Condition = Callable[[Example], FaceTrack]


def conditions(examples: Sequence[Example], memory_s: float, window_s: float, seed: int) -> dict[str, Condition]:
    """Name → what an example's model is shown. "late" means that the video lags behind the words.

    "other person" is "another session" where all examples are of one person, and is left out where they are of one
    session; "another moment" (of the same person) where somebody has no second one. Everything is drawn from `seed`.
    """
    stranger = OTHER_PERSON if len({e.person for e in examples}) > 1 else OTHER_SESSION
    numbers = {id(e): i for i, e in enumerate(examples)}

    def shuffled(example: Example) -> FaceTrack:
        rng = np.random.default_rng((seed, numbers[id(example)]))
        return shuffle(example, memory_s, window_s, rng)

    return {
        "true": lambda e: e.seen(memory_s),
        "none": no_face,
        **_in_place_of(stranger, examples, _strangers(examples), memory_s, seed),
        **_in_place_of("another moment", examples, _other_moments(examples, window_s), memory_s, seed),
        **{shift_name(s): shifted(s, memory_s) for s in SHIFTS_S},
        "shuffled": shuffled,
        "frozen": lambda e: freeze(e.seen(memory_s), e.target_span_s[0] - window_s),
    }


def shifted(shift_s: float, memory_s: float) -> Condition:
    """The right face, `shift_s` later than it was (earlier where that is negative)."""
    return lambda e: e.seen(memory_s, e.track.later(shift_s))


def shift_name(shift_s: float) -> str:
    return f"{abs(shift_s)} s {'late' if shift_s > 0 else 'early'}"


def moved_to(example: Example, other: Example, memory_s: float) -> FaceTrack:
    """The other example's face on this one's clock: both first predicted tokens fall together."""
    offset_s = example.target_span_s[0] - other.target_span_s[0]
    return example.seen(memory_s, other.track.later(offset_s))


def shuffle(example: Example, memory_s: float, window_s: float, rng: np.random.Generator) -> FaceTrack:
    """The right frames in the wrong order: those that the predicted tokens may see among themselves, and so the older
    ones, of which the temporal encoder's memory holds something."""
    face = example.seen(memory_s)
    older = face.times <= example.target_span_s[0] - window_s
    order = np.concatenate([rng.permutation(np.flatnonzero(older)), rng.permutation(np.flatnonzero(~older))])
    return FaceTrack(face.latents[order], face.times, face.present[order])


def freeze(face: FaceTrack, from_s: float) -> FaceTrack:
    """The first frame with a face at or after `from_s`, held all the time; nobody where there is none."""
    seen = np.flatnonzero(face.present & (face.times >= from_s))
    first = seen[:1] if len(seen) else np.zeros(1, int)
    held = np.repeat(face.latents[first], len(face.times), axis=0) if len(face.times) else face.latents
    return FaceTrack(held, face.times, np.full(len(face.times), len(seen) > 0))


def _in_place_of(
    name: str, examples: Sequence[Example], choices: Iterable[Sequence[Example]], memory_s: float, seed: int
) -> dict[str, Condition]:
    """The condition that shows the face of one of its `choices` in each example's place; none where one has none."""
    rng = np.random.default_rng(seed)
    partners: dict[int, Example] = {}
    for example, some in zip(examples, choices, strict=True):
        if not some:
            return {}
        partners[id(example)] = some[int(rng.integers(len(some)))]
    return {name: lambda e: moved_to(e, partners[id(e)], memory_s)}


def _strangers(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """For each example those of other people, or of other sessions where there is one person."""
    several = len({e.person for e in examples}) > 1
    for example in examples:
        yield [o for o in examples if (o.person != example.person if several else o.session_id != example.session_id)]


def _other_moments(examples: Sequence[Example], window_s: float) -> Iterator[list[Example]]:
    """For each example those of the same session whose windows do not meet its own; where there are none, those of the
    same person's other sessions."""
    people: dict[str, list[Example]] = {}
    for example in examples:
        people.setdefault(example.person, []).append(example)
    for example in examples:
        first_s, last_s = example.target_span_s
        others = people[example.person]
        apart = [
            other
            for other in others
            if other.session_id == example.session_id
            and (other.target_span_s[0] - window_s > last_s or first_s - window_s > other.target_span_s[1])
        ]
        yield apart or [other for other in others if other.session_id != example.session_id]
