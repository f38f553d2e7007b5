"""A session at a glance and in order of time."""

from pathlib import Path

import pytest
from small_sessions import CHAR, WORDS, make_session

from natural_video_llm.sessions.events import Text, VideoGap, VideoSegmentStart
from natural_video_llm.sessions.latents import latents_file
from natural_video_llm.sessions.summary import encoders_of, length_s, summarise, timeline


def test_the_figures(tmp_path: Path) -> None:
    session = make_session(tmp_path / "one", segments=3, latents=("face-geometry", "vit:a/b"), person="ann")
    summary = summarise(session)
    assert (summary.session_id, summary.person, summary.minutes) == ("one", "ann", pytest.approx(3 / 60))
    assert (summary.words, summary.utterances, summary.consent) == (3, 2, True)
    assert summary.face_share == 0.5
    assert summary.encoders == encoders_of(session) == ["face-geometry", "vit:a/b"]


def test_a_reply_answers_the_filmed_person(tmp_path: Path) -> None:
    def said(*turns: tuple[str, str]) -> list[Text]:
        return [
            Text(speaker=who, text=text, t_start=float(at), t_end=float(at), timing="utterance")
            for at, (who, text) in enumerate(turns)
        ]

    dialogue = said(("bob", "Hi"), ("ann", "Hi"), ("ann", "You?"), ("bob", "Well."), ("bob", "So"), ("ann", "Good"))
    assert summarise(make_session(tmp_path / "one", dialogue)).replies == 1
    assert summarise(make_session(tmp_path / "two", said(("ann", "Hi"), ("bob", " ")))).replies == 0
    assert summarise(make_session(tmp_path / "three", said(("bob", "Hi"), ("ann", "Hi")))).replies == 0


def test_without_latents_or_consent(tmp_path: Path) -> None:
    session = make_session(tmp_path / "one", consent="")
    assert summarise(session).face_share is None
    assert not summarise(session).consent


def test_damaged_latents_do_not_count(tmp_path: Path) -> None:
    session = make_session(tmp_path / "one", segments=2, latents=("face-geometry",))
    latents_file(session, "face-geometry", "video/000001.mp4").write_bytes(b"damaged")
    assert summarise(session).face_share == 0.5
    latents_file(session, "face-geometry", "video/000000.mp4").write_bytes(b"damaged")
    assert summarise(session).encoders == []


def test_the_timeline_is_in_order(tmp_path: Path) -> None:
    gap = VideoGap(t=1.0, t_end=7.5, reason="unplugged")
    session = make_session(
        tmp_path / "one", (WORDS, gap, CHAR, VideoSegmentStart(t=8.0, file="video/9.mp4")), segments=2
    )
    assert length_s(session) == 8.0
    lines = list(timeline(session))
    assert [time_s for time_s, _ in lines] == sorted(time_s for time_s, _ in lines)
    assert [line for _, line in lines] == [
        "session one begins (2026-01-02T03:04:05.000+00:00)",
        "video video/000000.mp4 until 0.5 s, 2 frames",
        "ann: hé [char]",
        "bob: well, 你好 [word]",
        "video video/000001.mp4 until 1.5 s, 2 frames",
        "no video until 7.5 s: unplugged",
        "a recorder ends",
        "video video/9.mp4 (never finished)",
    ]
