"""Contact sheets out of sessions whose frames are known."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.judging.contact_sheet import FRAMES, contact_sheet, frames_at
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.sessions.events import SessionStart, VideoSegmentEnd, VideoSegmentStart
from natural_video_llm.sessions.folder import Session, SessionWriter, find_sessions
from natural_video_llm.sessions.video import SegmentWriter, read_frames

SIDE_PX = 64


def make_video(folder: Path, seconds: int = 6, segment_s: int = 3) -> Session:
    """Ten grey frames a second in two segments; each is as bright as its time, 0 s black and 6 s white."""
    start = SessionStart(session_id="s", started_utc="2026-01-01T00:00:00Z", filmed_speaker="ann", consent="made up")
    with SessionWriter(folder, start) as writer:
        for number in range(seconds // segment_s):
            file, times = f"video/{number:06d}.mp4", number * segment_s + np.arange(segment_s * 10) / 10
            segment = SegmentWriter(folder / file, SIDE_PX, SIDE_PX, 10)
            for time_s in times:
                segment.write(np.full((SIDE_PX, SIDE_PX, 3), round(time_s * 40), np.uint8), time_s)
            segment.close()
            writer.append(VideoSegmentStart(t=float(times[0]), file=file))
            writer.append(VideoSegmentEnd(t=float(times[-1]), file=file, frames=len(times)))
    return Session(folder)


def shown_at(frames: list[np.ndarray]) -> list[float]:
    return [float(frame.mean()) / 40 for frame in frames]


def test_each_moment_shows_the_newest_frame_that_was_there(tmp_path: Path) -> None:
    session = make_video(tmp_path / "s")
    moments = [0.05, 1.25, 2.95, 3.04, 5.55]  # within a segment, at its end, over its seam, far into the next
    assert shown_at(frames_at(session, np.array(moments))) == pytest.approx([0.0, 1.2, 2.9, 3.0, 5.5], abs=0.06)


def test_moments_outside_the_video(tmp_path: Path) -> None:
    session = make_video(tmp_path / "s")
    assert shown_at(frames_at(session, np.array([-1.0, 5.0, 9.0]))) == pytest.approx([5.0, 5.9], abs=0.06)
    assert frames_at(session, np.array([-3.0, -2.0])) == []


def test_reading_from_a_time_on_begins_at_a_key_frame_before_it(tmp_path: Path) -> None:
    video = make_video(tmp_path / "s").path / "video/000001.mp4"
    times = [time_s for time_s, _ in read_frames(video, from_s=4.5)]
    assert 3.0 <= times[0] <= 4.5
    assert times[-1] == pytest.approx(5.9)
    assert np.diff(times) == pytest.approx(np.full(len(times) - 1, 0.1), abs=1e-4)


def test_no_face_no_sheet_and_no_video_one_line(tmp_path: Path, face_task_file: Path) -> None:
    session, landmarker = make_video(tmp_path / "s"), FaceLandmarker(face_task_file)
    assert contact_sheet(session, 1.0, 4.0, landmarker) is None
    (session.path / "video/000000.mp4").unlink()
    with pytest.raises(UserError, match=r"000000\.mp4"):
        contact_sheet(session, 1.0, 4.0, landmarker)


def test_the_sheet_holds_the_face_of_each_moment_and_is_the_same_each_time(
    tiny_sessions: Path, face_task_file: Path
) -> None:
    session, landmarker = find_sessions(tiny_sessions)[0], FaceLandmarker(face_task_file)
    sheet = contact_sheet(session, 0.5, 4.0, landmarker)
    assert sheet is not None
    assert sheet == contact_sheet(session, 0.5, 4.0, landmarker), "or a judge would be asked again"
    assert len(sheet) < 200_000
    picture = cv2.cvtColor(cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert picture.shape == (448, 896, 3)
    tiles = [picture[224 * (i // 4) : 224 * (i // 4 + 1), 224 * (i % 4) : 224 * (i % 4 + 1)] for i in range(FRAMES)]
    for tile in tiles:
        landmarker.reset()
        face = landmarker(tile)
        assert face is not None
        assert np.ptp(face.points[:, :2], axis=0).max() > 100, "the face fills its tile"
