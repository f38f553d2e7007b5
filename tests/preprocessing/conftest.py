"""Sessions in many short segments, for extraction that is killed, shared or watched."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from extracting import ENCODER

from natural_video_llm.preprocessing.extract_video_latents import extract
from natural_video_llm.sessions.events import VideoSegmentEnd, VideoSegmentStart
from natural_video_llm.sessions.folder import Session, SessionWriter, find_sessions
from natural_video_llm.sessions.video import SegmentWriter, read_frames


@pytest.fixture(scope="session")
def extracted(tiny_sessions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions cut into short segments, with the latents that plain extraction makes."""
    out = tmp_path_factory.mktemp("watched") / "sessions"
    for source in find_sessions(tiny_sessions)[:2]:
        with SessionWriter(out / source.path.name, source.start) as log:
            for end in cut_shorter(source, out / source.path.name):
                log.append(VideoSegmentStart(t=end.t, file=end.file))
                log.append(end)
    list(extract(find_sessions(out), ENCODER, 2))
    return out


def cut_shorter(source: Session, session: Path) -> Iterator[VideoSegmentEnd]:
    """Writes the source's video into `session` as segments of 25 frames."""
    frames = [frame for end in source.finished_segments for frame in read_frames(source.path / end.file)]
    for number, first in enumerate(range(0, len(frames), 25)):
        file = f"video/{number:06d}.mp4"
        writer = SegmentWriter(session / file, frames[0][1].shape[1], frames[0][1].shape[0], 10)
        for time_s, rgb in frames[first : first + 25]:
            writer.write(rgb, time_s)
        writer.close()
        yield VideoSegmentEnd(t=time_s, file=file, frames=writer.frames)


@pytest.fixture
def sessions(extracted: Path, tmp_path: Path) -> Path:
    """The same two sessions without latents."""
    return shutil.copytree(extracted, tmp_path / "sessions", ignore=shutil.ignore_patterns("latents"))
