"""What the README tells people to type works as it stands there."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from natural_video_llm.cli import VERBS
from natural_video_llm.sessions.folder import Session, find_sessions

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Only what makes a command shorter; everything else is run as printed.
SHORTER = {
    "capture": "--video-source CLIPS/a.mp4 --yes consent.txt",
    "train": "--match-steps 2 --steps 2 --batch-size 2 --own-text-weight 0",
    "eval": "--replies 1",
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


def serve_until_ready(step: list[str], folder: Path, environment: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # BROWSER is what `--open` would start.
    server = subprocess.Popen(
        [*step, "--port", str(port)], cwd=folder, env=environment | {"BROWSER": "true"}, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 120
    try:
        while not is_ready(port):
            assert server.poll() is None, server.communicate()[1].decode()
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    assert server.returncode == 0


def is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_own_data_from_recording_to_chat(own_data: Path) -> None:
    steps = commands("nvllm")
    verbs = [step[1] for step in steps]
    assert verbs[-2:] == ["chat", "serve"]
    assert {verb for verb in verbs if verb != "capture"} <= set(VERBS)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for step in steps:
        if step[1] == "serve":
            serve_until_ready(step, own_data, environment)
            continue
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
