"""One line as it grows under a person's fingers: every character with its time, every change kept."""

from dataclasses import dataclass, field
from itertools import pairwise

Edit = tuple[float, int, int, str]
"""Time in seconds, position in the text, characters removed there, text inserted there."""

# A terminal without bracketed paste sends pasted text as if it were typed. No fingers are that fast for that long;
# a key held down repeats every 30 ms or so, and two keys may well fall together.
_BURST_CHARACTERS = 6
_BURST_GAP_S = 0.005


@dataclass
class TypingRecord:
    """The text so far, when each of its characters appeared, and the changes that led to it.

    Replaying `edits` on an empty text gives `text`. `at_once[i]` says that character i came together with others by a
    single key: pasted, or brought back from what was cut.
    """

    text: str = ""
    char_times: list[float] = field(default_factory=list)
    at_once: list[bool] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)

    def change(self, time_s: float, text: str, cursor: int) -> None:
        """Take the state after a key: the whole text and the cursor's place in it (characters before it)."""
        if text == self.text:
            return
        start, removed, inserted = difference(self.text, text, cursor)
        gone = slice(start, start + removed)
        self.char_times[gone] = [time_s] * len(inserted)
        self.at_once[gone] = [len(inserted) > 1] * len(inserted)
        self.edits.append((time_s, start, removed, inserted))
        self.text = text

    @property
    def pasted(self) -> bool:
        """Whether any character that is still there was not typed key by key."""
        run = 1
        for earlier_s, later_s in pairwise(self.char_times):
            run = run + 1 if 0 <= later_s - earlier_s <= _BURST_GAP_S else 1
            if run >= _BURST_CHARACTERS:
                return True
        return any(self.at_once)


def difference(before: str, after: str, cursor: int) -> tuple[int, int, str]:
    """(position, characters removed, text inserted) that turns `before` into `after`.

    The cursor decides which of several equal characters came or went: what follows it was there before.
    """
    tail = len(after) - cursor
    if not (tail <= len(before) and before.endswith(after[cursor:])):
        tail = _common(before[::-1], after[::-1])
    start = _common(before[: len(before) - tail], after[: len(after) - tail])
    return start, len(before) - tail - start, after[start : len(after) - tail]


def _common(one: str, other: str) -> int:
    """Length of the longest common beginning."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))
