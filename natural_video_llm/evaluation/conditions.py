"""The faces that a model is given to find out whether it uses the right one, at the right time."""

from collections.abc import Callable, Sequence

import numpy as np

from natural_video_llm.training.dataset import Example, FaceTrack, no_face

SHIFTS_S = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)

Condition = Callable[[Example], FaceTrack]


def conditions(examples: Sequence[Example], memory_s: float, window_s: float, seed: int) -> dict[str, Condition]:
    """Name → what an example's model is shown. "late" means that the video lags behind the words.

    "other person" is left out where there is nobody else. Everything is drawn from `seed`.
    """
    others = {id(e): other for e, other in zip(examples, _partners(examples, seed), strict=True) if other is not None}
    numbers = {id(e): i for i, e in enumerate(examples)}

    def other_person(example: Example) -> FaceTrack:
        return moved_to(example, others[id(example)], memory_s)

    def shuffled(example: Example) -> FaceTrack:
        rng = np.random.default_rng((seed, numbers[id(example)]))
        return shuffle(example, memory_s, window_s, rng)

    shifts = {
        f"{abs(s)} s {'late' if s > 0 else 'early'}": (lambda e, s=s: e.seen(memory_s, e.track.later(s)))
        for s in SHIFTS_S
    }
    return {
        "true": lambda e: e.seen(memory_s),
        "none": no_face,
        **({"other person": other_person} if len(others) == len(examples) else {}),
        **shifts,
        "shuffled": shuffled,
        "frozen": lambda e: freeze(e.seen(memory_s), e.target_span_s[0] - window_s),
    }


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


def _partners(examples: Sequence[Example], seed: int) -> list[Example | None]:
    """For each example another one: of another person, or of another session where there is one person; None where
    there is none."""
    rng = np.random.default_rng(seed)
    several = len({e.person for e in examples}) > 1
    partners: list[Example | None] = []
    for example in examples:
        strangers = [
            e for e in examples if (e.person != example.person if several else e.session_id != example.session_id)
        ]
        partners.append(strangers[rng.integers(len(strangers))] if strangers else None)
    return partners
