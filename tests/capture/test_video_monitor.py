"""Trouble that a person can mend is said once, and only then."""

from pathlib import Path

import numpy as np
import pytest

from natural_video_llm.capture.video_monitor import VideoMonitor, VideoStatus

BLACK, BRIGHT = (np.full((48, 64, 3), level, np.uint8) for level in (3, 90))


def watch(
    folder: Path, rate_hz: float, picture: np.ndarray, asked_hz: float | None, length_s: float = 7
) -> tuple[VideoMonitor, list[str]]:
    said: list[str] = []
    monitor = VideoMonitor(folder, asked_hz, said.append)
    for number in range(round(length_s * rate_hz)):
        monitor.see(number / rate_hz, picture)
    return monitor, said


def test_all_is_well(tmp_path: Path) -> None:
    monitor, said = watch(tmp_path, 28, BRIGHT, 30)
    assert said == []
    assert monitor.rate_hz == pytest.approx(28)
    assert monitor.frames == 7 * 28


def test_a_black_picture(tmp_path: Path) -> None:
    assert watch(tmp_path, 30, BLACK, 30, 1.9)[1] == []
    (sentence,) = watch(tmp_path, 30, BLACK, 30)[1]
    assert "black" in sentence
    assert "lid" in sentence


@pytest.mark.parametrize("rate_hz", [7.5, 15, 60])
def test_a_camera_that_lies_about_its_rate(tmp_path: Path, rate_hz: float) -> None:
    (sentence,) = watch(tmp_path, rate_hz, BRIGHT, 30)[1]
    assert f"{rate_hz:.1f} frames/s, not 30" in sentence
    assert watch(tmp_path, rate_hz, BRIGHT, None)[1] == []


def test_a_gap_begins_the_rate_anew(tmp_path: Path) -> None:
    monitor, said = watch(tmp_path, 30, BRIGHT, 30, 2)
    monitor.gap()
    assert monitor.rate_hz is None
    for number in range(200):
        monitor.see(60 + number / 30, BRIGHT)
    assert monitor.rate_hz == pytest.approx(30)
    assert said == []


def test_the_status_line() -> None:
    status = VideoStatus(90, 2, 29.97, True, 5_250_000_000, False, True)
    assert status.line() == "30.0 frames/s, 2 dropped, face seen, 5.2 GB left"
    away = VideoStatus(90, 0, None, None, 10**9, True, True)
    assert away.line() == "camera away, trying again, 0 dropped, 1.0 GB left"
