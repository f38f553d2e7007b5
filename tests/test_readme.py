"""What the README tells people to type works as it stands there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from natural_video_llm.cli import VERBS
from natural_video_llm.sessions.folder import Session, find_sessions

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Only what makes a command shorter; everything else is run as printed.
SHORTER = {
    "capture": "--video-source CLIPS/a.mp4 --yes consent.txt",
    "train": "--match-steps 2 --steps 2 --batch-size 2",
    "chat": "--video CLIPS/a.mp4 --say 'Hello there.'",
}


def blocks(language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[list[str]]:
    """Every line of the README's shell blocks that begins with `program`, without its comment."""
    lines = [line for block in blocks() for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory, tiny_sessions: Path) -> Path:
    """A folder CLIPS of three short videos beside word timings, as a person might have them."""
    folder = tmp_path_factory.mktemp("own_data")
    (folder / "CLIPS").mkdir()
    (folder / "consent.txt").write_text("Ann and Bob agreed on Monday.")
    for session, name in zip(find_sessions(tiny_sessions), "abc", strict=True):
        shutil.copy(session.path / session.finished_segments[0].file, folder / f"CLIPS/{name}.mp4")
        said = ["set", "white", "in", "place", "now", "please"]
        words = [{"word": word, "start": 0.3 + i, "end": 0.8 + i} for i, word in enumerate(said)]
        (folder / f"CLIPS/{name}.json").write_text(json.dumps({"segments": [{"words": words}]}))
    return folder


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [command[1] for command in commands("make")]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_files_named_in_the_readme_exist() -> None:
    for name in re.findall(r"\]\(([\w./-]+)\)|`((?:docs|benchmarks)/[\w./-]+|[A-Z]+\.md)`", README):
        assert (ROOT / (name[0] or name[1])).exists(), name


def test_own_data_from_recording_to_chat(own_data: Path) -> None:
    steps = commands("nvllm")
    verbs = [step[1] for step in steps]
    assert verbs[-1] == "chat"
    assert {verb for verb in verbs if verb != "capture"} <= set(VERBS)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for step in steps:
        done = subprocess.run(
            [*step, *shlex.split(SHORTER.get(step[1], ""))],
            cwd=own_data,
            env=environment,
            input="How was it?\nIt rained.\nquit\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(step)}: {done.stderr[-2000:]}"
    assert [text.speaker for text in Session(own_data / "recordings/monday").texts] == ["ann", "bob"]
    assert (own_data / "run/eval.json").is_file()
    for code in blocks("python"):
        subprocess.run([sys.executable, "-c", code.replace("demo/run", "run")], cwd=own_data, check=True)
