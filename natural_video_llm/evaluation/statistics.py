"""Intervals that hold for other people than those who were measured."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A figure with its 95 % interval; `low` and `high` are nan where one cluster alone was measured."""

    value: float
    low: float
    high: float


def jackknife(
    clusters: Sequence[str],
    statistic: Callable[[np.ndarray], float],
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Delete-one-cluster jackknife with Student's t on (clusters - 1) degrees of freedom.

    People are the clusters (sessions where there is one person): items of one person stand or fall together. The
    percentile bootstrap, which takes the spread of few people for the spread of all, is too narrow: docs/evaluation.md
    has the coverage of both. After Tukey (1958) and Bell and McCaffrey (2002, Survey Methodology 28).

    Args:
        clusters: the cluster of each item.
        statistic: from item indices to a figure, such as a ratio of two sums; given paired differences it stays paired.
        within: limits of what the figure can be.
    """
    names, membership = np.unique(np.asarray(clusters), return_inverse=True)
    value = statistic(np.arange(len(membership)))
    if len(names) < 2:
        return Estimate(value, np.nan, np.nan)
    without_one = np.array([statistic(np.flatnonzero(membership != i)) for i in range(len(names))])
    error = np.sqrt((len(names) - 1) / len(names) * ((without_one - value) ** 2).sum())
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(names) - 1) * error
    low, high = np.clip([value - reach, value + reach], *within)
    return Estimate(value, float(low), float(high))


def mean_estimate(values: Sequence[float], clusters: Sequence[str]) -> Estimate | None:
    """The mean with its interval; None where there are no values, or some are not numbers."""
    array = np.asarray(values, float)
    if not len(array) or not np.isfinite(array).all():
        return None
    return jackknife(clusters, lambda rows: float(array[rows].mean()))


def clusters_needed(distance: float, estimate: Estimate, clusters: int, power: float = 0.8) -> int | None:
    """How many clusters it takes for an interval shorter than `distance` to one side, with probability `power`.

    Each new cluster is taken to vary as those measured did, which is what `estimate` says of `clusters` of them. None
    where nothing can be said: one cluster, or more than a million.
    """
    reach = estimate.high - estimate.value
    if clusters < 2 or distance <= 0 or not np.isfinite(reach):
        return None
    spread = reach / stats.t.ppf((1 + CONFIDENCE) / 2, clusters - 1) * np.sqrt(clusters)

    def enough(n: int) -> bool:
        quantiles = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) + stats.t.ppf(power, n - 1)
        return bool(quantiles * spread / np.sqrt(n) <= distance)

    few, many = 1, 2
    while not enough(many):
        few, many = many, many * 2
        if many > 1_000_000:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def json_ready(value: Any) -> Any:
    """Tuples as lists, and null for limits that are not known, for which JSON has no number."""
    if isinstance(value, dict):
        return {name: json_ready(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
