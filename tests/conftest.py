"""Fixtures shared by all tests."""

import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from transformers import LlamaConfig, LlamaForCausalLM

from natural_video_llm import assets
from natural_video_llm.capture.sample_speaker import write_sample_sessions
from natural_video_llm.checkpoint import load_tokenizer

# A machine that stands still for a moment is no fault, and what a search finds is found in every run.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
# A suite that was started in the background ignores Ctrl-C, and so would the programs whose Ctrl-C it tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
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


@pytest.fixture(scope="session")
def tiny_llm(llm_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLM of two layers with the real tokenizer, on disk."""
    folder = tmp_path_factory.mktemp("llm")
    tokenizer = load_tokenizer(llm_dir)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.3, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sessions(tmp_path_factory: pytest.TempPathFactory, face_task_file: Path) -> Path:
    """Sample sessions of three people, one held out, three turns each; a test that writes takes a copy."""
    out = tmp_path_factory.mktemp("tiny_sessions")
    write_sample_sessions(
        out,
        face_task_file,
        people=3,
        held_out_people=1,
        held_out_messages=3,
        turns=3,
        rate_hz=10,
        workers=1,
    )
    return out
