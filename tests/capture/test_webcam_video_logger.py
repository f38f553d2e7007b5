"""The logger inside: drops are counted, memory stays flat, a camera that hangs holds nothing back."""

import gc
import os
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
from logger_process import FAULT_REPEATS, recorded
from time_code import picture, time_in

from natural_video_llm.capture.camera_source import CameraLostError, Frames
from natural_video_llm.capture.webcam_video_logger import VideoLogger
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.clock import SessionClock, boot_id
from natural_video_llm.sessions.events import SessionStart, VideoGap
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.video import read_frames


class Clip:
    """Pictures with times, as fast as they are taken; then perhaps a loss, or silence. A camera or a file."""

    name = "a clip"
    rate_hz: float | None = 30.0

    def __init__(
        self,
        times_s: Iterator[float] | list[float],
        pictures: list[np.ndarray],
        then: str = "end",
        can_wait: bool = False,
    ):
        self._times_s, self._pictures, self._then, self.can_wait = times_s, pictures, then, can_wait
        self.opened = 0

    def open(self) -> None:
        self.opened += 1

    def frames(self, clock: SessionClock, stop: threading.Event) -> Frames:
        if self.opened > 1:
            yield 1000.0, self._pictures[0]
            return
        for number, time_s in enumerate(self._times_s):
            yield time_s, self._pictures[number % len(self._pictures)]
        if self._then == "hang":
            threading.Event().wait()
        if self._then == "lost":
            raise CameraLostError("the cable")

    def close(self) -> None:
        pass


Begun = tuple[SessionWriter, SessionClock]


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[Begun]:
    clock = SessionClock()
    start = SessionStart(
        session_id="one",
        started_utc="2026",
        monotonic_s=clock.monotonic_s,
        boot_id=boot_id(),
        filmed_speaker="a",
        consent="a test",
    )
    with SessionWriter(tmp_path / "one", start) as writer:
        yield writer, clock


def wait_until_done(video: VideoLogger) -> None:
    while video.running:
        time.sleep(0.05)


def test_frames_that_cannot_be_kept_are_counted(tmp_path: Path, begun: Begun) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    said: list[str] = []
    writer, clock = begun
    with VideoLogger(Clip([i / 30 for i in range(200)], [noise]), writer, clock, 2, said.append) as video:
        wait_until_done(video)
    status = video.status()
    session = Session(tmp_path / "one")
    kept = sum(segment.frames for segment in session.finished_segments)
    assert status.frames == 200
    assert 0 < kept < 200
    assert status.dropped == 200 - kept == sum(segment.dropped for segment in session.finished_segments)
    assert len([sentence for sentence in said if "dropped" in sentence]) == 1


def test_times_that_stand_still_or_go_back_are_dropped(tmp_path: Path, begun: Begun) -> None:
    writer, clock = begun
    clip = Clip([0.0, 0.1, 0.1, 0.05, 0.2, 0.200001], [picture(1, 160, 120)], can_wait=True)
    with VideoLogger(clip, writer, clock) as video:
        wait_until_done(video)
    times_s = [time_s for time_s, _ in recorded(Session(tmp_path / "one"))]
    np.testing.assert_allclose(times_s, [0.0, 0.1, 0.2], atol=1e-3)
    assert video.status().dropped == 3


def test_a_camera_that_hangs_does_not_hold_the_end_back(tmp_path: Path, begun: Begun) -> None:
    writer, clock = begun
    with VideoLogger(Clip([i / 30 for i in range(10)], [picture(1, 160, 120)], "hang"), writer, clock):
        time.sleep(0.3)
        stopped_s = time.monotonic()
    assert time.monotonic() - stopped_s < 5
    assert [segment.frames for segment in Session(tmp_path / "one").finished_segments] == [10]


def test_a_lost_camera_is_opened_again(tmp_path: Path, begun: Begun) -> None:
    writer, clock = begun
    clip = Clip([i / 30 for i in range(10)], [picture(1, 160, 120)], "lost")
    with VideoLogger(clip, writer, clock) as video:
        wait_until_done(video)
    events = Session(tmp_path / "one").events
    assert clip.opened == 2
    assert [event for event in events if isinstance(event, VideoGap)] == [
        VideoGap(t=9 / 30, t_end=1000.0, reason="the cable")
    ]


def test_an_error_of_the_encoder_ends_the_recording_and_is_told(tmp_path: Path, begun: Begun) -> None:
    writer, clock = begun

    def stumble(rgb: np.ndarray) -> bool:
        raise UserError("the face detector stumbled")

    clip = Clip([i / 30 for i in range(3000)], [picture(1, 160, 120)])
    with pytest.raises(UserError, match="stumbled"), VideoLogger(clip, writer, clock, sees_face=stumble) as video:
        wait_until_done(video)


def test_a_second_logger_on_the_session_is_refused_and_opens_no_camera(tmp_path: Path, begun: Begun) -> None:
    writer, clock = begun
    first, second = (Clip([0.0], [picture(1, 160, 120)], "hang") for _ in range(2))
    with (
        VideoLogger(first, writer, clock),
        pytest.raises(UserError, match="already"),
        VideoLogger(second, writer, clock),
    ):
        pass
    assert (first.opened, second.opened) == (1, 0)


def test_an_hour_leaves_memory_flat_and_nothing_open(tmp_path: Path, begun: Begun) -> None:
    """A minute of 640x480 a repeat at high speed: five minutes in the suite, an hour with NVLLM_FAULT_REPEATS=60."""
    length_s, rate_hz = 60 * FAULT_REPEATS, 30
    pictures = [picture(i / 10) for i in range(16)]
    this = psutil.Process()
    memory: list[float] = []

    def times_s() -> Iterator[float]:
        for number in range(length_s * rate_hz):
            if number % (length_s * rate_hz // 20) == 0:
                memory.append(this.memory_info().rss / 1e6)
            yield number / rate_hz

    writer, clock = begun
    gc.collect()
    open_before, threads_before = len(os.listdir("/dev/fd")), threading.active_count()
    began_s = time.monotonic()
    with VideoLogger(Clip(times_s(), pictures, can_wait=True), writer, clock) as video:
        wait_until_done(video)
    took_s = time.monotonic() - began_s
    print(f"{length_s} s of video in {took_s:.0f} s; MB at each twentieth: {[round(one) for one in memory]}")
    assert max(memory[4:]) - memory[3] < 30
    assert len(os.listdir("/dev/fd")) <= open_before
    assert threading.active_count() == threads_before
    segments = Session(tmp_path / "one").finished_segments
    assert len(segments) == length_s // 10
    assert sum(segment.frames for segment in segments) == length_s * rate_hz
    assert video.status().dropped == 0
    first = [time_in(rgb) for _, rgb in islice(read_frames(writer.path / segments[0].file), 16)]
    assert first == [i / 10 for i in range(16)]
