"""Which numbers an option takes, looked at before any work is done."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from natural_video_llm.errors import UserError

_RANGES: dict[str, Callable[[float], bool]] = {
    "0 or more": lambda x: x >= 0,
    "1 or more": lambda x: x >= 1,
    "above 0": lambda x: x > 0,
    "0 or more and below 1": lambda x: 0 <= x < 1,
    "above 0 and below 1": lambda x: 0 < x < 1,
    "0, or 2 or more": lambda x: x == 0 or x >= 2,
}


def check_numbers(values: Mapping[str, Any], ranges: Mapping[str, Sequence[str]]) -> None:
    """Hold values, by the names of their options, to the ranges that these names are listed under.

    Raises:
        UserError: one of them lies outside, or is not finite.
    """
    for told, names in ranges.items():
        for name in names:
            value = values[name]
            if not (math.isfinite(value) and _RANGES[told](value)):
                finite = "" if math.isfinite(value) else "finite and "
                raise UserError(f"--{name.replace('_', '-')} is {value}; it has to be {finite}{told}")
