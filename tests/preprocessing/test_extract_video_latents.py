"""Extraction: one result, however the work is cut up."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.claim import claim
from natural_video_llm.preprocessing.encoders import Encoded, make_encoder
from natural_video_llm.preprocessing.extract_video_latents import (
    ExtractedSegment,
    encode_segment,
    extract,
    extract_segment,
)
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.sessions.latents import load_latents, load_session_latents, save_latents
from natural_video_llm.sessions.video import SegmentWriter, read_frames

ENCODER = "face-geometry"


def run(sessions: Path, workers: int = 1, encoder: str = ENCODER) -> list[ExtractedSegment]:
    return list(extract(find_sessions(sessions), encoder, workers))


def files(sessions: Path) -> dict[str, bytes]:
    found = sorted(sessions.glob("*/latents/*/*"))
    return {str(path.relative_to(sessions)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def extracted(tiny_sessions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("extracted") / "sessions"
    shutil.copytree(tiny_sessions, copy)
    shutil.rmtree(copy / "person_002")
    run(copy)
    return copy


def test_every_segment_has_its_latents(extracted: Path) -> None:
    for session in find_sessions(extracted):
        for segment in session.finished_segments:
            found = load_latents(session.latents_dir(ENCODER) / Path(segment.file).with_suffix(".safetensors").name)
            times = [time_s for time_s, _ in read_frames(session.path / segment.file)]
            assert len(times) == segment.frames
            np.testing.assert_array_equal(found.times, times)
            assert found.latents.dtype == np.float16
            assert found.present.mean() > 0.95
            assert (found.latents[~found.present] == 0).all()
            assert found.encoder_sha256 == make_encoder(ENCODER).weights_sha256


def test_two_workers_give_what_one_gives(extracted: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(extracted, tmp_path / "sessions")
    for latents in copy.glob("*/latents"):
        shutil.rmtree(latents)
    segments = run(copy, workers=2)
    assert files(copy) == files(extracted)
    assert len(segments) == len(files(copy))
    assert all(s.seen > 0.95 * s.latents and not s.already_there for s in segments)


def test_a_resumed_run_gives_what_an_unbroken_one_gives(extracted: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(extracted, tmp_path / "sessions")
    lost = min(copy.glob("*/latents/*/*"), key=lambda path: path.stat().st_size)
    lost.unlink()
    (lost.parent / f".{lost.name}").write_bytes(b"half")  # what a killed run leaves behind
    kept = {path: path.stat().st_mtime_ns for path in copy.glob("*/latents/*/[0-9]*")}
    segments = run(copy)
    assert files(copy) == files(extracted)
    assert [s.video.stem for s in segments if not s.already_there] == [lost.stem]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_segment_is_done_once_by_whoever_claims_it(extracted: Path, tmp_path: Path) -> None:
    video = extracted / "person_000" / "video" / "000001.mp4"
    target = tmp_path / "latents" / "000001.safetensors"
    encoder = make_encoder(ENCODER)
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
    assert (second.latents, second.seen) == (first.latents, first.seen)
    assert target.stat().st_mtime_ns == written
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_video_that_plays_too_few_frames_gives_no_latents(extracted: Path, tmp_path: Path) -> None:
    whole = (extracted / "person_000" / "video" / "000001.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    target = tmp_path / "half.safetensors"
    frames = Session(extracted / "person_000").finished_segments[1].frames
    with pytest.raises(UserError, match=rf"half\.mp4: plays \d+ of its {frames} frames"):
        extract_segment(tmp_path / "half.mp4", target, make_encoder(ENCODER), frames)
    assert not target.exists()


def test_a_stream_gives_what_the_file_gives(extracted: Path) -> None:
    session = find_sessions(extracted)[0]
    batch = load_latents(session.latents_dir(ENCODER) / "000000.safetensors")
    encoder = make_encoder(ENCODER)  # as live: fresh, one picture after the other
    frames = read_frames(session.path / "video/000000.mp4")
    stream = Encoded.join([encoder.encode([frame]) for frame in frames], encoder.latent_size)
    np.testing.assert_array_equal(stream.latents, batch.latents)
    np.testing.assert_array_equal(stream.times, batch.times)
    np.testing.assert_array_equal(stream.present, batch.present)


def test_what_came_before_a_segment_does_not_matter(extracted: Path) -> None:
    session = find_sessions(extracted)[0]
    first, second = (session.path / segment.file for segment in session.finished_segments[:2])
    encoder = make_encoder(ENCODER)
    encoder.encode(list(read_frames(first))[:5])
    np.testing.assert_array_equal(
        encode_segment(second, encoder)[0].latents,
        load_latents(session.latents_dir(ENCODER) / "000001.safetensors").latents,
    )


def test_latents_of_other_weights_are_refused(extracted: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(extracted, tmp_path / "sessions")
    one = copy / "person_000" / "latents" / ENCODER / "000000.safetensors"
    save_latents(one, replace(load_latents(one), encoder_sha256="0" * 64))
    before = files(copy)
    with pytest.raises(UserError, match=r"000000\.safetensors: made with weights 000000000000.* delete"):
        run(copy)
    assert files(copy) == before


def test_weights_of_ones_own_have_a_folder_of_their_own(extracted: Path, face_task_file: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(extracted, tmp_path / "sessions")
    own = shutil.copy(face_task_file, tmp_path / "own.task")
    before = files(copy)
    run(copy, encoder=f"face-geometry:{own}")
    after = files(copy)
    assert len(after) == 2 * len(before)
    session = find_sessions(copy)[0]
    np.testing.assert_array_equal(
        load_session_latents(session, f"face-geometry:{own}").latents, load_session_latents(session, ENCODER).latents
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_unusable_weights_are_one_clear_line(tiny_sessions: Path, tmp_path: Path, workers: int) -> None:
    (tmp_path / "bad.task").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"bad\.task"):
        run(tiny_sessions, workers, f"face-geometry:{tmp_path / 'bad.task'}")


def test_an_unknown_encoder_is_told(tiny_sessions: Path) -> None:
    with pytest.raises(UserError, match="unknown encoder 'mood'"):
        run(tiny_sessions, encoder="mood")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_missing_video_is_one_clear_line(extracted: Path, tmp_path: Path, workers: int) -> None:
    copy = shutil.copytree(extracted / "person_000", tmp_path / "person_000")
    shutil.rmtree(copy / "latents")
    for video in (copy / "video").iterdir():
        video.unlink()
    with pytest.raises(UserError, match=r"\.mp4: no readable video"):
        run(copy, workers)


def test_no_face_in_view_is_absence(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "black.mp4", 64, 48, 10)
    for number in range(12):
        writer.write(np.zeros((48, 64, 3), np.uint8), number / 10)
    writer.close()
    found, frames = encode_segment(tmp_path / "black.mp4", make_encoder(ENCODER))
    assert frames == 12
    assert found.present.tolist() == [False] * 12
    assert found.latents.shape == (12, 1440)
    assert not found.latents.any()
