"""The session folder: what was written is read back, and damage is named."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import (
    EVENT_ADAPTER,
    SessionEnd,
    SessionStart,
    Text,
    VideoSegmentEnd,
    VideoSegmentStart,
)
from natural_video_llm.sessions.folder import Session, SessionWriter, find_sessions

TEXT = Text(speaker="speaker", text="hi", t_start=1, t_end=2, timing="char", char_times=[1.0, 2.0])


def start(session_id: str = "one", **fields: Any) -> SessionStart:
    return SessionStart(
        session_id=session_id,
        started_utc="2026-01-01T00:00:00.000+00:00",
        filmed_speaker="speaker",
        consent="a test",
        **fields,
    )


def write(path: Path, *events: Any) -> Path:
    with SessionWriter(path, start(path.name)) as log:
        for event in events:
            log.append(event)
    return path / "session.jsonl"


def test_everything_comes_back(tmp_path: Path) -> None:
    events = [
        VideoSegmentStart(t=0.5, file="video/000000.mp4"),
        TEXT,
        Text(
            speaker="assistant",
            text="well, now",
            t_start=2.5,
            t_end=4,
            timing="word",
            word_times=[(0, 4, 2.5, 3.0), (6, 9, 3.5, 4.0)],
        ),
        VideoSegmentEnd(t=5, file="video/000000.mp4", frames=90, dropped=2),
        SessionEnd(t=5.5),
    ]
    write(tmp_path / "one", *events)
    assert Session(tmp_path / "one").events == [start("one"), *events]


def test_unknown_fields_survive_a_round_trip(tmp_path: Path) -> None:
    log = write(tmp_path / "one", TEXT)
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    lines[0]["lamp"] = {"lux": 80, "kind": None}
    lines[1]["gaze"] = None
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    first, text = Session(tmp_path / "one").events
    assert isinstance(first, SessionStart)
    with SessionWriter(tmp_path / "two", first) as writer:
        writer.append(text)
    copied = (tmp_path / "two" / "session.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in copied] == lines


def test_a_damaged_last_line_is_reported_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path / ("long_name_" * 12), TEXT, SessionEnd(t=3))
    whole = log.read_bytes()
    log.write_bytes(whole[:-8])
    assert Session(log.parent).events[1:] == [TEXT]
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "line 3" in output.err
    assert "skipped" in output.err


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b'{"event": "text"', b"\xff\xfe\x00", b'{"event": "nonsense", "t": 1}', b"[1, 2]"],
)
def test_any_other_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    log = write(tmp_path / "one", TEXT, SessionEnd(t=3))
    lines = log.read_bytes().split(b"\n")
    lines[1] = damage
    log.write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match="line 2 is damaged") as raised:
        Session(log.parent)
    assert "\n" not in str(raised.value)


def test_a_damaged_line_tells_the_field(tmp_path: Path) -> None:
    log = write(tmp_path / "one", TEXT, SessionEnd(t=3))
    log.write_text(log.read_text(encoding="utf-8").replace('"t_start":1.0,', ""), encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2 .*t_start"):
        Session(log.parent)


def test_a_folder_without_a_first_event_is_no_session(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"session\.jsonl cannot be read"):
        Session(tmp_path)
    (tmp_path / "session.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match="no session_start"):
        Session(tmp_path)
    (tmp_path / "session.jsonl").write_text(TEXT.model_dump_json() + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="no session_start"):
        Session(tmp_path)


def test_an_existing_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    log = write(tmp_path / "one", TEXT)
    before = log.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        SessionWriter(tmp_path / "one", start())
    assert log.read_bytes() == before


def test_a_second_reader_sees_each_line_at_once(tmp_path: Path) -> None:
    with SessionWriter(tmp_path / "one", start()) as log:
        assert Session(tmp_path / "one").events == [start()]
        log.append(TEXT)
        assert Session(tmp_path / "one").texts == [TEXT]


@pytest.mark.parametrize("session_id", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "a\n", "é", "../up"])
def test_unsafe_session_ids_are_refused(tmp_path: Path, session_id: str) -> None:
    with pytest.raises(UserError, match="session id"):
        SessionWriter(tmp_path / "one", start(session_id))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written") as raised:
        SessionWriter(tmp_path / "file" / "one", start())
    assert "\n" not in str(raised.value)


def test_unfinished_segments_are_not_read(tmp_path: Path) -> None:
    ended = VideoSegmentEnd(t=9.9, file="video/000000.mp4", frames=10)
    write(
        tmp_path / "one",
        VideoSegmentStart(t=0, file="video/000000.mp4"),
        ended,
        VideoSegmentStart(t=10, file="video/000001.mp4"),
    )
    assert Session(tmp_path / "one").finished_segments == [ended]


def test_texts_come_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    late = TEXT.model_copy(update={"t_start": 5.0, "t_end": 6.0, "char_times": [5.0, 6.0]})
    write(tmp_path / "one", late, TEXT)
    assert Session(tmp_path / "one").texts == [TEXT, late]


def test_find_sessions(tmp_path: Path) -> None:
    write(tmp_path / "b")
    write(tmp_path / "a")
    (tmp_path / "neither").mkdir()
    write(tmp_path / "c").parent.rename(tmp_path / ".c.partial")  # what a killed generator leaves behind
    assert [s.start.session_id for s in find_sessions(tmp_path)] == ["a", "b"]
    assert [s.start.session_id for s in find_sessions(tmp_path / "b")] == ["b"]
    for empty in (tmp_path / "neither", tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no session here"):
            find_sessions(empty)


@pytest.mark.parametrize(
    "change",
    [
        {"t_end": 0.5},
        {"char_times": None},
        {"char_times": [1.0]},
        {"char_times": [1.0, 2.5]},
        {"char_times": [0.5, 2.0]},
        {"t_end": math.inf},
        {"t_start": math.nan},
        {"timing": "word"},
        {"timing": "word", "char_times": None, "word_times": [(0, 3, 1.0, 2.0)]},
        {"timing": "word", "char_times": None, "word_times": [(1, 1, 1.0, 2.0)]},
        {"timing": "word", "char_times": None, "word_times": [(0, 2, 2.0, 1.0)]},
        {"timing": "word", "char_times": None, "word_times": [(0, 2, 1.0, 3.0)]},
        {"timing": "sentence"},
    ],
)
def test_times_must_fit_the_text(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Text(**{**TEXT.model_dump(), **change})


def test_corrected_text_may_have_falling_times() -> None:
    text = Text(**{**TEXT.model_dump(), "char_times": [2.0, 1.0]})
    assert EVENT_ADAPTER.validate_json(text.model_dump_json()) == text
