"""`nvllm extract` that fails or is killed: what can be done is done, and the next run does the rest."""

import random
import shutil
import time
from pathlib import Path

from extracting import KILLS, Extracting, claimed, files, finished, target

from natural_video_llm.preprocessing.claim import claim_file


def break_two(sessions: Path) -> tuple[Path, Path]:
    """A video that is none, and one that breaks off."""
    broken, short = (sessions / name for name in ("person_000/video/000001.mp4", "person_001/video/000000.mp4"))
    broken.write_bytes(b"no video")
    short.write_bytes(short.read_bytes()[: short.stat().st_size * 2 // 3])
    return broken, short


def assert_all_but_two(run: Extracting, sessions: Path, whole: dict[str, bytes], broken: Path, short: Path) -> None:
    """`run` ended with the segments that `break_two` broke told, and all others done."""
    assert run.process.wait(timeout=120) == 1
    run.end()
    errors = [line.replace(f"{sessions}/", "") for line in run.errors]
    assert len(errors) == 3, errors
    assert errors[0].startswith("nvllm: person_000/video/000001.mp4: no readable video")
    assert errors[1].startswith("nvllm: person_001/video/000000.mp4: plays ")
    assert errors[2] == "nvllm: 2 segments failed, all others are done; mend and run again"
    assert [line["file"] for line in run.lines if "error" in line] == [str(broken), str(short)]
    missing = {str(target(video.parents[1], int(video.stem)).relative_to(sessions)) for video in (broken, short)}
    assert finished(sessions) == {name: held for name, held in whole.items() if name not in missing}


def test_a_broken_segment_does_not_stop_the_others(extracted: Path, sessions: Path) -> None:
    whole = files(extracted)
    broken, short = break_two(sessions)
    assert_all_but_two(Extracting(sessions, "--workers", "2"), sessions, whole, broken, short)
    for video in (broken, short):
        shutil.copy(extracted / video.relative_to(sessions), video)
    again = Extracting(sessions, "--workers", "1")
    assert again.process.wait(timeout=120) == 0
    again.end()
    assert files(sessions) == whole


def test_unreadable_latents_are_told_and_stay(extracted: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(extracted, tmp_path / "sessions")
    torn, absent = target(copy / "person_000", 0), target(copy / "person_001", 1)
    torn.write_bytes(b"no latents")
    absent.unlink()
    run = Extracting(copy)
    assert run.process.wait(timeout=120) == 1
    run.end()
    assert f"{torn}: no readable latents" in run.errors[0]
    assert torn.read_bytes() == b"no latents"
    assert absent.read_bytes() == target(extracted / "person_001", 1).read_bytes()


def test_killed_at_any_moment_and_started_again_gives_the_same_files(extracted: Path, sessions: Path) -> None:
    chance = random.Random(0)
    whole = files(extracted)
    for workers in (1 + number % 2 for number in range(KILLS)):
        for latents in sessions.glob("*/latents/*/*"):
            if latents.name.endswith(".claim") or chance.random() < 0.7:
                latents.unlink()
        run = Extracting(sessions, "--workers", str(workers))
        run.wait_for(lambda: claimed(sessions))
        time.sleep(chance.uniform(0, 0.5))
        run.kill()
        assert finished(sessions).items() <= whole.items()
    there = {path: path.stat().st_mtime_ns for path in sessions.glob("*/latents/*/[0-9]*")}
    run = Extracting(sessions, "--workers", "2")
    assert run.process.wait(timeout=120) == 0
    run.end()
    assert finished(sessions) == whole
    assert {path: path.stat().st_mtime_ns for path in there} == there


def test_half_a_file_beside_its_place_is_written_anew(extracted: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(extracted, tmp_path / "sessions")
    lost = target(copy / "person_000", 0)
    lost.with_name(f".{lost.name}").write_bytes(lost.read_bytes()[:1000])
    claim_file(lost).touch()
    lost.unlink()
    run = Extracting(copy)
    assert run.process.wait(timeout=120) == 0
    run.end()
    assert files(copy) == files(extracted)
