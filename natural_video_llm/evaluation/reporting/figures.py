"""Figures out of eval.json as they are shown: what is no number is told, never drawn."""

import math
from typing import Any

from natural_video_llm.evaluation.statistics import Estimate

NOT_KNOWN = "not known"


def estimate_of(raw: Any) -> Estimate | None:
    """[value, low, high] as an estimate; None where it is anything else, or the value is no finite number. Bounds that
    are no finite numbers become NaN."""
    if not isinstance(raw, list | tuple) or len(raw) != 3 or not is_number(raw[0]):
        return None
    low, high = raw[1:] if is_number(raw[1]) and is_number(raw[2]) else (math.nan, math.nan)
    return Estimate(float(raw[0]), float(low), float(high))


def is_number(raw: Any) -> bool:
    return isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw)


def has_interval(estimate: Estimate) -> bool:
    return math.isfinite(estimate.low) and math.isfinite(estimate.high)


def number(raw: Any, style: str = ".2f") -> str:
    """The number with a true minus sign, or that it is not known."""
    return format(raw, style).replace("-", "\N{MINUS SIGN}") if is_number(raw) else NOT_KNOWN


def interval(estimate: Estimate, style: str = ".2f") -> str:
    """[low, high], or that there is no interval."""
    if not has_interval(estimate):
        return "no interval"
    return f"[{number(estimate.low, style)}, {number(estimate.high, style)}]"


def share(raw: Any) -> str:
    return number(100 * raw, ".1f") + " %" if is_number(raw) else NOT_KNOWN


def count(raw: Any) -> str:
    """With thin spaces between thousands."""
    return f"{raw:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if is_number(raw) else NOT_KNOWN
