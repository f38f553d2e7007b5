"""Changes of a line as characters with times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natural_video_llm.capture.typing_record import TypingRecord, difference


def replayed(record: TypingRecord) -> str:
    text = ""
    for _, start, removed, inserted in record.edits:
        text = text[:start] + inserted + text[start + removed :]
    return text


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 3), st.text("ab", max_size=3)), max_size=30))
def test_replaying_the_edits_gives_the_text_and_every_character_has_its_time(
    changes: list[tuple[int, int, str]],
) -> None:
    record, text, ages = TypingRecord(), "", list[float]()
    for second, (place, removed, inserted) in enumerate(changes):
        start = place % (len(text) + 1)
        removed = min(removed, len(text) - start)
        before = text
        text = text[:start] + inserted + text[start + removed :]
        if text != before:
            ages[start : start + removed] = [float(second)] * len(inserted)
        record.change(float(second), text, start + len(inserted))
        assert record.text == text == replayed(record)
        assert len(record.char_times) == len(record.at_once) == len(text)
        # Where a replacement keeps letters, these keep their time; none is newer than the change that made it.
        assert all(kept <= told for kept, told in zip(record.char_times, ages, strict=True))


@pytest.mark.parametrize(
    ("before", "after", "cursor", "expected"),
    [
        ("helo", "hello", 3, (2, 0, "l")),  # an l typed before the other one
        ("helo", "hello", 4, (3, 0, "l")),  # and behind it
        ("hello", "helo", 2, (2, 1, "")),
        ("hello", "helo", 3, (3, 1, "")),
        ("aab", "ab", 0, (0, 1, "")),
        ("one two", "one ", 4, (4, 3, "")),
        ("abc", "xyz", 3, (0, 3, "xyz")),
        ("one", "ONE", 0, (0, 3, "ONE")),  # all after the cursor changed: it says nothing here
    ],
)
def test_the_cursor_tells_equal_letters_apart(before: str, after: str, cursor: int, expected: tuple) -> None:
    assert difference(before, after, cursor) == expected


def typed(text: str, gap_s: float) -> TypingRecord:
    record = TypingRecord()
    for i in range(len(text)):
        record.change(i * gap_s, text[: i + 1], i + 1)
    return record


def test_what_no_fingers_can_do_is_a_paste() -> None:
    assert not typed("a fast typist", 0.03).pasted
    assert not typed("abcde", 0.001).pasted
    assert typed("abcdef", 0.001).pasted


def test_a_paste_that_was_deleted_again_does_not_count() -> None:
    record = TypingRecord()
    record.change(0.0, "pasted", 6)
    assert record.pasted
    record.change(1.0, "", 0)
    record.change(2.0, "t", 1)
    assert not record.pasted
    assert record.char_times == [2.0]
