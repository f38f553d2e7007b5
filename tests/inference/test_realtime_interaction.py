"""The conversation in the terminal: how it ends, and what it says when it cannot go on."""

import pytest
import torch
from live_models import adapted, opened, tiny_llama
from transformers import PreTrainedTokenizerBase

from natural_video_llm.errors import UserError
from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.realtime_interaction import _answer


def test_damaged_weights_are_one_line(tokenizer: PreTrainedTokenizerBase) -> None:
    model = adapted(tiny_llama(tokenizer))
    torch.nn.init.constant_(model.llm.get_output_embeddings().weight, float("nan"))
    with (
        opened(Engine(model, tokenizer)) as conversation,
        pytest.raises(UserError, match=r"not numbers \(NaN\): its weights are damaged"),
    ):
        _answer(conversation, "Hello")
