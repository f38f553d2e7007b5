"""Cameras and files: frames at their time, errors where they can be shown, and the camera let go."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.inference.sources import Frames, Player, camera_frames, file_frames
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.video import SegmentWriter


def write_grey(path: Path, times_s: list[float]) -> Path:
    writer = SegmentWriter(path, 64, 48, 10)
    for time_s in times_s:
        writer.write(np.full((48, 64, 3), 90, np.uint8), time_s)
    writer.close()
    return path


def until(condition: Callable[[], bool], at_most_s: float = 20.0) -> None:
    give_up = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.002)


def test_a_file_plays_at_its_own_speed(tmp_path: Path) -> None:
    times_s = [5.0, 5.1, 5.15, 5.5, 5.6, 6.0]
    clock, shown = SessionClock(), []
    with Player(
        file_frames(write_grey(tmp_path / "a.mp4", times_s)), clock, lambda t, _: shown.append((t, clock.now_s()))
    ) as player:
        until(lambda: not player.running())
    assert np.allclose(np.diff([t for t, _ in shown]), np.diff(times_s), atol=1e-3)
    assert all(now_s >= time_s for time_s, now_s in shown), "none before its time"


def test_an_error_of_the_source_surfaces(tmp_path: Path) -> None:
    def frames(clock: SessionClock) -> Frames:
        yield clock.now_s(), np.zeros((48, 64, 3), np.uint8)
        raise UserError("the camera was unplugged; plug it in")

    for source, words in ((frames, "unplugged"), (file_frames(tmp_path / "missing.mp4"), "no readable video")):
        with Player(source, SessionClock(), lambda *_: None) as player:
            until(lambda: not any(t.name == "frames" for t in threading.enumerate()))
            with pytest.raises(UserError, match=words):
                player.running()


def test_leaving_lets_the_camera_go(tmp_path: Path) -> None:
    released = threading.Event()
    shown: list[float] = []

    def camera(clock: SessionClock) -> Iterator[tuple[float, np.ndarray]]:
        try:
            while True:
                yield clock.now_s(), np.zeros((48, 64, 3), np.uint8)
                time.sleep(0.01)
        finally:
            released.set()

    for source in (camera, file_frames(write_grey(tmp_path / "a.mp4", [0.0, 60.0]))):
        shown.clear()
        with Player(source, SessionClock(), lambda t, _: shown.append(t)):
            until(lambda: bool(shown))
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 3
        assert not [t for t in threading.enumerate() if t.name == "frames"]
    assert released.is_set()


def test_a_camera_that_does_not_exist_is_one_clear_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no camera 97; choose another") as raised:
        next(camera_frames(97)(SessionClock()))
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", ""), "nothing but that line"
