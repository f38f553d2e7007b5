"""`nvllm capture video` as a person or a machine meets it."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from logger_process import NVLLM, finish, start, write_clip
from time_code import picture

from natural_video_llm.sessions.folder import Session


def small(time_s: float) -> np.ndarray:
    return picture(time_s, 160, 120)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [i / 30 for i in range(45)], small)


def answer(folder: Path, clip: Path, text: str) -> subprocess.CompletedProcess[str]:
    command = [*NVLLM, "capture", "video", str(folder), "--source", str(clip)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_nothing_is_recorded_without_a_yes(tmp_path: Path, clip: Path) -> None:
    for text in ("no\n", "", "maybe\n"):
        result = answer(tmp_path / "one", clip, text)
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1].startswith("nvllm: not recorded: consent was not given")
        assert not (tmp_path / "one").exists()


def test_a_yes_records(tmp_path: Path, clip: Path) -> None:
    result = answer(tmp_path / "one", clip, "yes\n")
    assert result.returncode == 0
    assert "45 frames kept, 0 dropped" in result.stdout
    start_event = Session(tmp_path / "one").start
    assert "Answered 'yes'" in start_event.consent
    assert start_event.session_id == "one"


def test_who_is_filmed_is_written_down(tmp_path: Path, clip: Path) -> None:
    assert finish(start(tmp_path / "one", clip, "--speaker", "ann", "--person", "ann-1"))[0] == 0
    start_event = Session(tmp_path / "one").start
    assert (start_event.filmed_speaker, start_event.person) == ("ann", "ann-1")


def test_json_is_all_that_a_machine_gets(tmp_path: Path, clip: Path) -> None:
    code, out, _ = finish(start(tmp_path / "one", clip, "--json"))
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["frames"] == 45
    assert lines[-1]["running"] is False
    assert {"progress", "frames", "dropped", "rate_hz", "face_seen", "disk_left_bytes", "camera_away"} <= set(lines[-1])


def test_a_black_picture_is_told_once(tmp_path: Path) -> None:
    black = np.zeros((120, 160, 3), np.uint8)
    source = write_clip(tmp_path / "black.mp4", [i / 15 for i in range(45)], lambda _: black)
    code, out, _ = finish(start(tmp_path / "one", source))
    assert code == 0
    assert out.count("the picture is black") == 1


def test_a_face_is_seen(tmp_path: Path, faces_dir: Path, face_task_file: Path) -> None:
    for name, seen in (("pyfeat/single_face.mp4", True), ("black", False)):
        source = faces_dir / name
        if not seen:
            source = write_clip(tmp_path / "grey.mp4", [i / 15 for i in range(60)], small)
        _, out, _ = finish(start(tmp_path / name.replace("/", "_"), source, "--json"))
        looks = [json.loads(line).get("face_seen") for line in out.splitlines()]
        assert looks[-1] is seen


@pytest.mark.parametrize("option", [("--rate-hz", "0"), ("--width", "0"), ("--segment-s", "-1")])
def test_options_that_make_no_sense(tmp_path: Path, clip: Path, option: tuple[str, str]) -> None:
    code, _, errors = finish(start(tmp_path / "one", clip, *option))
    assert code == 1
    assert len(errors) == 1
    assert not (tmp_path / "one").exists()
