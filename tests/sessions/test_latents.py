"""Latents on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import SessionStart, VideoSegmentEnd
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import (
    Latents,
    latents_file,
    load_latents,
    load_session_latents,
    save_latents,
)


def make(start_s: float = 0.0, frames: int = 5) -> Latents:
    rng = np.random.default_rng(int(start_s))
    return Latents(
        latents=rng.normal(size=(frames, 7)).astype(np.float16),
        times=start_s + np.arange(frames) / 3,
        present=rng.random(frames) < 0.5,
        encoder="face-geometry",
        encoder_sha256="ab" * 32,
        units="eye distances",
    )


def assert_same(one: Latents, other: Latents) -> None:
    for name in ("latents", "times", "present"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert (one.encoder, one.encoder_sha256, one.units) == (other.encoder, other.encoder_sha256, other.units)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    start = SessionStart(session_id="one", started_utc="", filmed_speaker="speaker", consent="a test")
    with SessionWriter(tmp_path / "one", start) as log:
        for number in range(2):
            log.append(VideoSegmentEnd(t=10.0 * number, file=f"video/{number:06d}.mp4", frames=5))
    return Session(tmp_path / "one")


@pytest.mark.parametrize("frames", [0, 5])
def test_round_trip(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "latents" / "a.safetensors"
    save_latents(path, make(3605.25, frames))
    assert_same(load_latents(path), make(3605.25, frames))
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


def test_the_same_latents_give_the_same_bytes(tmp_path: Path) -> None:
    for number in range(8):
        save_latents(tmp_path / f"{number}.safetensors", make(3.0))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_latents(path, make())
    (tmp_path / ".a.safetensors").mkdir()  # where the new one would be written first
    with pytest.raises(UserError, match="cannot be written"):
        save_latents(path, make(9))
    assert_same(load_latents(path), make())


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save_latents(tmp_path / "file" / "a.safetensors", make())


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"a\.safetensors: no readable latents"):
        load_latents(path)
    save_latents(path, make())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"a\.safetensors: no readable latents"):
        load_latents(path)


def test_a_session_is_its_segments_in_order(session: Session) -> None:
    parts = [make(0.0), make(10.0, 4)]
    for part, segment in zip(parts, session.finished_segments, strict=True):
        save_latents(latents_file(session, "face-geometry", segment.file), part)
    whole = load_session_latents(session, "face-geometry")
    np.testing.assert_array_equal(whole.latents, np.concatenate([part.latents for part in parts]))
    np.testing.assert_array_equal(whole.present, np.concatenate([part.present for part in parts]))
    assert (np.diff(whole.times) > 0).all()


def test_a_missing_segment_is_named(session: Session) -> None:
    save_latents(latents_file(session, "face-geometry", "video/000000.mp4"), make())
    with pytest.raises(UserError, match=r"000001\.safetensors is missing.*nvllm extract .* --encoder face-geometry"):
        load_session_latents(session, "face-geometry")


def test_latents_of_different_weights_are_not_mixed(session: Session) -> None:
    save_latents(latents_file(session, "face-geometry", "video/000000.mp4"), make())
    other = replace(make(10), encoder_sha256="cd" * 32)
    save_latents(latents_file(session, "face-geometry", "video/000001.mp4"), other)
    with pytest.raises(UserError, match="different weights"):
        load_session_latents(session, "face-geometry")


def test_a_session_without_video_is_told(tmp_path: Path) -> None:
    start = SessionStart(session_id="one", started_utc="", filmed_speaker="speaker", consent="a test")
    SessionWriter(tmp_path / "one", start).close()
    with pytest.raises(UserError, match="no finished video segment"):
        load_session_latents(Session(tmp_path / "one"), "face-geometry")
