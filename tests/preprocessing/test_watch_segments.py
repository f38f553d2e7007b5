"""`nvllm extract --watch` with real processes: on the fly, never half, never twice, whatever is killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from extracting import ENVIRONMENT, KILLS, Extracting, assert_gone, claimed, files, finished, names, target

from natural_video_llm.preprocessing.claim import claim_file
from natural_video_llm.sessions.events import VideoSegmentEnd, VideoSegmentStart
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import load_latents, save_latents


@contextmanager
def watching(sessions: Path, workers: int = 1) -> Iterator[Extracting]:
    watcher = Extracting(sessions, "--watch", "--workers", str(workers))
    try:
        yield watcher
    finally:
        watcher.end(signal.SIGKILL)


def append(session: Path, line: str) -> None:
    with (session / "session.jsonl").open("a", encoding="utf-8") as log:
        log.write(line)


def test_segments_are_taken_when_they_are_finished_and_never_before(extracted: Path, tmp_path: Path) -> None:
    source = Session(extracted / "person_000")
    ends = source.finished_segments
    assert len(ends) >= 3
    folder = tmp_path / "recordings"
    folder.mkdir()
    session = folder / "person_000"
    with watching(folder) as watcher:
        time.sleep(1)  # a session that appears later
        (session / "video").mkdir(parents=True)
        append(session, source.start.model_dump_json(exclude_none=True) + "\n")
        for number, end in enumerate(ends):
            append(session, VideoSegmentStart(t=end.t - 1, file=end.file).model_dump_json() + "\n")
            whole = (source.path / end.file).read_bytes()
            (session / end.file).write_bytes(whole[: len(whole) // 2])
            line = VideoSegmentEnd(t=end.t, file=end.file, frames=end.frames).model_dump_json() + "\n"
            append(session, line[:40])  # the line is on its way, and torn when it is looked at
            time.sleep(1.5)
            assert not target(session, number).exists()
            (session / end.file).write_bytes(whole)
            append(session, line[40:])
            watcher.wait_for(lambda: len(watcher.segments) == number + 1)  # noqa: B023
        unfinished = VideoSegmentStart(t=ends[-1].t + 1, file="video/000099.mp4")
        append(session, unfinished.model_dump_json() + "\n")
        shutil.copy(source.path / ends[0].file, session / unfinished.file)
        time.sleep(2.5)
        assert watcher.end() == 0
        assert watcher.errors == []
        assert watcher.segments == [f"person_000/{number:06d}" for number in range(len(ends))]
        assert all(line["latents"] == end.frames for line, end in zip(watcher.lines, ends, strict=True))
    assert files(folder) == {name: held for name, held in files(extracted).items() if name.startswith("person_000")}


def test_a_restarted_watcher_catches_up(extracted: Path, sessions: Path) -> None:
    everything = names(extracted)
    with watching(sessions) as first:
        first.wait_for(lambda: bool(first.segments))
        assert first.end() == 0
    with watching(sessions, workers=2) as second:
        second.wait_for(lambda: len(second.segments) == len(everything) - len(first.segments))
        assert second.end() == 0
    assert sorted(first.segments + second.segments) == everything
    assert files(sessions) == files(extracted)


def test_a_session_folder_of_its_own_is_watched_as_well(extracted: Path, sessions: Path) -> None:
    with watching(sessions / "person_001") as watcher:
        expected = [name for name in names(extracted) if name.startswith("person_001")]
        watcher.wait_for(lambda: sorted(watcher.segments) == expected)
        assert watcher.end() == 0


def test_two_watchers_do_every_segment_once(extracted: Path, sessions: Path) -> None:
    with watching(sessions, workers=2) as one, watching(sessions, workers=2) as other:
        one.wait_for(lambda: len(one.segments + other.segments) >= len(names(extracted)))
        time.sleep(1.5)
        assert (one.end(), other.end()) == (0, 0)
        assert sorted(one.segments + other.segments) == names(extracted)
        assert one.errors + other.errors == []
    assert files(sessions) == files(extracted)


def test_a_watcher_and_a_plain_extraction_share_the_work(extracted: Path, sessions: Path) -> None:
    with watching(sessions, workers=2) as watcher:
        plain = Extracting(sessions, "--workers", "2")
        assert plain.process.wait(timeout=120) == 0
        there = finished(sessions)
        plain.end()
        # When the plain one ends, all is done, also what the watcher had claimed.
        expected = files(extracted)
        assert there == expected
        watcher.wait_for(lambda: files(sessions) == expected)
        assert watcher.end() == 0
        done = [line for line in plain.lines if line["done"]]
        assert len(done) == len(names(extracted))
        assert all(count == 1 for count in Counter(watcher.segments).values())


def test_a_claimed_segment_is_skipped_and_looked_at_again(extracted: Path, sessions: Path) -> None:
    held = target(sessions / "person_000", 0)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom natural_video_llm.preprocessing.claim import claim\n"
        "with claim(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(held)], stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert holder.stdout is not None
    holder.stdout.readline()
    others = [name for name in names(extracted) if name != "person_000/000000"]
    try:
        with watching(sessions) as watcher:
            watcher.wait_for(lambda: sorted(watcher.segments) == others)
            time.sleep(1.5)
            assert sorted(watcher.segments) == others
            holder.kill()
            watcher.wait_for(lambda: watcher.segments[-1] == "person_000/000000")
            assert watcher.end() == 0
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert files(sessions) == files(extracted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_all", [False, True], ids=["watcher", "group"])
def test_a_stop_in_the_middle_is_clean(sessions: Path, number: signal.Signals, to_all: bool) -> None:
    with watching(sessions, workers=2) as watcher:
        watcher.wait_for(lambda: claimed(sessions))
        children = psutil.Process(watcher.process.pid).children(recursive=True)
        if to_all:  # as a terminal's Ctrl-C or a service manager does
            os.killpg(watcher.process.pid, number)
        begun = time.monotonic()
        assert watcher.end(number) == 0
        assert time.monotonic() - begun < 5
        assert watcher.errors == []
    assert_gone(children)
    assert sorted(watcher.segments) == names(sessions)  # no claim, no half-written file, all that is there told


def test_kill_9_leaves_nothing_half_written_and_the_next_goes_on(extracted: Path, sessions: Path) -> None:
    chance = random.Random(0)
    whole = files(extracted)
    for _ in range(KILLS):
        for folder in sessions.glob("*/latents"):
            if chance.random() < 0.5:
                shutil.rmtree(folder)
        with watching(sessions, workers=2) as watcher:
            watcher.wait_for(lambda: bool(psutil.Process(watcher.process.pid).children()))
            time.sleep(chance.uniform(0, 2.5))
            watcher.kill()
        assert finished(sessions).items() <= whole.items()
    target(sessions / "person_001", 0).unlink(missing_ok=True)
    with watching(sessions) as watcher:
        watcher.wait_for(lambda: bool(watcher.segments) and files(sessions) == whole)
        assert watcher.end() == 0


def test_a_broken_segment_is_told_once_and_taken_when_it_is_mended(extracted: Path, sessions: Path) -> None:
    broken = sessions / "person_000" / "video" / "000000.mp4"
    short = sessions / "person_000" / "video" / "000001.mp4"
    kept = {path: path.read_bytes() for path in (broken, short)}
    broken.write_bytes(b"no video")
    short.write_bytes(kept[short][: len(kept[short]) * 2 // 3])  # still being copied here
    everything = names(extracted)
    with watching(sessions) as watcher:
        watcher.wait_for(lambda: len(watcher.segments) == len(everything) - 2)
        time.sleep(3)
        assert sorted(watcher.segments) == [n for n in everything if n not in everything[:2]]
        assert len(watcher.errors) == 2
        assert "000000.mp4: no readable video" in watcher.errors[0]
        assert "000001.mp4: plays" in watcher.errors[1]
        assert all(line.startswith("nvllm: ") and "Traceback" not in line for line in watcher.errors)
        told = [line for line in watcher.lines if "error" in line]
        assert [line["file"] for line in told] == [str(broken), str(short)]
        for path, held in kept.items():
            path.write_bytes(held)
        watcher.wait_for(lambda: sorted(watcher.segments) == everything)
        assert len(watcher.errors) == 2
        assert watcher.end() == 0
    assert files(sessions) == files(extracted)


def test_a_session_with_latents_of_other_weights_is_left_alone(extracted: Path, sessions: Path) -> None:
    shutil.copytree(extracted / "person_000" / "latents", sessions / "person_000" / "latents")
    target(sessions / "person_000", 1).unlink()
    other = target(sessions / "person_000", 0)
    save_latents(other, replace(load_latents(other), encoder_sha256="0" * 64))
    before = files(sessions)
    watcher = Extracting(sessions, "--watch", "--workers", "1")
    expected = [name for name in names(extracted) if name.startswith("person_001")]
    try:
        watcher.wait_for(lambda: sorted(watcher.segments) == expected)
        assert watcher.end() == 0
    finally:
        watcher.end(signal.SIGKILL)
    assert len(watcher.errors) == 1
    assert "made with weights" in watcher.errors[0]
    assert {name: held for name, held in files(sessions).items() if name.startswith("person_000")} == before


def test_what_a_killed_process_left_is_cleared_away(extracted: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(extracted, tmp_path / "sessions")
    left = claim_file(target(copy / "person_000", 0))
    left.touch()
    with watching(copy) as watcher:
        watcher.wait_for(lambda: not left.exists())
        assert watcher.end() == 0
        assert watcher.lines == []
    assert load_latents(target(copy / "person_000", 0)).present.any()


def test_a_session_deleted_in_the_middle_does_not_come_back(sessions: Path) -> None:
    deleted, kept = sessions / "person_000", sessions / "person_001"
    with watching(sessions) as watcher:
        watcher.wait_for(lambda: any(deleted.glob("latents/*/.*.claim")))
        deleted.rename(sessions.parent / "deleted")  # gone at one stroke
        watcher.wait_for(lambda: len(names(sessions)) == len(list(kept.glob("video/*"))))
        assert watcher.end() == 0
    assert not deleted.exists()
    assert not [line for line in watcher.errors if "Traceback" in line]


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    watcher = Extracting(tmp_path / "nowhere", "--watch")
    assert watcher.process.wait(timeout=60) == 1
    watcher.end()
    assert len(watcher.errors) == 1
    assert "nowhere: no such folder" in watcher.errors[0]


def test_a_watched_folder_that_goes_away_is_one_clear_line(sessions: Path) -> None:
    watcher = Extracting(sessions, "--watch")
    watcher.wait_for(lambda: bool(watcher.segments))
    sessions.rename(sessions.with_name("elsewhere"))
    assert watcher.process.wait(timeout=60) == 1
    watcher.end()
    assert len(watcher.errors) == 1
    assert "is gone" in watcher.errors[0]
