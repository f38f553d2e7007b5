"""`nvllm extract` as a process of its own, to be watched and killed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

NVLLM = (sys.executable, "-c", "from natural_video_llm.cli import main; main()")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
ENCODER = "face-geometry"
GREETING = re.compile(r"INFO: |Created TensorFlow Lite XNNPACK delegate for CPU\.\n")
KILLS = int(os.environ.get("NVLLM_FAULT_REPEATS", "3"))


class Extracting:
    """`nvllm extract … --json` at work, and what it has told so far."""

    def __init__(self, *arguments: str | Path, environment: Mapping[str, str] = ENVIRONMENT):
        self.process = subprocess.Popen(
            [*NVLLM, "extract", *map(str, arguments), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.lines: list[dict[str, object]] = []
        self._errors: list[str] = []
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=lambda: self.lines.extend(map(json.loads, self.process.stdout or []))),
            threading.Thread(target=lambda: self._errors.extend(self.process.stderr or [])),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def errors(self) -> list[str]:
        """Lines on stderr, without the face nets' greeting, which two workers may mix."""
        return GREETING.sub("", "".join(self._errors)).splitlines()

    @property
    def segments(self) -> list[str]:
        """Session and number of each segment told."""
        paths = [Path(str(line["segment"])) for line in self.lines if "segment" in line]
        return [f"{path.parents[1].name}/{path.stem}" for path in paths]

    def wait_for(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not reached():
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < deadline, (self.lines, self.errors)
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        for reader in self._readers:
            reader.join(timeout=10)  # a process left behind would hold the pipe
            assert not reader.is_alive(), "a worker outlived it"
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def kill(self) -> None:
        """As `kill -9` does, if it is still at work; no process that it started may go on."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        assert self.end(signal.SIGKILL) in (-signal.SIGKILL, 0)
        assert_gone(started)


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def files(sessions: Path) -> dict[str, bytes]:
    """All that lies in the folders of latents, hidden files too."""
    found = {}
    for path in sorted(sessions.glob("*/latents/*/*")):
        with suppress(FileNotFoundError):  # claims go while we look
            found[str(path.relative_to(sessions))] = path.read_bytes()
    return found


def names(sessions: Path) -> list[str]:
    return [f"{path.parents[2].name}/{path.stem}" for path in sorted(sessions.glob("*/latents/*/*"))]


def target(session: Path, number: int) -> Path:
    return session / "latents" / ENCODER / f"{number:06d}.safetensors"


def finished(sessions: Path) -> dict[str, bytes]:
    """All latents; hidden files, which a killed process leaves behind, are none."""
    return {name: held for name, held in files(sessions).items() if not Path(name).name.startswith(".")}


def claimed(sessions: Path) -> bool:
    """Whether some process is at a segment, or was killed at it."""
    return any(sessions.glob("*/latents/*/.*.claim"))
