"""The faces that a model is given to find out whether it uses the right one, at the right time."""

from collections.abc import Callable, Sequence

import numpy as np

from natural_video_llm.training.dataset import Example, FaceTrack, no_face

SHIFTS_S = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)

Condition = Callable[[Example], FaceTrack]


def conditions(examples: Sequence[Example], memory_s: float, window_s: float, seed: int) -> dict[str, Condition]:
    """Name → what an example's model is shown. "late" means that the video lags behind the words.

    Conditions draw by (seed, example), so that they are the same whatever else is evaluated.
    """
    others = dict(zip(map(id, examples), _partners(examples, seed), strict=True))
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
        "other person": other_person,
        **shifts,
        "shuffled": shuffled,
        "frozen": lambda e: freeze(e.seen(memory_s), e.target_span_s[0] - window_s),
    }


def moved_to(example: Example, other: Example, memory_s: float) -> FaceTrack:
    """The other example's face on this one's clock: both first predicted tokens fall together."""
    offset_s = example.target_span_s[0] - other.target_span_s[0]
    return example.seen(memory_s, other.track.later(offset_s))


def shuffle(example: Example, memory_s: float, window_s: float, rng: np.random.Generator) -> FaceTrack:
    """The right frames in the wrong order, over all that the predicted tokens may see."""
    face = example.seen(memory_s)
    first_s, last_s = example.target_span_s
    rows = np.flatnonzero((face.times > first_s - window_s) & (face.times <= last_s))
    order = np.arange(len(face.times))
    order[rows] = rng.permutation(rows)
    # Frames from before the window reach it through the temporal encoder's memory, in their true order: leave them out.
    visible = (face.times > first_s - window_s) & face.present[order]
    return FaceTrack(face.latents[order], face.times, visible)


def freeze(face: FaceTrack, from_s: float) -> FaceTrack:
    """The first frame with a face at or after `from_s`, held."""
    seen = np.flatnonzero(face.present & (face.times >= from_s))
    if not len(seen):
        return face
    held = np.repeat(face.latents[seen[:1]], len(face.times), axis=0)
    return FaceTrack(held, face.times, face.times >= face.times[seen[0]])


def _partners(examples: Sequence[Example], seed: int) -> list[Example]:
    """For each example another one: of another person, or of another session where there is one person."""
    rng = np.random.default_rng(seed)
    several = len({e.person for e in examples}) > 1
    partners = []
    for example in examples:
        strangers = [
            e for e in examples if (e.person != example.person if several else e.session_id != example.session_id)
        ]
        partners.append(strangers[rng.integers(len(strangers))] if strangers else example)
    return partners
