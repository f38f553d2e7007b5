"""Small data whose made-up latents are those of an encoder of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import make_data
from train_points import add_points

from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.preprocessing import encoders


@pytest.fixture(autouse=True, scope="package")
def _points() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "_KINDS", dict(encoders._KINDS))
        add_points()
        yield


@pytest.fixture(scope="session")
def chat(llm_dir: str) -> ChatFormat:
    return ChatFormat(load_tokenizer(llm_dir))


@pytest.fixture(scope="session")
def sessions(chat: ChatFormat, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people, each in two sessions of three exchanges."""
    folder = tmp_path_factory.mktemp("data") / "sessions"
    make_data(folder, chat)
    return folder
