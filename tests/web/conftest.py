"""A real Chromium, a real server with the starter adapter, and fake cameras."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_camera import real_face, sample_face, write_mjpeg
from page_server import REAL_FACE, ROOT, WEB, Server, cases_of, served
from tiny_models import make_run

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
    with served("starter", tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="session")
def camera(web_tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A webcam clip as a fake camera."""
    return write_mjpeg(tmp_path_factory.mktemp("camera") / "real.mjpeg", real_face(REAL_FACE, 150))


@pytest.fixture(scope="session")
def seen_in_chromium(
    chromium: str, server: Server, camera: Path, face_task_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict]:
    """What became of each case of web/e2e/page.mjs, by name."""
    out = tmp_path_factory.mktemp("page")
    cameras = [
        camera,
        write_mjpeg(out / "smile.mjpeg", sample_face(face_task_file, "smile_comes")),
        write_mjpeg(out / "droop.mjpeg", sample_face(face_task_file, "mouth_droops")),
        write_mjpeg(out / "black.mjpeg", [np.zeros((480, 640, 3), np.uint8)] * 30),
    ]
    return cases_of("page.mjs", server.address, chromium, out, *cameras) | {"out": {"folder": out}}


RECIPE = "match_steps = 1\nsteps = 2\nown_text_weight = 0.0\ntwin = false\n"


@pytest.fixture(scope="session")
def seen_together(
    chromium: str, web_tools: Path, camera: Path, tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict]:
    """The same for web/e2e/together.mjs, with a tiny model, which is trained in seconds."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "recipe.toml").write_text(RECIPE)
    with served(str(make_run(folder / "tiny", tiny_llm)), folder, "--recipe", str(folder / "recipe.toml")) as server:
        return cases_of("together.mjs", server.address, chromium, folder, camera)
