"""Trouble with real processes: killed, stopped, unplugged, no room, no right, no camera."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from logger_process import FAULT_REPEATS, finish, recorded, recording, start, wait_for, write_clip
from time_code import camera_server, picture, time_in

from natural_video_llm.sessions.events import SessionEnd, VideoGap, VideoSegmentStart
from natural_video_llm.sessions.folder import Session


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute that carries its own time."""
    times_s = [i / 30 for i in range(900)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", times_s, lambda t: picture(t, 320, 240))


def noise(time_s: float) -> np.ndarray:
    return np.random.default_rng(round(time_s * 1000)).integers(0, 255, (240, 320, 3), np.uint8)


def begun(session_path: Path) -> int:
    """How many segments were announced."""
    log = session_path / "session.jsonl"
    return log.read_bytes().count(b"video_segment_start") if log.exists() else 0


def test_killed_at_any_moment_the_video_plays_up_to_a_second_before(tmp_path: Path) -> None:
    chance = random.Random(3)
    session_path = tmp_path / "one"
    kills_s = []
    with camera_server() as port:
        address = f"http://127.0.0.1:{port}/"
        for number in range(FAULT_REPEATS):
            before = begun(session_path)
            process = start(session_path, address, "--segment-s", "2")
            if number % 4:
                wait_for(lambda: begun(session_path) > before)  # noqa: B023
                time.sleep(chance.uniform(0, 3.7))
            else:  # some die before they record
                time.sleep(chance.uniform(0, 1))
            process.kill()
            killed_s = time.monotonic()
            process.communicate()
            if begun(session_path) > before:
                kills_s.append(killed_s)
        before = begun(session_path)
        process = start(session_path, address)
        wait_for(lambda: begun(session_path) > before)
        time.sleep(1)
        process.terminate()
        code, _, errors = finish(process)
    assert (code, errors) == (0, [])

    session = Session(session_path)
    assert session.start.monotonic_s is not None
    first_s = session.start.monotonic_s
    ends_s = np.array([segment.t + first_s for segment in session.finished_segments])
    starts = [event for event in session.events if isinstance(event, VideoSegmentStart)]
    lost_s = []
    for killed_s in kills_s:
        on_disk_s = ends_s[ends_s <= killed_s].max(initial=0)
        # Where nothing of the last start was on the disk, what came before it counts for nothing.
        last_start_s = max(event.t + first_s for event in starts if event.t + first_s <= killed_s)
        lost_s.append(killed_s - max(on_disk_s, last_start_s))
    assert len(lost_s) >= FAULT_REPEATS / 2
    print(f"lost: median {np.median(lost_s):.3f} s, most {max(lost_s):.3f} s; {len(lost_s)} killed while recording")
    assert max(lost_s) <= 1.0

    frames = recorded(session)
    times_s = [time_s for time_s, _ in frames]
    assert times_s == sorted(set(times_s))
    assert len(frames) == sum(segment.frames for segment in session.finished_segments)
    errors_s = [abs(time_s + first_s - time_in(rgb)) for time_s, rgb in frames]
    assert np.median(errors_s) <= 0.020


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_stop_it_closes_the_segment(tmp_path: Path, clip: Path, number: int) -> None:
    process = start(tmp_path / "one", clip)
    wait_for(lambda: recording(tmp_path / "one"))
    time.sleep(0.7)
    process.send_signal(number)
    code, out, errors = finish(process)
    assert (code, errors) == (0, [])
    assert "frames kept, 0 dropped" in out
    session = Session(tmp_path / "one")
    (segment,) = session.finished_segments
    assert segment.frames == len(recorded(session)) >= 15
    assert not segment.recovered
    assert isinstance(session.events[-1], SessionEnd)


def test_a_second_video_logger_is_refused(tmp_path: Path, clip: Path) -> None:
    first = start(tmp_path / "one", clip)
    wait_for(lambda: recording(tmp_path / "one"))
    code, _, errors = finish(start(tmp_path / "one", clip))
    assert code == 1
    assert len(errors) == 1
    assert "already" in errors[0]
    first.terminate()
    assert finish(first)[0] == 0
    assert len(Session(tmp_path / "one").finished_segments) == 1


def test_a_camera_that_goes_and_comes_back_leaves_a_gap(tmp_path: Path) -> None:
    session_path = tmp_path / "one"
    with camera_server() as port:
        process = start(session_path, f"http://user:secret@127.0.0.1:{port}/")
        wait_for(lambda: recording(session_path))
        time.sleep(1)
        there_s = time.monotonic()
    away_s = time.monotonic()
    time.sleep(1.5)
    with camera_server(port):
        back_s = time.monotonic()
        wait_for(lambda: b"video_gap" in (session_path / "session.jsonl").read_bytes())
        time.sleep(0.5)
        process.terminate()
        code, out, errors = finish(process)
    assert (code, errors) == (0, [])
    assert out.count("trying again") == 1
    session = Session(session_path)
    (gap,) = [event for event in session.events if isinstance(event, VideoGap)]
    times_s = [time_s for time_s, _ in recorded(session)]
    there_s, away_s, back_s = (s - session.start.monotonic_s for s in (there_s, away_s, back_s))
    assert there_s - 0.3 <= gap.t <= away_s, "from the last picture on"
    assert back_s <= gap.t_end <= back_s + 5
    assert not [time_s for time_s in times_s if gap.t + 1e-3 < time_s < gap.t_end - 1e-3]
    assert len(session.finished_segments) == 2
    assert "secret" not in out + (session_path / "session.jsonl").read_text(encoding="utf-8")


def test_a_camera_that_never_comes_back_leaves_a_gap_up_to_the_end(tmp_path: Path) -> None:
    session_path = tmp_path / "one"
    with camera_server() as port:
        process = start(session_path, f"http://127.0.0.1:{port}/")
        wait_for(lambda: recording(session_path))
        time.sleep(0.5)
    # Nothing comes any more: what there is goes to the disk as a finished segment meanwhile.
    wait_for(lambda: len(Session(session_path).finished_segments) == 1)
    process.terminate()
    assert finish(process)[0] == 0
    *_, gap, end = Session(session_path).events
    assert isinstance(gap, VideoGap)
    assert isinstance(end, SessionEnd)
    assert gap.t < gap.t_end <= end.t


@pytest.mark.parametrize("ballast_bytes", [900_000, 1_130_000])  # full in mid-segment, and as one is closed
def test_a_full_disk_is_one_clear_error_and_a_readable_session(tmp_path: Path, clip: Path, ballast_bytes: int) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here (needs the right to mount)")
    try:
        source = write_clip(tmp_path / "noise.mp4", [i / 30 for i in range(150)], noise)
        (disk / "ballast").write_bytes(bytes(ballast_bytes))
        process = start(disk / "one", source, "--segment-s", "0.5")
        code, out, errors = finish(process)
        assert code == 1
        assert len(errors) == 1
        assert "disk full" in errors[0]
        assert "MB are left" in out
        before = Session(disk / "one")
        assert sum(segment.frames for segment in before.finished_segments) == len(recorded(before)) > 0

        (disk / "ballast").unlink()
        process = start(disk / "one", clip, "--segment-s", "0.5")
        wait_for(lambda: len(Session(disk / "one").finished_segments) >= len(before.finished_segments) + 2)
        process.terminate()
        assert finish(process)[0] == 0
        after = Session(disk / "one")
        started = [event.file for event in after.events if isinstance(event, VideoSegmentStart)]
        assert len(started) == len(set(started))
        assert len(recorded(after)) == sum(segment.frames for segment in after.finished_segments)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "yes.txt").write_text("Agreed to, for a test.\n", encoding="utf-8")
    code, _, errors = finish(start(tmp_path / "file" / "one", clip, "--yes", str(tmp_path / "yes.txt")))
    assert code == 1
    assert len(errors) == 1
    assert "cannot be written" in errors[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_somebody_elses_folder_is_one_clear_error(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    (tmp_path / "yes.txt").write_text("Agreed to, for a test.\n", encoding="utf-8")
    code, _, errors = finish(start(tmp_path / "locked" / "one", clip, "--yes", str(tmp_path / "yes.txt")))
    assert code == 1
    assert len(errors) == 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("99", "no camera 99"),
        ("nowhere.mp4", "no such file and no camera of that name"),
        ("http://127.0.0.1:9/", "no readable video"),
        ("rtsp://me:secret@127.0.0.1:9/", "no readable video"),
    ],
)
def test_a_source_that_is_not_there_is_one_clear_error(tmp_path: Path, source: str, says: str) -> None:
    code, out, errors = finish(start(tmp_path / "one", source))
    assert code == 1
    assert len(errors) == 1
    assert says in errors[0]
    assert "secret" not in errors[0] + out


def test_the_wall_clock_plays_no_part(tmp_path: Path, clip: Path) -> None:
    """The wall clock is set back an hour with each look at it; times must not notice."""
    (tmp_path / "yes.txt").write_text("Agreed to, for a test.\n", encoding="utf-8")
    code = (
        "import itertools, time\n"
        "hours = itertools.count()\n"
        "true_time, true_ns = time.time, time.time_ns\n"
        "time.time = lambda: true_time() - 3600 * next(hours)\n"
        "time.time_ns = lambda: true_ns() - 3600 * 10**9 * next(hours)\n"
        "from natural_video_llm.cli import main; main()"
    )

    arguments = ["capture", "video", str(tmp_path / "one"), "--source", str(clip), "--yes", str(tmp_path / "yes.txt")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: recording(tmp_path / "one"))
    time.sleep(2)
    process.terminate()
    assert finish(process)[0] == 0
    frames = recorded(Session(tmp_path / "one"))
    assert len(frames) >= 45
    assert np.ptp([time_s - time_in(rgb) for time_s, rgb in frames]) < 1e-3
