"""A run and a server of it, shared by the tests that change nothing for others."""

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_server import LiveServer, geometry, open_room, serving
from tiny_models import make_run

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


@pytest.fixture(scope="session")
def recorded(run: Path, points: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two sessions of one conversation; before both have agreed, each one's recording holds their own words."""
    folder = tmp_path_factory.mktemp("room") / "sessions"
    wish = {"recording": {"keep": "geometry", "consent": "I agree."}}
    with serving(Service(run, record=folder, limits=Limits(sessions=4))) as server:
        room = open_room(server)
        with server.connect(room) as ann, server.connect(room) as bob:
            for client in (ann, bob):
                client.match_clocks()
            ann.send("session.update", session=wish)
            ann.until("session.updated")
            while not bob.until("room.changed")[-1]["other_recording"]:
                pass
            bob.say("Not to be kept")
            ann.until("room.message")
            bob.send("session.update", session=wish)
            bob.until("session.updated")
            for exchange in range(3):
                for writer, reader in ((ann, bob), (bob, ann)):
                    for client in (ann, bob):
                        for turn in range(3):
                            client.see(geometry(points + turn), kind=2)
                            time.sleep(0.07)
                    now_s = writer.now_s()
                    text = f"Words {exchange}"
                    writer.say(text, char_times=[now_s - 0.01 * left for left in range(len(text))][::-1])
                    reader.until("room.message")
            for client in (ann, bob):
                client.send("session.update", session={"recording": None})
                client.until("session.updated")
    return folder
