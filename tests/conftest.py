"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

from natural_video_llm import assets

FACES_DIR = Path(__file__).resolve().parents[2] / "shared" / "faces"


@pytest.fixture(scope="session")
def faces_dir() -> Path:
    """Folder of real faces (never part of the project); tests that need it skip where it is absent."""
    if not FACES_DIR.is_dir():
        pytest.skip(f"real faces are not on this machine (looked in {FACES_DIR})")
    return FACES_DIR


@pytest.fixture(scope="session")
def face_task_file() -> Path:
    """The real landmark nets, fetched into the user's cache on first use."""
    return assets.face_landmarker_file()


@pytest.fixture(scope="session")
def llm_dir() -> str:
    """The real default LLM, fetched into the user's cache on first use."""
    return assets.llm_folder()
