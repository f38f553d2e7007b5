"""Is the face used: the right one, at the right time? In words, with the figures.

The face counts as used where the right one beats, each with its whole 95 % interval above zero,

1. no face,
2. another person's face (another session's where there is one person),
3. the same person's face at another moment (2 s early and 2 s late where there is no other moment),
4. and, where it was measured, the background alone.

All have to hold, so that no correction for several tests is due: whichever of them is false in truth is taken for true
in at most 2.5 % of data (an intersection-union test, Berger 1982, Technometrics 24). It counts as not used where one
of these gains is shown to be too small to matter. Anything else cannot be told.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from natural_video_llm.evaluation.statistics import Estimate, clusters_needed

# Of what a word costs without a face: a gain below that is not worth a camera.
WORTH_HAVING = 0.01
_ALWAYS = ("none", "other person", "another session")
_MOMENT, _SHIFTED, _BACKGROUND = "another moment", ("2.0 s early", "2.0 s late"), "background only"
_IN_WORDS = {
    "none": "no face",
    "other person": "another person's face",
    "another session": "another session's face",
    "another moment": "the same person's face at another moment",
    "2.0 s early": "the face 2 s early",
    "2.0 s late": "the face 2 s late",
    "background only": "the background alone",
    "identity only": "a still of the same person",
    "shuffled": "the frames in the wrong order",
    "frozen": "a frozen face",
    "text-only twin": "the text-only twin",
}
# What is not needed for "used" and says how it is used.
_FURTHER = ("identity only", "shuffled", "frozen", "text-only twin")


def judge(gains: Mapping[str, Estimate], bits_per_word: float, clusters: int, people: int) -> dict[str, Any]:
    """The verdict for eval.json: `face`, `words`, `needed_people`.

    Args:
        gains: bits per word that the true face saves over each condition.
        bits_per_word: what a word costs without a face.
        clusters: how many people, or sessions where there is one person, the intervals are over.
        people: how many people were held out.
    """
    worth = WORTH_HAVING * bits_per_word
    needed = _needed_comparisons(gains)
    if clusters < 2 or not all(math.isfinite(x) for name in needed for x in gains[name]):
        return _no_interval(gains)
    if all(gains[name].low > 0 for name in needed):
        return {"face": "used", "words": _used_words(gains, needed, people), "needed_people": None}
    failed = [name for name in needed if gains[name].high < worth]
    if failed:
        return {"face": "not used", "words": _not_used_words(gains, failed, worth, people), "needed_people": None}
    count = _count_to_tell([gains[name] for name in needed], worth, clusters)
    words = _untold_words(gains, needed, worth, clusters, people, count)
    return {"face": "cannot be told", "words": words, "needed_people": count if people > 1 else None}


def _needed_comparisons(gains: Mapping[str, Estimate]) -> list[str]:
    """What the true face has to beat, of what was measured; without another person to show there is less to ask."""
    moments = (_MOMENT,) if _MOMENT in gains else _SHIFTED
    return [name for name in (*_ALWAYS, *moments, _BACKGROUND) if name in gains]


def _count_to_tell(gains: list[Estimate], worth: float, clusters: int) -> int | None:
    """With how many people a verdict can be expected, if things are as they look: all gains shown to be above zero, or
    one of them shown to be too small."""

    def needed(distance_of: Callable[[Estimate], float]) -> list[int | None]:
        return [clusters_needed(distance_of(gain), gain, clusters) for gain in gains]

    used, unused = needed(lambda gain: gain.value), needed(lambda gain: worth - gain.value)
    ways = [count for count in unused if count is not None]
    if None not in used:
        ways.append(max(count for count in used if count is not None))
    return max(min(ways), clusters + 1) if ways else None


def _no_interval(gains: Mapping[str, Estimate]) -> dict[str, Any]:
    gain = gains["none"].value
    if not math.isfinite(gain):
        why = "The scores hold values that are not numbers."
    else:
        why = (
            f"The right face saves {gain:+.3f} bits a word over no face, but one session alone was held out, which "
            "says nothing about others: hold out more people."
        )
    return {"face": "cannot be told", "words": why, "needed_people": None}


def _used_words(gains: Mapping[str, Estimate], needed: list[str], people: int) -> str:
    held = "; ".join(f"{_figures(gains[name])} over {_IN_WORDS[name]}" for name in needed)
    words = f"The right face saves, in bits a word: {held}. {_further_words(gains)}".strip()
    return words + _one_person(people)


def _not_used_words(gains: Mapping[str, Estimate], failed: list[str], worth: float, people: int) -> str:
    worst = min(failed, key=lambda name: gains[name].high)
    gain = gains[worst]
    if gain.high < 0:
        words = f"Against {_IN_WORDS[worst]} the right face does harm: it saves {_figures(gain)} bits a word."
    else:
        words = (
            f"Over {_IN_WORDS[worst]} the right face saves {_figures(gain)} bits a word, less than the {worth:.3f} "
            f"({WORTH_HAVING:.0%} of a word's cost) that would be worth having."
        )
    held = [name for name in _needed_comparisons(gains) if gains[name].low > 0]
    if held:
        words += f" It does save something over {' and '.join(_IN_WORDS[name] for name in held)}."
    return words + _one_person(people)


def _untold_words(
    gains: Mapping[str, Estimate], needed: list[str], worth: float, clusters: int, people: int, count: int | None
) -> str:
    open_ones = [name for name in needed if gains[name].low <= 0]
    shown = "; ".join(f"{_figures(gains[name])} over {_IN_WORDS[name]}" for name in open_ones)
    unit = "people" if people > 1 else "sessions"
    more = (
        f"about {count} {unit} ({count - clusters} more) would be needed to tell, if the others are like these"
        if count is not None
        else f"no number of {unit} that could be had would tell"
    )
    return (
        f"Too little data: with {clusters} {unit} the right face saves {shown} bits a word, which leaves open both no "
        f"gain and one worth having ({worth:.3f}); {more}." + _one_person(people)
    )


def _further_words(gains: Mapping[str, Estimate]) -> str:
    known = [name for name in _FURTHER if name in gains and math.isfinite(gains[name].low)]
    held = [_IN_WORDS[name] for name in known if gains[name].low > 0]
    missed = [_IN_WORDS[name] for name in known if gains[name].low <= 0]
    parts = []
    if held:
        parts.append(f"it also beats {_listed(held)}")
    if missed:
        parts.append(f"it is not shown to beat {_listed(missed)}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _one_person(people: int) -> str:
    return " All of it is one person: it cannot be generalised to others." if people == 1 else ""


def _figures(gain: Estimate) -> str:
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
