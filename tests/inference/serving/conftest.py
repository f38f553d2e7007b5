"""A run and a server of it, shared by the tests that change nothing for others."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_server import LiveServer, make_run, serving

from natural_video_llm.inference.server import Service
from natural_video_llm.inference.serving.limits import Limits
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.sessions.video import read_frames


@pytest.fixture(scope="session")
def run(tiny_llm: Path, face_task_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("served") / "tiny", tiny_llm)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[LiveServer]:
    with serving(Service(run, limits=Limits(sessions=12))) as server:
        yield server


@pytest.fixture(scope="session")
def pictures(tiny_sessions: Path) -> list[np.ndarray]:
    """A sample speaker's frames, rgb."""
    session = find_sessions(tiny_sessions)[0]
    return [rgb for _, rgb in read_frames(session.path / session.finished_segments[0].file)]


@pytest.fixture(scope="session")
def jpegs(pictures: list[np.ndarray]) -> list[bytes]:
    return [cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes() for rgb in pictures]


@pytest.fixture(scope="session")
def points(pictures: list[np.ndarray], face_task_file: Path) -> np.ndarray:
    """A face as a browser would have found it, [478, 3]."""
    face = FaceLandmarker(face_task_file)(pictures[0], 0.0)
    assert face is not None
    return face.points
