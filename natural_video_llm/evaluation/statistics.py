"""Paired bootstrap over people."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(
    clusters: Sequence[str],
    statistic: Callable[[np.ndarray], float],
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Percentile bootstrap that draws whole clusters (people; clips where there is one person).

    Args:
        clusters: the cluster of each item.
        statistic: from item indices (with repetition) to a figure; given paired differences it stays paired.
    """
    names, membership = np.unique(np.asarray(clusters), return_inverse=True)
    members = [np.flatnonzero(membership == i) for i in range(len(names))]
    rng = np.random.default_rng(seed)
    draws = [
        statistic(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
        for _ in range(resamples)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(statistic(np.arange(len(membership))), float(low), float(high))


def mean_estimate(values: Sequence[float], clusters: Sequence[str]) -> Estimate | None:
    """The mean with its interval; None where there are no values, or some are not numbers."""
    array = np.asarray(values, float)
    if not len(array) or not np.isfinite(array).all():
        return None
    return bootstrap(clusters, lambda rows: float(array[rows].mean()))
