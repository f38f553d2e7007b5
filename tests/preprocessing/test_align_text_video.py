"""Every token gets its time: properties on the real tokenizer, with any text and any times."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.align_text_video import align_session, align_text
from natural_video_llm.sessions.aligned import AlignedUtterance, read_aligned
from natural_video_llm.sessions.events import SessionStart, Text, VideoSegmentEnd
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import Latents, latents_file, save_latents
from natural_video_llm.tokenization import tokenizer_sha256

WINDOW_S = 1.5
AWKWARD = [
    "😀",
    "👩‍👩‍👧",
    "🇳🇴",
    "é",
    "e\u0301",
    "שלום",
    "مرحبا",
    "\u200f",
    "ﷺ",
    "你好",
    "\n",
    "\t",
    "  ",
    " word",
    "!",
    "'s",
]

# The default vocabulary lacks bytes of some control characters (Cc) and of empty code points (Cn).
characters = st.characters(exclude_categories=["Cs", "Cc", "Cn"])
any_text = st.lists(st.one_of(st.sampled_from(AWKWARD), st.text(characters, max_size=4)), min_size=1, max_size=12).map(
    "".join
)
steps = st.floats(0, 2, allow_nan=False).map(lambda step: round(step, 3))
many = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

Align = Callable[[Text], AlignedUtterance]


@pytest.fixture(scope="module")
def tokenizer(llm_dir: str) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(llm_dir)


@pytest.fixture(scope="module")
def latents() -> Latents:
    times = np.round(np.arange(0, 60, 0.1) + 0.03, 3)
    return Latents(
        np.zeros((len(times), 2), np.float16), times, np.ones(len(times), bool), "face-geometry", "ab", "none"
    )


@pytest.fixture(scope="module")
def align(tokenizer: PreTrainedTokenizerBase, latents: Latents) -> Align:
    return lambda event: align_text(event, tokenizer, "default", "cd", latents, WINDOW_S)


@st.composite
def typed(draw: st.DrawFn, rising: bool = True) -> Text:
    """Typed text; where times do not rise, characters were put in or changed later."""
    text = draw(any_text.filter(lambda text: bool(text.strip())))
    times = draw(st.lists(steps, min_size=len(text), max_size=len(text)))
    if rising:
        times = [round(time, 3) for time in itertools.accumulate(times, initial=draw(steps))][1:]
    return Text(
        speaker="speaker",
        text=text,
        t_start=min(times),
        t_end=max(times),
        timing="char",
        char_times=times,
    )


@st.composite
def spoken(draw: st.DrawFn) -> Text:
    """Timed words with gaps of spaces and marks between them."""
    text, now_s, words = "", draw(steps), []
    word = st.sampled_from(["now", "it's", "é😀", "שלום", "unbelievable", "x"])
    for part in draw(st.lists(word, min_size=1, max_size=6)):
        text += draw(st.sampled_from(["", " ", ", ", "—"])) if not text else draw(st.sampled_from([" ", ", "]))
        start_s = round(now_s + draw(steps), 3)
        now_s = round(start_s + draw(steps), 3)
        words.append((len(text), len(text) + len(part), start_s, now_s))
        text += part
    text += draw(st.sampled_from(["", "!", " ..."]))
    return Text(
        speaker="speaker",
        text=text,
        t_start=words[0][2],
        t_end=words[-1][3],
        timing="word",
        word_times=words,
    )


def check_always(event: Text, found: AlignedUtterance, times: np.ndarray) -> None:
    """What holds for every kind of timing."""
    covered = {i for start, end in found.token_spans for i in range(start, end)}
    assert covered == set(range(len(event.text)))
    lengths = {len(found.token_ids), len(found.token_spans), len(found.token_t_start), len(found.token_t_end)}
    assert lengths == {len(found.token_ids)}
    assert all(early <= late for early, late in itertools.pairwise(found.token_t_end))
    for t_start, t_end in zip(found.token_t_start, found.token_t_end, strict=True):
        assert event.t_start <= t_start <= t_end <= event.t_end
    seen = (times > found.token_t_start[0] - WINDOW_S) & (times <= found.token_t_end[-1])
    np.testing.assert_array_equal(np.arange(*found.latents), np.flatnonzero(seen))


@many
@given(event=typed())
def test_typed_text(event: Text, align: Align, latents: Latents) -> None:
    found = align(event)
    check_always(event, found, latents.times)
    assert event.char_times is not None
    for (start, end), t_start, t_end in zip(found.token_spans, found.token_t_start, found.token_t_end, strict=True):
        assert t_start == event.char_times[start]
        assert t_end == event.char_times[end - 1]


@many
@given(event=typed(rising=False))
def test_text_corrected_later_is_as_old_as_the_correction(event: Text, align: Align, latents: Latents) -> None:
    found = align(event)
    check_always(event, found, latents.times)
    assert event.char_times is not None
    for (_, end), t_end in zip(found.token_spans, found.token_t_end, strict=True):
        assert t_end == max(event.char_times[:end])


@many
@given(event=spoken())
def test_a_token_ends_with_its_word_and_starts_with_it(event: Text, align: Align, latents: Latents) -> None:
    found = align(event)
    check_always(event, found, latents.times)
    assert event.word_times is not None
    for (start, end), t_start, t_end in zip(found.token_spans, found.token_t_start, found.token_t_end, strict=True):
        own = [word for word in event.word_times if word[0] < end and start < word[1]]
        before = [word for word in event.word_times if word[1] <= start]
        if own:
            assert (t_start, t_end) == (own[0][2], own[-1][3])
        else:  # a mark between words, there with the word before
            assert t_start == t_end == (before[-1][3] if before else event.t_start)


def test_utterance_timing_is_known_only_at_the_end(align: Align, latents: Latents) -> None:
    event = Text(speaker="speaker", text="Nice to meet you!", t_start=5, t_end=7.5, timing="utterance")
    found = align(event)
    check_always(event, found, latents.times)
    assert set(found.token_t_start) == {5.0}
    assert set(found.token_t_end) == {7.5}


def test_text_before_the_first_and_after_the_last_latent_sees_none(align: Align, latents: Latents) -> None:
    for t_start, expected in ((0.0, (0, 0)), (500.0, (len(latents.times), len(latents.times)))):
        event = Text(speaker="s", text="hi", t_start=t_start, t_end=t_start, timing="utterance")
        assert align(event).latents == expected


def test_a_session_is_aligned_whole(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, latents: Latents, align: Align
) -> None:
    texts = [
        Text(speaker="assistant", text="late", t_start=9, t_end=9.5, timing="utterance"),
        Text(speaker="speaker", text="early\u2028on 😀", t_start=3, t_end=4, timing="utterance"),
        Text(speaker="speaker", text=" \n", t_start=5, t_end=5, timing="utterance"),
        Text(speaker="speaker", text="\x04", t_start=6, t_end=6, timing="utterance"),  # no token at all
    ]
    start = SessionStart(session_id="one", started_utc="", filmed_speaker="speaker", consent="a test")
    with SessionWriter(tmp_path / "one", start) as log:
        log.append(VideoSegmentEnd(t=59.9, file="video/000000.mp4", frames=600))
        for event in texts:
            log.append(event)
    session = Session(tmp_path / "one")
    with pytest.raises(UserError, match="nvllm extract"):
        align_session(session, tokenizer, "default", "face-geometry", WINDOW_S)
    save_latents(latents_file(session, "face-geometry", "video/000000.mp4"), latents)
    for _ in range(2):  # a second run replaces the first one's file
        assert align_session(session, tokenizer, "default", "face-geometry", WINDOW_S) == 2
        sha256 = tokenizer_sha256(tokenizer)
        expected = [align(text).model_copy(update={"tokenizer_sha256": sha256}) for text in (texts[1], texts[0])]
        assert read_aligned(session.aligned_file) == expected
