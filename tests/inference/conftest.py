"""The real default tokenizer and tiny engines."""

from collections.abc import Iterator

import pytest
from live_models import adapted, tiny_llama
from transformers import PreTrainedTokenizerBase

from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.inference.engine import Engine


@pytest.fixture(scope="session")
def tokenizer(llm_dir: str) -> PreTrainedTokenizerBase:
    return load_tokenizer(llm_dir)


@pytest.fixture(scope="module")
def engine(tokenizer: PreTrainedTokenizerBase) -> Iterator[Engine]:
    with Engine(adapted(tiny_llama(tokenizer)), tokenizer) as engine:
        yield engine
