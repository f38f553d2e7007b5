"""A real Chromium, a real server with the starter adapter, and fake cameras."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_camera import real_face, sample_face, write_mjpeg
from page_server import REAL_FACE, ROOT, WEB, Server, node, wait_until_ready

NO_NETWORK = ("ECONNREFUSED", "ECONNRESET", "ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "ENETUNREACH")


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def web_tools() -> Path:
    """web/ with the tools that package-lock.json names, and the page built of it."""
    for arguments in (["check"], []):
        made = subprocess.run([sys.executable, "hatch_build.py", *arguments], cwd=ROOT, capture_output=True, text=True)
        if any(code in made.stderr for code in NO_NETWORK):
            pytest.skip(f"the npm registry cannot be reached: {made.stderr.strip().splitlines()[-1]}")
        assert made.returncode == 0, made.stderr
    return WEB


@pytest.fixture(scope="session")
def server(web_tools: Path, llm_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "natural_video_llm", "serve", "starter", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--record", str(folder / "sessions")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_until_ready(f"{address}readyz", process, folder / "log")
        yield Server(address, folder / "sessions")
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def seen_in_chromium(
    chromium: str, server: Server, face_task_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict]:
    """What became of each case of web/e2e/page.mjs, by name."""
    out = tmp_path_factory.mktemp("page")
    cameras = [
        write_mjpeg(out / "real.mjpeg", real_face(REAL_FACE, 150)),
        write_mjpeg(out / "smile.mjpeg", sample_face(face_task_file, "smile_comes")),
        write_mjpeg(out / "droop.mjpeg", sample_face(face_task_file, "mouth_droops")),
        write_mjpeg(out / "black.mjpeg", [np.zeros((480, 640, 3), np.uint8)] * 30),
    ]
    made = node("page.mjs", server.address, chromium, out, *cameras)
    cases = [json.loads(line) for line in made.stdout.splitlines() if line.startswith("{")]
    assert made.returncode == 0, made.stderr
    return {case["name"]: case for case in cases} | {"out": {"folder": out}}
