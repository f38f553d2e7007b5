"""From comparisons to win rates, on answers whose figures are known."""

import numpy as np
import pytest

from natural_video_llm.evaluation.judging.pairs import cohens_kappa, fit_logistic, length_effect, merge_orders


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [(1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5), (1, 0, 0.5), (0, 1, 0.5), (1, 0.5, 0.5), (0.5, 0, 0.5)],
)
def test_disagreement_of_the_two_orders_is_a_tie(first: float, second: float, merged: float) -> None:
    assert merge_orders(first, second) == merged


def test_the_regression_finds_the_coefficients_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.normal(size=20_000), np.ones(20_000)])
    outcomes = (rng.random(20_000) < 1 / (1 + np.exp(-(features @ [1.5, -0.5])))).astype(float)
    assert fit_logistic(features, outcomes, np.full(2, 0.1)) == pytest.approx([1.5, -0.5], abs=0.06)


@pytest.mark.parametrize("outcome", [0.0, 0.5, 1.0])
def test_the_same_answer_every_time_has_finite_coefficients(outcome: float) -> None:
    weights = fit_logistic(np.ones((10, 1)), np.full(10, outcome), np.full(1, 0.1))
    assert np.isfinite(weights).all()
    assert np.sign(weights[0]) == np.sign(outcome - 0.5)


def people(count: int) -> list[str]:
    return [f"p{i % 20}" for i in range(count)]


def test_a_taste_for_length_is_taken_out() -> None:
    rng = np.random.default_rng(1)
    words = rng.normal(4, 6, size=200).round()
    wins = np.where(words > 0, 1.0, np.where(words < 0, 0.0, 0.5))
    assert wins.mean() > 0.7, "the longer reply wins, and ours is the longer one more often"
    slope, rates = length_effect(wins, words, ["true over none"] * 200, people(200))
    assert slope.low > 0
    assert rates["true over none"].low < 0.5 < rates["true over none"].high
    assert rates["true over none"].value == pytest.approx(0.5, abs=0.1)


def test_a_real_preference_stays_and_has_no_slope() -> None:
    rng = np.random.default_rng(2)
    words = rng.normal(4, 6, size=400).round()
    wins = (rng.random(400) < 0.8).astype(float)
    groups = ["true over none", "true over other person"] * 200
    slope, rates = length_effect(wins, words, groups, people(400))
    assert slope.low < 0 < slope.high
    for rate in rates.values():
        assert rate.low < 0.8 < rate.high
        assert rate.low > 0.6


def test_replies_of_one_length_only() -> None:
    slope, rates = length_effect(np.ones(6), np.zeros(6), ["true over none"] * 6, people(6))
    assert slope.value == 0
    assert rates["true over none"].value > 0.75


def test_kappa_by_hand() -> None:
    # 50 items: 20 + 15 agreed, expected (25 * 30 + 25 * 20) / 50^2 = 0.5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    agreed, kappa = cohens_kappa(first, second)
    assert agreed == pytest.approx(0.7)
    assert kappa == pytest.approx(0.4)
    assert cohens_kappa(["tie"] * 3, ["tie"] * 3) == (1.0, None)
    assert cohens_kappa(["a", "b"], ["b", "a"])[1] == pytest.approx(-1.0)
