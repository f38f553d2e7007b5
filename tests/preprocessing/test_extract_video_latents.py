"""Extraction: one result, however the work is cut up."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.claim import claim
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.extract_video_latents import (
    ExtractedSegment,
    encode_segment,
    extract,
    extract_segment,
)
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.sessions.latents import load_latents
from natural_video_llm.sessions.video import SegmentWriter, read_frames

ENCODER = "face-geometry"


def run(sessions: Path, weights: Path, workers: int = 1) -> list[ExtractedSegment]:
    return list(extract(find_sessions(sessions), ENCODER, weights, workers))


def files(sessions: Path) -> dict[str, bytes]:
    found = sorted(sessions.glob("*/latents/*/*"))
    return {str(path.relative_to(sessions)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def extracted(tiny_sessions: Path, face_task_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("extracted") / "sessions"
    shutil.copytree(tiny_sessions, copy)
    shutil.rmtree(copy / "person_002")
    run(copy, face_task_file)
    return copy


def test_every_segment_has_its_latents(extracted: Path, face_task_file: Path) -> None:
    for session in find_sessions(extracted):
        for segment in session.finished_segments:
            found = load_latents(session.latents_dir(ENCODER) / Path(segment.file).with_suffix(".safetensors").name)
            times = [time_s for time_s, _ in read_frames(session.path / segment.file)]
            assert len(times) == segment.frames
            np.testing.assert_array_equal(found.times, times)
            assert found.latents.dtype == np.float16
            assert found.present.mean() > 0.95
            assert (found.latents[~found.present] == 0).all()
            assert found.encoder_sha256 == make_encoder(ENCODER, face_task_file).weights_sha256


def test_two_workers_give_what_one_gives(extracted: Path, face_task_file: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(extracted, tmp_path / "sessions")
    for latents in copy.glob("*/latents"):
        shutil.rmtree(latents)
    segments = run(copy, face_task_file, workers=2)
    assert files(copy) == files(extracted)
    assert len(segments) == len(files(copy))
    assert all(s.faces > 0.95 * s.frames and not s.already_there for s in segments)


def test_a_resumed_run_gives_what_an_unbroken_one_gives(extracted: Path, face_task_file: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(extracted, tmp_path / "sessions")
    lost = min(copy.glob("*/latents/*/*"), key=lambda path: path.stat().st_size)
    lost.unlink()
    (lost.parent / f".{lost.name}").write_bytes(b"half")  # what a killed run leaves behind
    kept = {path: path.stat().st_mtime_ns for path in copy.glob("*/latents/*/[0-9]*")}
    segments = run(copy, face_task_file)
    assert files(copy) == files(extracted)
    assert [s.video.stem for s in segments if not s.already_there] == [lost.stem]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_segment_is_done_once_by_whoever_claims_it(extracted: Path, face_task_file: Path, tmp_path: Path) -> None:
    video = extracted / "person_000" / "video" / "000001.mp4"
    target = tmp_path / "latents" / "000001.safetensors"
    encoder = make_encoder(ENCODER, face_task_file)
    with claim(target):
        assert extract_segment(video, target, encoder) is None
        assert not target.exists()
    first = extract_segment(video, target, encoder)
    assert first is not None
    assert not first.already_there
    written = target.stat().st_mtime_ns
    # Another process that had seen no file yet and got the claim after us.
    second = extract_segment(video, target, encoder)
    assert second is not None
    assert second.already_there
    assert (second.frames, second.faces) == (first.frames, first.faces)
    assert target.stat().st_mtime_ns == written
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_video_that_plays_too_few_frames_gives_no_latents(
    extracted: Path, face_task_file: Path, tmp_path: Path
) -> None:
    whole = (extracted / "person_000" / "video" / "000001.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    target = tmp_path / "half.safetensors"
    frames = Session(extracted / "person_000").finished_segments[1].frames
    with pytest.raises(UserError, match=rf"half\.mp4: plays \d+ of its {frames} frames"):
        extract_segment(tmp_path / "half.mp4", target, make_encoder(ENCODER, face_task_file), frames)
    assert not target.exists()


def test_a_stream_gives_what_the_file_gives(extracted: Path, face_task_file: Path) -> None:
    session = find_sessions(extracted)[0]
    batch = load_latents(session.latents_dir(ENCODER) / "000000.safetensors")
    encoder = make_encoder(ENCODER, face_task_file)  # as live: fresh, one picture after the other
    frames = read_frames(session.path / "video/000000.mp4")
    for number, (time_s, rgb) in enumerate(frames):
        latent = encoder.encode(rgb, time_s)
        assert (latent is not None) == batch.present[number]
        if latent is not None:
            np.testing.assert_array_equal(latent, batch.latents[number])


def test_what_came_before_a_segment_does_not_matter(extracted: Path, face_task_file: Path) -> None:
    session = find_sessions(extracted)[0]
    first, second = (session.path / segment.file for segment in session.finished_segments[:2])
    encoder = make_encoder(ENCODER, face_task_file)
    for rgb in [rgb for _, rgb in read_frames(first)][:5]:
        encoder.encode(rgb, 0.0)
    np.testing.assert_array_equal(
        encode_segment(second, encoder).latents,
        load_latents(session.latents_dir(ENCODER) / "000001.safetensors").latents,
    )


def test_latents_of_other_weights_are_refused(extracted: Path, face_task_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.task"
    other.write_bytes(face_task_file.read_bytes() + b"\0")  # a zip file may have a tail: same nets, other hash
    before = files(extracted)
    with pytest.raises(UserError, match=r"000000\.safetensors: made with weights .* delete"):
        run(extracted, other)
    assert files(extracted) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_unusable_weights_are_one_clear_line(tiny_sessions: Path, tmp_path: Path, workers: int) -> None:
    (tmp_path / "bad.task").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"bad\.task"):
        run(tiny_sessions, tmp_path / "bad.task", workers)


def test_an_unknown_encoder_is_told(tiny_sessions: Path, face_task_file: Path) -> None:
    with pytest.raises(UserError, match="unknown encoder 'mood'"):
        list(extract(find_sessions(tiny_sessions), "mood", face_task_file, 1))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_missing_video_is_one_clear_line(extracted: Path, face_task_file: Path, tmp_path: Path, workers: int) -> None:
    copy = shutil.copytree(extracted / "person_000", tmp_path / "person_000")
    shutil.rmtree(copy / "latents")
    for video in (copy / "video").iterdir():
        video.unlink()
    with pytest.raises(UserError, match=r"\.mp4: no readable video"):
        run(copy, face_task_file, workers)


def test_no_face_in_view_is_absence(face_task_file: Path, tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "black.mp4", 64, 48, 10)
    for number in range(12):
        writer.write(np.zeros((48, 64, 3), np.uint8), number / 10)
    writer.close()
    found = encode_segment(tmp_path / "black.mp4", make_encoder(ENCODER, face_task_file))
    assert found.present.tolist() == [False] * 12
    assert found.latents.shape == (12, 1440)
    assert not found.latents.any()
