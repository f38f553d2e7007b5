"""The page in a real browser with a real server; the cases themselves are in web/e2e/page.mjs."""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_camera import real_face
from page_server import BUILT, REAL_FACE, Server, node

from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.preprocessing.align_text_video import align_session
from natural_video_llm.preprocessing.encoders import Execution
from natural_video_llm.preprocessing.encoders.face_landmarks import (
    LEFT_EYE_OUTER,
    POINTS,
    RIGHT_EYE_OUTER,
    FaceLandmarker,
)
from natural_video_llm.preprocessing.extract_video_latents import extract
from natural_video_llm.sessions.folder import find_sessions

CASES = (
    *("firstLoad", "geometryOnly", "conversation", "videoByChoice", "textOnly", "strangeText", "interruption"),
    *("reconnect", "twoTabs", "unplugged", "keyboardOnly", "recording", "deletion", "otherFace", "nobodyInView"),
    *("cameraDenied", "cameraMissing"),
)


@pytest.mark.parametrize("name", CASES)
def test_page(name: str, seen_in_chromium: dict[str, dict]) -> None:
    case = seen_in_chromium[name]
    assert case["ok"], case["error"]


def test_every_case_is_listed(seen_in_chromium: dict[str, dict]) -> None:
    assert set(seen_in_chromium) - {"out"} == set(CASES)


def test_what_was_recorded_can_be_learned_from_and_what_was_deleted_is_gone(
    seen_in_chromium: dict[str, dict], server: Server, llm_dir: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(seen_in_chromium["out"]["folder"] / "export.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
        log = next(name for name in names if name.endswith("/session.jsonl"))
        events = [json.loads(line) for line in archive.read(log).splitlines()]
    said = [event for event in events if event["event"] == "text"]
    assert said[0]["text"] == "I lost my keys"
    assert len(said[0]["char_times"]) == len("I lost my keys")
    assert any(name.endswith(".mp4") for name in names)
    assert "agree" in events[0]["consent"]
    assert not list(server.recordings.glob("*"))
    (session,) = find_sessions(tmp_path)
    encoder = "face-geometry"
    assert all(segment.seen for segment in extract([session], encoder, 1, Execution()))
    assert align_session(session, load_tokenizer(llm_dir), llm_dir, encoder, 3.0) == len(said)


def test_the_parts_of_the_page(web_tools: Path) -> None:
    made = node("--test", "units.test.ts")
    assert made.returncode == 0, made.stdout


def test_nothing_in_the_page_knows_an_address_to_send_statistics_to(web_tools: Path) -> None:
    """tasks-vision posts them once a minute, which no short test would see."""
    for script in BUILT.glob("app/*.js"):
        assert "odml.pa.googleapis.com" not in script.read_text(encoding="utf-8")


def test_browser_and_server_see_the_same_face(
    chromium: str, server: Server, face_task_file: Path, tmp_path: Path
) -> None:
    """Mean over frames and points, in distances between the eyes' outer corners."""
    frames = list(real_face(REAL_FACE, 60))[::6]
    files = [tmp_path / f"{number}.png" for number in range(len(frames))]
    for file, rgb in zip(files, frames, strict=True):
        cv2.imwrite(str(file), rgb[..., ::-1])
    (worker,) = BUILT.glob("app/faceWorker-*.js")
    made = node("geometry.mjs", server.address, chromium, f"/app/{worker.name}", *files)
    assert made.returncode == 0, made.stderr
    landmarker, differences = FaceLandmarker(face_task_file), []
    for number, (rgb, found) in enumerate(zip(frames, json.loads(made.stdout), strict=True)):
        own = landmarker(rgb, number / 15)
        assert own is not None
        eyes = np.linalg.norm(own.points[LEFT_EYE_OUTER] - own.points[RIGHT_EYE_OUTER])
        apart = np.linalg.norm(np.reshape(found, (POINTS, 3)) - own.points, axis=1)
        differences.append(apart.mean() / eyes)
    assert np.mean(differences) < 0.015
