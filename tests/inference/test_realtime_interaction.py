"""The conversation in the terminal: how it ends, and what it says when it cannot go on."""

import builtins
from collections.abc import Callable

import numpy as np
import pytest
import torch
from live_models import adapted, opened, tiny_llama
from transformers import PreTrainedTokenizerBase

from natural_video_llm.errors import UserError
from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.realtime_interaction import _answer, _converse
from natural_video_llm.inference.sources import Frames, Player
from natural_video_llm.sessions.clock import SessionClock


def test_damaged_weights_are_one_line(tokenizer: PreTrainedTokenizerBase) -> None:
    model = adapted(tiny_llama(tokenizer))
    torch.nn.init.constant_(model.llm.get_output_embeddings().weight, float("nan"))
    with (
        opened(Engine(model, tokenizer)) as conversation,
        pytest.raises(UserError, match=r"not numbers \(NaN\): its weights are damaged"),
    ):
        _answer(conversation, "Hello")


def lasting(seconds: float) -> Callable[[SessionClock], Frames]:
    def frames(clock: SessionClock) -> Frames:
        begun_s = clock.now_s()
        for number in range(int(10 * seconds)):
            yield begun_s + number / 10, np.zeros((48, 64, 3), np.uint8)

    return frames


@pytest.mark.parametrize(
    ("say", "typed", "plays_on"), [((), "quit", True), ((), None, False), (("quit",), None, False)]
)
def test_quit_ends_at_once_and_a_script_plays_the_video_out(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, say: tuple[str, ...], typed: str | None, plays_on: bool
) -> None:
    def read_line() -> str:
        if typed is None:
            raise EOFError
        return typed

    monkeypatch.setattr(builtins, "input", read_line)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with (
        opened(engine, clock=SessionClock()) as conversation,
        Player(lasting(60 if plays_on else 1), conversation.clock, lambda time_s, rgb: True) as player,
    ):
        _converse(conversation, player, say, True)
        assert player.running() == plays_on
