"""Intervals over people, on data whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from natural_video_llm.evaluation.statistics import Estimate, clusters_needed, jackknife

TRUTH = 0.3
TRIALS = 400


def people_of_unlike_length(rng: np.random.Generator, count: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(cluster, bits gained, words) of each utterance; people differ in what they gain and in how much they say."""
    clusters: list[str] = []
    gains, words = [], []
    for person in range(count):
        own = rng.normal(TRUTH, 0.3)
        lengths = rng.integers(3, 12, size=rng.integers(3, 12))
        clusters += [f"p{person}"] * len(lengths)
        words.append(lengths)
        gains.append(own * lengths + rng.normal(size=len(lengths)) * np.sqrt(lengths))
    return clusters, np.concatenate(gains), np.concatenate(words)


@pytest.mark.parametrize("people", [4, 6, 12, 24])
def test_a_ratio_is_covered_at_the_nominal_rate(people: int) -> None:
    rng = np.random.default_rng(people)
    covered = 0
    for _ in range(TRIALS):
        clusters, gains, words = people_of_unlike_length(rng, people)
        estimate = jackknife(clusters, lambda i, g=gains, w=words: float(g[i].sum() / w[i].sum()))
        covered += estimate.low <= TRUTH <= estimate.high
    # What chance allows an honest 95 % interval in so many trials, once in a thousand.
    low, high = stats.binom.ppf([0.0005, 0.9995], TRIALS, 0.95)
    assert low <= covered <= high


@pytest.mark.parametrize("people", [4, 6, 12])
def test_nothing_is_taken_for_something_in_one_of_forty(people: int) -> None:
    rng = np.random.default_rng(people)
    above = 0
    for _ in range(TRIALS):
        clusters, gains, words = people_of_unlike_length(rng, people)
        nothing = gains - TRUTH * words
        above += jackknife(clusters, lambda i, g=nothing, w=words: float(g[i].sum() / w[i].sum())).low > 0
    assert above <= stats.binom.ppf(0.9995, TRIALS, 0.025)


def test_of_equal_people_it_is_the_t_interval_of_their_means() -> None:
    values = np.array([1.0, 2.0, 4.0, 7.0])
    estimate = jackknife(list("abcd"), lambda i: float(values[i].mean()))
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert estimate == pytest.approx((3.5, low, high))


def test_a_ratio_is_that_of_the_sums_whoever_says_more() -> None:
    gains, words = np.array([10.0, 1.0]), np.array([1.0, 9.0])
    assert jackknife(["a", "b"], lambda i: float(gains[i].sum() / words[i].sum())).value == pytest.approx(1.1)


def test_one_cluster_has_no_interval() -> None:
    estimate = jackknife(["a"] * 5, lambda i: float(len(i)))
    assert estimate.value == 5
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_limits_are_kept() -> None:
    shares = np.array([1.0, 1.0, 0.2])
    assert jackknife(list("abc"), lambda i: float(shares[i].mean()), (0.0, 1.0))[1:] == (0.0, 1.0)


def test_so_many_people_as_it_says_are_enough_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    pilot = stats.norm.ppf((np.arange(200) + 0.5) / 200) + 0.4  # a spread that is known
    estimate = jackknife([str(i) for i in range(200)], lambda i: float(pilot[i].mean()))
    count = clusters_needed(0.4, estimate, 200)
    assert count is not None
    shown = 0
    for _ in range(300):
        values = rng.normal(0.4, 1.0, count)
        names = [str(i) for i in range(count)]
        shown += jackknife(names, lambda i, v=values: float(v[i].mean())).low > 0
    low, high = stats.binom.ppf([0.0005, 0.9995], 300, 0.8)
    assert low <= shown <= high


@pytest.mark.parametrize(
    ("distance", "clusters"), [(0.4, 1), (0.0, 6), (-1.0, 6), (1e-6, 6)], ids=["one", "no way", "wrong way", "too far"]
)
def test_how_many_are_needed_is_not_always_known(distance: float, clusters: int) -> None:
    assert clusters_needed(distance, Estimate(0.1, -0.2, 0.4), clusters) is None
