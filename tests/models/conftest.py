"""Every family of tiny LLMs, one after the other."""

import pytest
from tiny_llms import FAMILIES, make_llm
from transformers import PreTrainedModel


@pytest.fixture(params=sorted(FAMILIES))
def llm(request: pytest.FixtureRequest) -> PreTrainedModel:
    return make_llm(request.param)
