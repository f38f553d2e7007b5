"""Video loggers as processes, the way a person runs them, and sources for them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.video import SegmentWriter, read_frames

NVLLM = (sys.executable, "-c", "from natural_video_llm.cli import main; main()")
# Small in the suite; the full count (50) by hand.
FAULT_REPEATS = int(os.environ.get("NVLLM_FAULT_REPEATS", "5"))


def start(session: Path, source: str | Path, *options: str) -> subprocess.Popen[str]:
    """A logger in a process of its own, with a consent file beside the session."""
    yes = session.with_name("yes.txt")
    if not yes.exists() and session.parent.is_dir():
        yes.write_text("Agreed to, for a test.\n", encoding="utf-8")
    command = [*NVLLM, "capture", "video", str(session), "--source", str(source), "--yes", str(yes), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], timeout_s: float = 60) -> tuple[int, str, list[str]]:
    """Exit code, standard output, and the lines for a person on standard error (libraries say things there too)."""
    out, errors = process.communicate(timeout=timeout_s)
    assert "Traceback" not in errors, errors
    return process.returncode, out, [line for line in errors.splitlines() if line.startswith("nvllm")]


def wait_for(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def recording(session: Path) -> bool:
    log = session / "session.jsonl"
    return log.exists() and b"video_segment_start" in log.read_bytes()


def write_clip(path: Path, times_s: Iterable[float], picture: Callable[[float], np.ndarray]) -> Path:
    writer: SegmentWriter | None = None
    for time_s in times_s:
        rgb = picture(time_s)
        if writer is None:
            writer = SegmentWriter(path, rgb.shape[1], rgb.shape[0])
        writer.write(rgb, time_s)
    assert writer is not None
    writer.close()
    return path


def recorded(session: Session) -> list[tuple[float, np.ndarray]]:
    """All frames of the finished segments in order."""
    return [frame for segment in session.finished_segments for frame in read_frames(session.path / segment.file)]
