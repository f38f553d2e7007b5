"""How often 95 % intervals over few people hold the truth.

python benchmarks/bench_coverage.py [--trials 1000]

Bits per word (a ratio of two sums) of people who gain unlike much and say unlike much, with a known truth: the interval
that `nvllm eval` gives beside two bootstraps over people (scipy's, 499 resamples).
"""

import argparse
import warnings

import numpy as np
from scipy import stats

from natural_video_llm.evaluation.statistics import jackknife

TRUTH = 0.3
PEOPLE = (4, 6, 12, 24)


def draw(rng: np.random.Generator, people: int, skewed: bool) -> tuple[np.ndarray, np.ndarray]:
    """(bits gained, words) of each person, in all."""
    own = rng.exponential(TRUTH, people) if skewed else rng.normal(TRUTH, TRUTH, people)
    words = rng.integers(50, 500, people).astype(float)
    return own * words + rng.normal(size=people) * 1.5 * np.sqrt(words), words


def intervals(bits: np.ndarray, words: np.ndarray, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    estimate = jackknife([str(i) for i in range(len(bits))], lambda i: float(bits[i].sum() / words[i].sum()))
    found = {"jackknife, t": (estimate.low, estimate.high)}
    for method in ("percentile", "BCa"):
        low, high = stats.bootstrap(
            (bits, words),
            lambda b, w, axis: b.sum(axis) / w.sum(axis),
            paired=True,
            n_resamples=499,
            method=method,
            rng=rng,
        ).confidence_interval
        found[f"bootstrap, {method}"] = (low, high)
    return found


def main() -> None:
    """Prints, for each kind of people, how often the truth is held, and by how wide an interval."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    warnings.simplefilter("ignore")  # scipy's, of degenerate resamples
    for skewed in (False, True):
        for people in PEOPLE:
            rng = np.random.default_rng((people, skewed))
            held: dict[str, list[bool]] = {}
            widths: dict[str, list[float]] = {}
            for _ in range(trials):
                for name, (low, high) in intervals(*draw(rng, people, skewed), rng).items():
                    held.setdefault(name, []).append(bool(low <= TRUTH <= high))
                    widths.setdefault(name, []).append(high - low)
            cells = (f"{name} {np.mean(held[name]):.3f} (width {np.median(widths[name]):.2f})" for name in held)
            print(f"{'skewed' if skewed else 'normal'}, {people} people: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
