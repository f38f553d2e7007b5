"""Characters keep the time at which they appeared, whatever happens around them."""

import pytest

from natural_video_llm.inference.typing_times import TypingTimes, evenly_typed


def test_what_stays_keeps_its_time() -> None:
    typing = TypingTimes()
    assert typing.change("ab", 1.0) == [1.0, 1.0]
    assert typing.change("abd", 2.0) == [1.0, 1.0, 2.0]
    assert typing.change("abcd", 3.0) == [1.0, 1.0, 3.0, 2.0], "put in between"
    assert typing.change("xbcd", 4.0) == [4.0, 1.0, 3.0, 2.0]
    assert typing.change("xd", 5.0) == [4.0, 2.0]
    assert typing.change("", 6.0) == []
    assert typing.change("xd", 7.0) == [7.0, 7.0]


def test_repeated_letters_are_not_counted_twice() -> None:
    typing = TypingTimes()
    typing.change("aa", 1.0)
    assert sorted(typing.change("aaa", 2.0)) == [1.0, 1.0, 2.0]
    assert typing.change("a", 3.0) == [1.0]


def test_known_times_come_first() -> None:
    typing = TypingTimes()
    typing.change("ab", 1.0)
    assert typing.change("abc", 9.0, [1.5, 1.6, 1.7]) == [1.5, 1.6, 1.7]
    assert typing.change("abcd", 10.0) == [1.5, 1.6, 1.7, 10.0]


def test_evenly_typed_ends_when_it_was_sent() -> None:
    assert evenly_typed(4, 1.0, 3.0) == pytest.approx([1.5, 2.0, 2.5, 3.0])
    assert evenly_typed(0, 1.0, 3.0) == []
