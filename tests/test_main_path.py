"""The demo from end to end, smaller: the same script, the same commands, real files between them."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "SAMPLE_OPTIONS": "--people 5 --held-out-people 2 --turns 4 --rate-hz 10",
    "TRAIN_OPTIONS": "--match-steps 4 --steps 3 --batch-size 4",
    "EVAL_OPTIONS": "--replies 1",
}
CONDITIONS = {
    *("true", "none", "other person", "another moment", "shuffled", "frozen", "text-only twin"),
    *("identity only", "head pose only", "geometry without pose"),
    *(f"{s} s {way}" for s in (0.5, 1.0, 2.0) for way in ("early", "late")),
}

pytestmark = pytest.mark.demo


def nvllm_environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [ROOT / "scripts/demo.sh", folder], env=nvllm_environment() | SMALL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, done.stdout


@pytest.mark.parametrize(
    ("left", "goes_on"),
    [
        ({}, False),
        ({"run.json": '{\n  "trained": false\n}'}, False),
        ({"run.json": '{\n  "trained": false\n}', "checkpoints/000003/state.json": "{}"}, True),
        ({"run.json": '{\n  "trained": true\n}'}, True),
    ],
)
def test_a_demo_that_was_broken_off_goes_on(left: dict[str, str], goes_on: bool, tmp_path: Path) -> None:
    """With a program in the place of nvllm that only tells how it was called."""
    for name, text in left.items():
        file = tmp_path / "demo/run" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    told = tmp_path / "bin/nvllm"
    told.parent.mkdir()
    told.write_text('#!/bin/sh\necho "called: $*"\n')
    told.chmod(0o755)
    environment = os.environ | {"PATH": f"{told.parent}{os.pathsep}{os.environ['PATH']}"}
    said = subprocess.check_output([ROOT / "scripts/demo.sh", tmp_path / "demo"], env=environment, text=True)
    (train,) = [line for line in said.splitlines() if line.startswith("called: train")]
    assert train.endswith(" --resume") == goes_on


def test_demo_says_what_was_found_and_what_comes_next(demo: tuple[Path, str]) -> None:
    _, said = demo
    for words in ("the face: ", "bits per token", "choice bits", "replies to", "nvllm chat"):
        assert words in said


def test_eval_json_holds_every_condition_with_intervals(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    result = json.loads((folder / "run/eval.json").read_text())
    assert set(result["conditions"]) == CONDITIONS
    for figures in result["conditions"].values():
        for value, low, high in figures.values():
            assert math.isfinite(value)
            assert low <= value + 1e-9
            assert value <= high + 1e-9
    assert result["data"]["people"] == 2
    for name in ("true", "other person", "shuffled"):
        value, low, high = result["choices"][name]["right"]
        assert 0 <= low <= value <= high <= 1
        assert result["choices"][name]["choice_bits"][0] <= math.log2(6)
    assert len({reply["answered_there"] for reply in result["replies"]}) > 3


def test_run_folder_is_whole(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    run = folder / "run"
    record = json.loads((run / "run.json").read_text())
    assert len(record["train"]) == 3
    assert len(record["test"]) == 2
    for part in (run, run / "twin"):
        assert (part / "adapter.safetensors").stat().st_size < 20_000_000
        lines = [json.loads(line) for line in (part / "logs/metrics/metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines][-1] == 3
        assert all(math.isfinite(line["learning_rate"]) for line in lines)
        assert list((part / "logs/metrics").glob("events.out.tfevents*"))


def test_chat_runs_to_the_end_of_a_video(demo: tuple[Path, str], faces_dir: Path) -> None:
    folder, _ = demo
    clip = faces_dir / "pyfeat/noface_face.mov"
    done = subprocess.run(
        ["nvllm", "chat", folder / "run", "--video", clip, "--say", "I talked to my sister."],
        env=nvllm_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.index("no face seen") < done.stdout.replace("no face seen", "-" * 12).index("face seen")
    assert "the face moved this reply by" in done.stdout


def test_chat_takes_messages_from_a_pipe(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    clip = next((folder / "sessions/person_000/video").glob("*.mp4"))
    done = subprocess.run(
        ["nvllm", "chat", folder / "run", "--video", clip],
        env=nvllm_environment(),
        input="The neighbours came by.\nquit\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("reply:") == 1
    assert "face seen" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chat", "RUN", "--camera", "97"], "no camera 97"),
        (["chat", "RUN", "--video", "missing.mp4"], "missing.mp4"),
        (["chat", "nowhere"], "no trained model"),
        (["eval", "nowhere"], "no trained model"),
        (["train", "SESSIONS", "--out", "OUT", "--llm", "no/such-model"], "no language model 'no/such-model'"),
    ],
)
def test_mistakes_end_in_one_line(demo: tuple[Path, str], tmp_path: Path, arguments: list[str], words: str) -> None:
    folder, _ = demo
    places = {"RUN": str(folder / "run"), "SESSIONS": str(folder / "sessions"), "OUT": str(tmp_path / "out")}
    done = subprocess.run(
        ["nvllm", *(places.get(a, a) for a in arguments)],
        env=nvllm_environment() | {"HF_HUB_OFFLINE": "1"},
        input="hello\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
