"""The corpus of the sample speaker: complete, distinct, of even length."""

import difflib
import re
from collections import Counter

import numpy as np
import pytest

from natural_video_llm.capture.motion import MOTIONS
from natural_video_llm.capture.sample_corpus import CorpusLine, load_corpus


@pytest.fixture(scope="module")
def corpus() -> list[CorpusLine]:
    return load_corpus()


def test_every_message_has_one_reply_for_each_motion(corpus: list[CorpusLine]) -> None:
    assert len(corpus) == 200
    assert all(sorted(line.replies) == sorted(MOTIONS) for line in corpus)


def test_messages_are_distinct(corpus: list[CorpusLine]) -> None:
    messages = [line.message.lower() for line in corpus]
    close = [
        (a, b)
        for i, a in enumerate(messages)
        for b in messages[:i]
        if difflib.SequenceMatcher(None, a, b).quick_ratio() > 0.85
        and difflib.SequenceMatcher(None, a, b).ratio() > 0.85
    ]
    assert close == []


def test_no_reply_comes_twice(corpus: list[CorpusLine]) -> None:
    replies = Counter(reply for line in corpus for reply in line.replies.values())
    assert [reply for reply, count in replies.items() if count > 1] == []


def test_messages_are_plain_statements(corpus: list[CorpusLine]) -> None:
    for line in corpus:
        assert 4 <= len(line.message.split()) <= 10, line.message
        assert line.message.endswith("."), line.message


def test_length_does_not_give_the_motion_away(corpus: list[CorpusLine]) -> None:
    words = {motion: np.array([len(line.replies[motion].split()) for line in corpus]) for motion in MOTIONS}
    for motion, counts in words.items():
        assert counts.min() >= 7, motion
        assert counts.max() <= 20, motion
    means = [counts.mean() for counts in words.values()]
    assert max(means) / min(means) < 1.15


def test_no_reply_speaks_of_the_face(corpus: list[CorpusLine]) -> None:
    told = re.compile(
        r"\b(your (face|smile|eyes?|brows?|eyebrows?|mouth|voice)|smil\w+|frown\w*|you look|you sound)\b",
        re.I,
    )
    found = [reply for line in corpus for reply in line.replies.values() if told.search(reply)]
    assert found == []


def test_plain_ascii(corpus: list[CorpusLine]) -> None:
    assert all(text.isascii() for line in corpus for text in (line.message, *line.replies.values()))
