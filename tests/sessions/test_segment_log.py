"""Following a session's log: whole lines, each once."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from natural_video_llm.sessions.events import SessionStart, Text, VideoSegmentEnd, VideoSegmentStart
from natural_video_llm.sessions.segment_log import SegmentLog

START = SessionStart(session_id="s", started_utc="2026-01-01T00:00:00.000+00:00", filmed_speaker="a", consent="yes")
ENDS = [VideoSegmentEnd(t=10.0 * (i + 1), file=f"video/{i:06d}.mp4", frames=300) for i in range(3)]
TEXT = Text(speaker="a", text='"video_segment_end" \n', t_start=1, t_end=2, timing="utterance")
EVENTS = [START, VideoSegmentStart(t=0, file=ENDS[0].file), ENDS[0], TEXT, ENDS[1], ENDS[2]]
LOG = "".join(event.model_dump_json(exclude_none=True) + "\n" for event in EVENTS).encode()


@given(st.sets(st.integers(0, len(LOG))))
def test_however_the_log_grows_each_segment_comes_once(cuts: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "session.jsonl"
        follower = SegmentLog(Path(folder))
        found = []
        for end in [*sorted(cuts), len(LOG)]:
            log.write_bytes(LOG[:end])
            segments, damaged = follower.read_new()
            assert not damaged
            found += segments
            assert len(found) == sum(LOG[:end].count(f'{e.file}","frames":300,"dropped":0}}\n'.encode()) for e in ENDS)
        assert found == ENDS


def test_a_torn_line_that_is_cut_off_and_written_anew(tmp_path: Path) -> None:
    log = tmp_path / "session.jsonl"
    follower = SegmentLog(tmp_path)
    lines = LOG.splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[2][:30])
    assert follower.read_new() == ([], [])
    log.write_bytes(lines[0])
    assert follower.read_new() == ([], [])
    log.write_bytes(lines[0] + lines[4])
    assert follower.read_new() == ([ENDS[1]], [])


def test_damaged_lines_are_told_once_and_the_rest_is_read(tmp_path: Path) -> None:
    lines = LOG.splitlines(keepends=True)
    log = tmp_path / "session.jsonl"
    log.write_bytes(lines[0] + b'{"event":"video_segment_end","t":\n' + b"no line about a segment\n" + lines[4])
    follower = SegmentLog(tmp_path)
    segments, damaged = follower.read_new()
    assert segments == [ENDS[1]]
    assert len(damaged) == 1
    assert "line 2 is damaged" in damaged[0]
    assert follower.read_new() == ([], [])


def test_a_log_without_a_start_is_no_session(tmp_path: Path) -> None:
    log = tmp_path / "session.jsonl"
    log.write_bytes(LOG.split(b"\n", 1)[1])
    follower = SegmentLog(tmp_path)
    segments, damaged = follower.read_new()
    assert not segments
    assert len(damaged) == 1
    assert "no session folder" in damaged[0]
    assert follower.read_new() == ([], [])


def test_another_log_in_its_place_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "session.jsonl"
    log.write_bytes(LOG)
    follower = SegmentLog(tmp_path)
    assert follower.read_new() == (ENDS, [])
    beside = tmp_path / "other.jsonl"
    beside.write_bytes(LOG)
    beside.replace(log)
    assert follower.read_new() == (ENDS, [])
    log.unlink()
    assert follower.read_new() == ([], [])
