"""Frames → numbered segments; what a killed recorder left is taken up again."""

import os
from pathlib import Path

import numpy as np
import pytest

from natural_video_llm.sessions.clock import boot_id
from natural_video_llm.sessions.events import SessionStart, VideoSegmentEnd, VideoSegmentStart
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.segments import SegmentRecorder, recover_segments
from natural_video_llm.sessions.video import read_frames


@pytest.fixture
def writer(tmp_path: Path) -> SessionWriter:
    start = SessionStart(
        session_id="one", started_utc="2026", monotonic_s=0.0, boot_id=boot_id(), filmed_speaker="a", consent="a test"
    )
    return SessionWriter(tmp_path / "one", start)


def picture(height_px: int = 48, width_px: int = 64) -> np.ndarray:
    return np.full((height_px, width_px, 3), 99, np.uint8)


def record(writer: SessionWriter, times_s: list[float], segment_s: float = 1.0) -> SegmentRecorder:
    recorder = SegmentRecorder(writer, segment_s, 10)
    for time_s in times_s:
        recorder.write(picture(), time_s)
    return recorder


def test_segments_follow_each_other(writer: SessionWriter) -> None:
    times = [5 + i / 10 for i in range(25)]
    record(writer, times).finish()
    session = Session(writer.path)
    assert [(s.file, s.frames, s.t) for s in session.finished_segments] == [
        ("video/000000.mp4", 10, pytest.approx(5.9)),
        ("video/000001.mp4", 10, pytest.approx(6.9)),
        ("video/000002.mp4", 5, pytest.approx(7.4)),
    ]
    read = [time_s for s in session.finished_segments for time_s, _ in read_frames(writer.path / s.file)]
    np.testing.assert_allclose(read, times, atol=1e-4)
    assert [type(e) for e in session.events[1:]] == [VideoSegmentStart, VideoSegmentEnd] * 3


def test_drops_are_counted_in_the_segment_that_they_lie_in(writer: SessionWriter) -> None:
    recorder = SegmentRecorder(writer, 1.0, 10)
    recorder.write(picture(), 0.0)
    recorder.write(picture(), 0.5, dropped=3)
    recorder.write(picture(), 1.1, dropped=2)  # lost before the next segment began
    recorder.finish(dropped=1)
    assert [s.dropped for s in Session(writer.path).finished_segments] == [5, 1]


def test_odd_sides_are_cut_and_a_new_size_begins_a_segment(writer: SessionWriter) -> None:
    recorder = SegmentRecorder(writer, 10.0, 10)
    for time_s, size in ((0.0, (49, 65)), (0.1, (48, 64)), (0.2, (96, 128))):
        recorder.write(picture(*size), time_s)
    recorder.finish()
    segments = Session(writer.path).finished_segments
    shapes = [[rgb.shape for _, rgb in read_frames(writer.path / s.file)] for s in segments]
    assert shapes == [[(48, 64, 3)] * 2, [(96, 128, 3)]]


def test_numbers_go_on_after_whatever_lies_there(writer: SessionWriter) -> None:
    record(writer, [0.0]).finish()
    record(writer, [1.0]).finish()
    (writer.path / "video" / "000007.mp4").touch()
    (writer.path / "video" / "holiday.mp4").touch()
    record(writer, [2.0]).finish()
    writer.append(VideoSegmentStart(t=3, file="video/000020.mp4"))
    record(writer, [4.0]).finish()
    files = [s.file for s in Session(writer.path).finished_segments]
    assert files == [f"video/{number:06d}.mp4" for number in (0, 1, 8, 21)]


def test_a_segment_left_open_is_taken_up_once(writer: SessionWriter, capsys: pytest.CaptureFixture[str]) -> None:
    record(writer, [i / 10 for i in range(8)], segment_s=5)  # never closed: its process was killed
    recover_segments(writer)
    recover_segments(writer)
    (segment,) = Session(writer.path).finished_segments
    assert segment.recovered
    assert segment.frames == len(list(read_frames(writer.path / segment.file))) >= 4
    assert segment.t == pytest.approx((segment.frames - 1) / 10, abs=1e-3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", [None, b"", b"no video" * 20])
def test_a_file_without_a_frame_is_left_and_reported(
    writer: SessionWriter, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    video = writer.path / "video" / "000000.mp4"
    if content is not None:
        video.write_bytes(content)
    writer.append(VideoSegmentStart(t=0, file="video/000000.mp4"))
    recover_segments(writer)
    assert "000000.mp4" in capsys.readouterr().err
    assert Session(writer.path).finished_segments == []
    assert (video.read_bytes() if video.exists() else None) == content


def test_nothing_is_left_open(writer: SessionWriter) -> None:
    record(writer, [0.0]).finish()
    before = len(os.listdir("/dev/fd"))
    record(writer, [float(i) for i in range(1, 20)]).finish()
    assert len(os.listdir("/dev/fd")) == before
