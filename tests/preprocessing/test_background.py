"""Video with the face painted over: nobody is found in it, whatever is left is the background."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.background import encode_background, extract_backgrounds, face_region, painted_over
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.sessions.deletion import delete_session
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import background_file, load_background_latents, load_latents, save_latents
from natural_video_llm.sessions.summary import encoders_of
from natural_video_llm.sessions.video import read_frames

ENCODER = "face-geometry"


@pytest.fixture(scope="module")
def session(tiny_sessions: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A copy of one person's session with its background encoded."""
    folder = shutil.copytree(tiny_sessions / "person_000", tmp_path_factory.mktemp("data") / "person_000")
    found = Session(folder)
    extract_backgrounds([found], ENCODER, make_encoder(ENCODER).weights_sha256, 1, lambda *_: None)
    return found


def test_nobody_is_in_view_where_the_face_is_painted_over(session: Session) -> None:
    background = load_background_latents(session, ENCODER)
    frames = sum(len(list(read_frames(session.path / s.file))) for s in session.finished_segments)
    assert len(background.times) == frames > 20
    assert not background.present.any()
    assert encoders_of(session) == [], "it is not taken for latents of the face"


def test_one_rectangle_covers_the_face_in_all_frames_and_leaves_the_rest(
    session: Session, face_task_file: Path
) -> None:
    video = session.path / session.finished_segments[0].file
    frames = list(read_frames(video))
    landmarker = FaceLandmarker(face_task_file)
    region = face_region(frames, landmarker)
    assert region is not None
    left, top, right, bottom = region
    landmarker.reset()
    for time_s, rgb in frames:
        face = landmarker(rgb, time_s)
        assert face is not None
        assert (face.points[:, :2] > (left, top)).all()
        assert (face.points[:, :2] < (right, bottom)).all()
        painted = painted_over(rgb, region)
        assert np.ptp(painted[top:bottom, left:right]) == 0
        outside = np.ones(rgb.shape[:2], bool)
        outside[top:bottom, left:right] = False
        assert np.array_equal(painted[outside], rgb[outside])
        assert outside.mean() > 0.2, "there is a background"


def test_a_video_without_a_face_stays_as_it_is(face_task_file: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    region = face_region([(0.0, picture)], FaceLandmarker(face_task_file))
    assert region is None
    assert np.array_equal(painted_over(picture, region), picture)


def test_it_is_done_once_and_again_for_other_weights(session: Session) -> None:
    files = [background_file(session, ENCODER, s.file) for s in session.finished_segments]
    sha256 = make_encoder(ENCODER).weights_sha256
    before = [file.stat().st_mtime_ns for file in files]
    told: list[tuple[int, int]] = []
    extract_backgrounds([session], ENCODER, sha256, 1, lambda *done: told.append(done))
    assert not told
    assert [file.stat().st_mtime_ns for file in files] == before
    save_latents(files[0], replace(load_latents(files[0]), encoder_sha256="0" * 64))
    extract_backgrounds([session], ENCODER, sha256, 1, lambda *done: told.append(done))
    assert told == [(1, 1)]
    assert load_latents(files[0]).encoder_sha256 == sha256


def test_it_goes_with_its_session(session: Session, tmp_path: Path) -> None:
    copied = Session(shutil.copytree(session.path, tmp_path / "person_000"))
    assert background_file(copied, ENCODER, "video/000000.mp4").is_file()
    delete_session(copied.path)
    assert not list(tmp_path.rglob("*"))


def test_what_is_missing_is_named(session: Session, tmp_path: Path, face_task_file: Path) -> None:
    with pytest.raises(UserError, match="is missing; run: nvllm eval RUN --background"):
        load_background_latents(session, "another")
    target = tmp_path / "gone.safetensors"
    with pytest.raises(UserError, match=r"gone\.mp4: no readable video"):
        encode_background(tmp_path / "gone.mp4", target, make_encoder(ENCODER), FaceLandmarker(face_task_file))
    assert not target.exists()
