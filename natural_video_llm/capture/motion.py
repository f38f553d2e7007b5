"""Six ways in which a face can move during one turn, as weights of the basic movements over time.

Whatever is not the expression (talking, blinks, head sway, a slight tremor) is drawn without regard to the
motion and has the same statistics forwards and backwards in time, so that nothing else tells the motions
apart.
"""

from dataclasses import dataclass

import numpy as np

from natural_video_llm.capture.portrait import MOVEMENTS
from natural_video_llm.sessions.candidates import ORDER_PAIRS

# The face goes from rest to these weights and stays there.
_HELD: dict[str, dict[str, float]] = {
    "smile_comes": {"corners_out_up": 1.0},
    "brows_rise": {"brows_up": 1.0},
    "mouth_droops": {"corners_down": 1.0, "inner_brows_up": 1.0},
    "brows_knit": {"brows_together": 1.1, "lips_pressed": 1.0},
}
_BACKWARDS = {backwards: forwards for forwards, backwards in ORDER_PAIRS}
MOTIONS = tuple(sorted({*_HELD, *_BACKWARDS}))

# Head sway: shift right and down (eye distances), roll, yaw and pitch (radians).
SWAY = ("right", "down", "roll", "yaw", "pitch")
_SWAY_SIZE = np.array([0.04, 0.03, 0.02, 0.07, 0.05])
_TREMOR = 0.05
_BLINK_S = 0.3
_BLINKS_PER_S = 0.25


@dataclass(frozen=True)
class Waves:
    """A smooth wandering: sums of sines, [channel, wave] each. Its statistics are the same in both
    directions."""

    rate_hz: np.ndarray
    phase: np.ndarray
    size: np.ndarray

    def __call__(self, times_s: np.ndarray) -> np.ndarray:
        """[T, channel] for times [T]."""
        angle = 2 * np.pi * self.rate_hz * times_s[:, None, None] + self.phase
        return (self.size * np.sin(angle)).sum(axis=-1)


@dataclass(frozen=True)
class TurnDraw:
    """All random numbers of one turn of `length_s` seconds; any motion can be played with them."""

    length_s: float
    centre_s: float
    transition_s: float
    strength: np.ndarray
    tremor: Waves
    syllables: Waves
    loudness: Waves
    sway: Waves
    blinks_s: np.ndarray


def draw_turn(rng: np.random.Generator, length_s: float) -> TurnDraw:
    """Random numbers for a turn; strength [movement] is drawn once, then varied for each movement."""
    return TurnDraw(
        length_s=length_s,
        centre_s=length_s * rng.uniform(0.3, 0.7),
        transition_s=rng.uniform(0.4, 1.2),
        strength=rng.uniform(0.6, 1.3) * rng.uniform(0.9, 1.1, len(MOVEMENTS)),
        tremor=_draw_waves(rng, np.full(len(MOVEMENTS), _TREMOR), 4, (0.2, 1.5)),
        syllables=_draw_waves(rng, np.full(1, 0.5), 3, (2.0, 4.5)),
        loudness=_draw_waves(rng, np.full(1, 0.6), 3, (0.2, 0.8)),
        sway=_draw_waves(rng, _SWAY_SIZE, 4, (0.08, 0.6)),
        blinks_s=rng.uniform(0, length_s, rng.poisson(_BLINKS_PER_S * length_s)),
    )


def play(motion: str, draw: TurnDraw, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Movement weights [T, movement] and head sway [T, sway] at `times_s` [T] seconds after the turn's start.

    Times outside the turn hold the expression of its nearer end while all else goes on. A backwards motion at
    time t is exactly its forwards motion at `length_s` - t.
    """
    if motion in _BACKWARDS:
        return play(_BACKWARDS[motion], draw, draw.length_s - times_s)
    held = np.array([_HELD[motion].get(name, 0.0) for name in MOVEMENTS])
    onset = _smooth_step((times_s - draw.centre_s) / draw.transition_s + 0.5)
    weights = onset[:, None] * held * draw.strength + draw.tremor(times_s)
    loudness = np.clip(0.6 + draw.loudness(times_s)[:, 0], 0, 1)
    weights[:, MOVEMENTS.index("jaw_down")] = loudness * np.clip(0.35 + draw.syllables(times_s)[:, 0], 0, 1.2)
    weights[:, MOVEMENTS.index("lids_down")] = _lids(draw.blinks_s, times_s)
    return weights, draw.sway(times_s)


def _draw_waves(rng: np.random.Generator, size: np.ndarray, waves: int, band_hz: tuple[float, float]) -> Waves:
    """Waves with rates in the band and a root mean square of `size` [channel]."""
    shape = (len(size), waves)
    share = rng.uniform(0.5, 1.5, shape)
    share *= np.sqrt(2) / np.linalg.norm(share, axis=1, keepdims=True)
    return Waves(rng.uniform(*band_hz, shape), rng.uniform(0, 2 * np.pi, shape), size[:, None] * share)


def _lids(blinks_s: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """[T] how far the lids are down: a raised cosine for each blink."""
    since = np.clip((times_s[:, None] - blinks_s) / _BLINK_S, -0.5, 0.5)
    return np.max(0.5 + 0.5 * np.cos(2 * np.pi * since), axis=1, initial=0.0)


def _smooth_step(u: np.ndarray) -> np.ndarray:
    """0 up to u = 0, 1 from u = 1 on, twice differentiable; the same backwards: 1 - step(u) = step(1 - u)."""
    u = np.clip(u, 0, 1)
    return u**3 * (10 + u * (6 * u - 15))
