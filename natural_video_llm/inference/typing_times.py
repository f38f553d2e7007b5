"""When each character of a line was typed, found by comparing what stood there before with what stands there now."""

from collections.abc import Sequence


class TypingTimes:
    """A line while it is typed: characters that stay keep their times, those that are new are of now."""

    def __init__(self) -> None:
        self._text = ""
        self._times: list[float] = []

    def change(self, text: str, now_s: float, char_times: Sequence[float] | None = None) -> list[float]:
        """The times of the characters of `text`, which stands there since `now_s`; `char_times` where known."""
        if char_times is not None and len(char_times) == len(text):
            times = list(char_times)
        else:
            before, after = self._text, text
            most = min(len(before), len(after))
            start = next((i for i in range(most) if before[i] != after[i]), most)
            end = next((i for i in range(most - start) if before[-1 - i] != after[-1 - i]), most - start)
            new = [now_s] * (len(after) - start - end)
            times = self._times[:start] + new + (self._times[len(before) - end :] if end else [])
        self._text, self._times = text, times
        return list(times)


def evenly_typed(characters: int, begun_s: float, ended_s: float) -> list[float]:
    """Times for characters of which only the first and the last moment are known; the last comes at the end."""
    return [begun_s + (ended_s - begun_s) * (i + 1) / characters for i in range(characters)]
