"""The errors of the face ahead, put together over people."""

import numpy as np
import pytest

from natural_video_llm.evaluation.reaction import ReactionErrors, summarise_reactions

BASELINES = ("stays as it is", "linear extrapolation", "back to neutral")


def part(model: float, counts: list[list[int]]) -> ReactionErrors:
    """Two people, one example each; the model is off by `model` a moment, the baselines by 2, 4 and 1."""
    number = np.array(counts)
    each = {"model": model, **dict(zip(BASELINES, (2.0, 4.0, 1.0), strict=True))}
    return ReactionErrors({name: number * error for name, error in each.items()}, number)


def test_ratios_by_hand() -> None:
    both = [part(0.5, [[10, 10, 0], [30, 0, 0]]), part(1.5, [[40, 40, 0], [0, 0, 0]])]
    summary = summarise_reactions(both, ["ann", "bob", "cem", "dea"])
    half = summary["0.5 s"]
    assert half["moments"] == 80
    assert half["squared_error"][0] == pytest.approx((40 * 0.5 + 40 * 1.5) / 80)
    assert [half[f"ratio to {name}"][0] for name in BASELINES] == pytest.approx([0.5, 0.25, 1.0])
    low, high = half["ratio to back to neutral"][1:]
    assert low == 0.0, "three people who differ so much tell little, but no error is below nothing"
    assert high > 1.5
    assert summary["1.0 s"]["moments"] == 50
    assert summary["2.0 s"] is None, "nobody was in view so long after"


def test_a_face_that_never_moves_gives_no_division_by_zero() -> None:
    still = ReactionErrors({n: np.zeros((2, 3)) for n in ("model", *BASELINES)}, np.full((2, 3), 5))
    summary = summarise_reactions([still], ["ann", "bob"])
    assert summary["1.0 s"]["ratio to stays as it is"] == (0.0, 0.0, 0.0)
