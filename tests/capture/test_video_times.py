"""Recorded times are capture times: pictures that carry their own time come back with it."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from logger_process import finish, recorded, recording, start, wait_for, write_clip
from time_code import camera_server, picture, time_in
from transformers import AutoTokenizer

from natural_video_llm.preprocessing.align_text_video import align_session
from natural_video_llm.preprocessing.extract_video_latents import extract
from natural_video_llm.sessions.aligned import read_aligned
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import load_session_latents


def report(errors_s: np.ndarray) -> str:
    median_ms, p99_ms = np.percentile(np.abs(errors_s), [50, 99]) * 1e3
    return f"error of the recorded time: median {median_ms:.1f} ms, p99 {p99_ms:.1f} ms, of {len(errors_s)} frames"


def in_order(times_s: list[float]) -> bool:
    return all(early < late for early, late in pairwise(times_s))


def test_a_live_camera_is_timed_to_a_few_milliseconds(tmp_path: Path) -> None:
    with camera_server() as port:
        process = start(tmp_path / "one", f"http://127.0.0.1:{port}/", "--segment-s", "2")
        wait_for(lambda: recording(tmp_path / "one"))
        time.sleep(5)
        process.terminate()
        assert finish(process)[0] == 0
    session = Session(tmp_path / "one")
    assert session.start.monotonic_s is not None
    frames = recorded(session)
    assert len(frames) >= 120
    errors_s = np.array([time_s + session.start.monotonic_s - time_in(rgb) for time_s, rgb in frames])
    print(report(errors_s))
    assert np.percentile(np.abs(errors_s), 50) <= 0.020
    assert np.percentile(np.abs(errors_s), 99) <= 0.050
    assert in_order([time_s for time_s, _ in frames])


def test_a_file_is_played_in_real_time(tmp_path: Path) -> None:
    """How long after the first frame a frame is recorded is what the picture says, and so is when it was there."""
    clip = write_clip(tmp_path / "clip.mp4", [100 + i / 30 for i in range(120)], lambda t: picture(t - 100))
    process = start(tmp_path / "one", clip)
    wait_for(lambda: recording(tmp_path / "one"))
    seen_s = time.monotonic()
    assert finish(process)[0] == 0
    session = Session(tmp_path / "one")
    assert session.start.monotonic_s is not None
    frames = recorded(session)
    assert len(frames) == 120
    first_s = frames[0][0]
    errors_s = np.array([time_s - first_s - time_in(rgb) for time_s, rgb in frames])
    print(report(errors_s))
    assert np.abs(errors_s).max() < 1e-3
    assert in_order([time_s for time_s, _ in frames])
    assert seen_s - (first_s + session.start.monotonic_s) < 0.5
    assert session.events[-1].t == pytest.approx(first_s + 119 / 30, abs=0.5)


def test_a_variable_rate_is_followed_and_read_back_alike(tmp_path: Path, llm_dir: str) -> None:
    """15 to 30 frames/s with stalls, one of them longer than what closes a segment early."""
    chance = np.random.default_rng(5)
    steps_s = chance.uniform(1 / 30, 1 / 15, 90)
    steps_s[[20, 45, 70]] = 0.4, 1.6, 0.7
    times_s = np.cumsum(steps_s)
    clip = write_clip(tmp_path / "clip.mp4", times_s, lambda t: picture(t, 320, 240))
    assert finish(start(tmp_path / "one", clip, "--segment-s", "2"))[0] == 0

    session = Session(tmp_path / "one")
    recorded_s = np.array([time_s for time_s, _ in recorded(session)])
    assert len(recorded_s) == len(times_s)
    np.testing.assert_allclose(recorded_s - recorded_s[0], times_s - times_s[0], atol=1e-3)
    for _ in extract([session], "face-geometry", workers=1):
        pass
    np.testing.assert_array_equal(load_session_latents(session, "face-geometry").times, recorded_s)

    said_s = recorded_s[[30, 60]].tolist()  # among stalls
    with SessionWriter.join(session.path) as writer:
        writer.append(
            Text(speaker="a", text="ok", t_start=said_s[0], t_end=said_s[1], timing="char", char_times=said_s)
        )
    align_session(Session(session.path), AutoTokenizer.from_pretrained(llm_dir), "default", "face-geometry", 1.0)
    (aligned,) = read_aligned(session.aligned_file)
    first, last = aligned.latents
    assert aligned.token_t_end[-1] == said_s[1]
    assert recorded_s[first - 1] < aligned.token_t_start[0] - 1.0 <= recorded_s[first]
    assert recorded_s[last - 1] <= said_s[1] < recorded_s[last]
