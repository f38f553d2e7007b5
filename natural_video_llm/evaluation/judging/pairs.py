"""From single comparisons to win rates: both orders, the effect of length, and agreement with a person."""

from collections.abc import Callable, Sequence

import numpy as np

from natural_video_llm.evaluation.statistics import Estimate, jackknife

# Normal priors (as penalties) keep the coefficients of a judge that always decides alike finite. Length's, for a
# standardised difference, is the weaker one: what length alone can explain is put down to length.
_LENGTH_PENALTY, _GROUP_PENALTY = 0.01, 1.0
_NEWTON_STEPS = 30


def merge_orders(shown_first: float, shown_second: float) -> float:
    """One verdict from two: how good the first of two replies was found (1 better, 0.5 tie, 0 worse) where it was
    shown first, and where it was shown second. Disagreement is a tie."""
    return shown_first if shown_first == shown_second else 0.5


def fit_logistic(features: np.ndarray, outcomes: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """[features] coefficients of a penalised logistic regression of outcomes in [0, 1] (0.5: a tie), by Newton steps.

    Args:
        features: [rows, features].
        outcomes: [rows].
        penalties: [features], each times half the square of its coefficient.
    """
    weights = np.zeros(features.shape[1])
    for _ in range(_NEWTON_STEPS):
        expected = _sigmoid(features @ weights)
        slope = features.T @ (outcomes - expected) - penalties * weights
        curvature = (features.T * (expected * (1 - expected))) @ features + np.diag(penalties)
        step = np.linalg.solve(curvature, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def length_effect(
    wins: np.ndarray, words: np.ndarray, groups: Sequence[str], clusters: Sequence[str]
) -> tuple[Estimate, dict[str, Estimate]]:
    """How much more a reply wins for a word more (log odds), and each group's win rate between replies of one length.

    A logistic regression on the difference in words, with an intercept for each group of pairs; the rate at a
    difference of 0 is the corrected one, as in length-controlled AlpacaEval (Dubois et al. 2024, arXiv:2404.04475).

    Args:
        wins: [pairs], 1, 0.5 or 0.
        words: [pairs], words of the reply minus words of its rival.
        groups, clusters: of each pair: what is compared, and who is left out together in the jackknife.
    """
    names = list(dict.fromkeys(groups))
    spread = float(words.std()) or 1.0
    member = np.array([[group == name for name in names] for group in groups], float)
    features = np.column_stack([words / spread, member])
    penalties = np.array([_LENGTH_PENALTY, *[_GROUP_PENALTY] * len(names)])

    # Each coefficient is looked at alone, of one fit for each who is left out.
    fits: dict[bytes, np.ndarray] = {}

    def fitted(rows: np.ndarray) -> np.ndarray:
        return fits.setdefault(rows.tobytes(), fit_logistic(features[rows], wins[rows], penalties))

    def estimate(read: Callable[[np.ndarray], float], within: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
        return jackknife(clusters, lambda rows: read(fitted(rows)), within)

    def corrected(place: int) -> Estimate:
        return estimate(lambda weights: float(_sigmoid(weights[1 + place])), within=(0, 1))

    slope = estimate(lambda weights: float(weights[0] / spread))
    return slope, {name: corrected(place) for place, name in enumerate(names)}


def cohens_kappa(first: Sequence[str], second: Sequence[str]) -> tuple[float, float | None]:
    """Share of items on which two raters agree, and Cohen's kappa (1960): agreement beyond that of raters who draw
    their answers by lot; None where either gives one answer only and chance alone would do as well."""
    one, two = np.array(first), np.array(second)
    agreed = float((one == two).mean())
    by_chance = sum(float((one == answer).mean() * (two == answer).mean()) for answer in set(first) | set(second))
    return agreed, None if by_chance >= 1 else (agreed - by_chance) / (1 - by_chance)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))
