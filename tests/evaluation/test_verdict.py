"""The rule of the verdict and its words, on figures made up."""

import math

import numpy as np
import pytest

from natural_video_llm.evaluation.statistics import Estimate
from natural_video_llm.evaluation.verdict import judge

COST = 6.0  # bits a word, of which 0.06 are worth having
CLEAR, NOTHING, OPEN, HARM = (
    Estimate(0.5, 0.3, 0.7),
    Estimate(0.0, -0.04, 0.04),
    Estimate(0.2, -0.2, 0.6),
    Estimate(-0.5, -0.7, -0.3),
)


def gains(**changed: Estimate) -> dict[str, Estimate]:
    names = ("none", "other person", "another moment", "2.0 s early", "2.0 s late", "shuffled", "identity only")
    return dict.fromkeys(names, CLEAR) | {name.replace("_", " "): gain for name, gain in changed.items()}


def face(found: dict[str, Estimate], people: int = 6) -> str:
    return str(judge(found, COST, 6, people)["face"])


def test_all_that_is_asked_for_has_to_hold() -> None:
    assert face(gains()) == "used"
    for name in ("none", "other_person", "another_moment", "background_only"):
        assert face(gains(**{name: NOTHING})) == "not used", name
        assert face(gains(**{name: HARM})) == "not used", name
        assert face(gains(**{name: OPEN})) == "cannot be told", name


def test_shifts_count_where_there_is_no_other_moment_and_only_there() -> None:
    late = gains()
    late["2.0 s late"] = NOTHING
    assert face(late) == "used"
    del late["another moment"]
    assert face(late) == "not used"


def test_of_one_person_the_face_has_to_beat_another_sessions() -> None:
    found = {("another session" if name == "other person" else name): gain for name, gain in gains().items()}
    words = judge(found, COST, 6, 1)["words"]
    assert "over another session's face" in words
    assert "another person" not in words
    assert face(found | {"another session": NOTHING}, people=1) == "not used"


def test_the_words_say_what_holds_and_what_does_not() -> None:
    words = judge(gains(shuffled=OPEN), COST, 6, 6)["words"]
    assert "+0.500 [+0.300, +0.700] over another person's face" in words
    assert "It also beats a still of the same person; it is not shown to beat the frames in the wrong order." in words
    words = judge(gains(other_person=NOTHING), COST, 6, 6)["words"]
    assert "Over another person's face the right face saves +0.000 [-0.040, +0.040] bits a word" in words
    assert "less than the 0.060 (1% of a word's cost)" in words
    assert "It does save something over no face and the same person's face at another moment." in words
    assert "does harm" in judge(gains(none=HARM), COST, 6, 6)["words"]


def test_what_cannot_be_told_comes_with_the_people_it_would_take() -> None:
    verdict = judge(gains(none=OPEN), COST, 6, 6)
    spread = 0.4 / 2.5706 * math.sqrt(6)
    # To see a gain of 0.2 with a power of 0.8, by the normal distribution; Student's asks for a little more.
    least = ((1.96 + 0.8416) * spread / 0.2) ** 2
    assert least < verdict["needed_people"] < least + 4
    assert f"about {verdict['needed_people']} people ({verdict['needed_people'] - 6} more)" in verdict["words"]
    closer = judge(gains(none=Estimate(0.2, -0.01, 0.41)), COST, 6, 6)
    assert 6 < closer["needed_people"] < verdict["needed_people"]


def test_one_person_says_nothing_of_others() -> None:
    verdict = judge(gains(), COST, 4, 1)
    assert verdict["face"] == "used"
    assert "cannot be generalised to others" in verdict["words"]
    untold = judge(gains(none=OPEN), COST, 4, 1)
    assert untold["needed_people"] is None
    assert "sessions (" in untold["words"]


@pytest.mark.parametrize("value", [0.5, math.nan])
def test_one_session_or_no_numbers_give_no_verdict(value: float) -> None:
    lone = Estimate(value, math.nan, math.nan)
    verdict = judge(dict.fromkeys(gains(), lone), COST, 1, 1)
    assert verdict["face"] == "cannot be told"
    assert ("one session" in verdict["words"]) == math.isfinite(value)
    assert "nan" not in verdict["words"]


def test_chance_is_called_used_in_less_than_one_of_twenty() -> None:
    """The worst case: the face beats no face and a stranger's for sure, and the right moment says nothing."""
    rng = np.random.default_rng(0)
    told = []
    for _ in range(400):
        values = rng.normal(0, 0.3, 6)
        error = values.std(ddof=1) / math.sqrt(6)
        chance = Estimate(values.mean(), values.mean() - 2.5706 * error, values.mean() + 2.5706 * error)
        told.append(face(gains(another_moment=chance)))
    assert told.count("used") < 20
    assert told.count("cannot be told") > 200, "six people who differ so much tell nothing"
