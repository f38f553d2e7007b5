"""Tiny engines for the tests of the live part: real parts, small sizes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from natural_video_llm.assets import FACE_LANDMARKER
from natural_video_llm.inference.conversation import Conversation, Sampling
from natural_video_llm.inference.engine import Engine
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM
from natural_video_llm.preprocessing.encoders.face_geometry import head_points
from natural_video_llm.sessions.clock import SessionClock

POINTS_SIZE = 1440
_SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


class SetClock(SessionClock):
    """Stands where it is put."""

    def __init__(self, now_s: float = 10.0):
        super().__init__()
        self.time_s = now_s

    def now_s(self) -> float:
        return self.time_s


def tiny_llama(tokenizer: PreTrainedTokenizerBase, **changed: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **{**_SIZES, **changed})).eval()


def adapted(llm: PreTrainedModel, gate: float = 0.8) -> NaturalVideoLLM:
    """A model that reads face geometry, its gates open."""
    size = 2 * POINTS_SIZE
    config = FusionConfig(
        "tiny", "0" * 64, "face-geometry", FACE_LANDMARKER.member_sha256, size, (1,), face_size=24, components=6
    )
    torch.manual_seed(1)
    model = NaturalVideoLLM(llm, config).eval()
    model.temporal_encoder.basis.fit(torch.randn(200, size))
    for block in model.blocks.values():
        torch.nn.init.constant_(block.gate, gate)
        block.feed_forward[-1].weight.data *= 8  # type: ignore[operator, union-attr, index] # what is seen shows
    return model


def reciter(tokenizer: PreTrainedTokenizerBase, message: str, reply: str) -> NaturalVideoLLM:
    """A tiny LLM that has learned one reply to one message by heart, under an adapter whose gates are shut."""
    chat = ChatFormat(tokenizer)
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (message, reply))
    told = chat.conversation([("user", TimedTokens(before, [0.0] * len(before)))]).ids
    ids = torch.tensor([told + chat.turn("assistant", TimedTokens(after, [0.0] * len(after))).ids])
    llm = tiny_llama(tokenizer).train()
    optimiser = torch.optim.Adam(llm.parameters(), lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        llm(ids, labels=ids).loss.backward()
        optimiser.step()
    return adapted(llm.eval(), gate=0.0)


@contextmanager
def opened(engine: Engine, clock: SessionClock | None = None, **settings: object) -> Iterator[Conversation]:
    settings.setdefault("sampling", Sampling(temperature=0.0))
    conversation = engine.open(clock or SetClock(), **settings)  # type: ignore[arg-type]
    try:
        yield conversation
    finally:
        conversation.close()


def face_points(seed: int) -> np.ndarray:
    """[478, 3] of a made-up face on a picture of 640 x 480."""
    latent = np.random.default_rng(seed).normal(size=POINTS_SIZE)
    return head_points(latent) * 40 + (320, 240, 0)


def show(conversation: Conversation, clock: SetClock, seed: int, seconds: float = 1.0, rate_hz: float = 10) -> None:
    """A face, from now on for so long; the clock goes along."""
    rng = np.random.default_rng(seed)
    points = face_points(seed)
    for _ in range(round(seconds * rate_hz)):
        clock.time_s += 1 / rate_hz
        assert conversation.see_points(clock.time_s, points + rng.normal(size=points.shape), 640, 480)


def reply_text(conversation: Conversation, message: str, char_times: Sequence[float] | None = None) -> str:
    return "".join(piece.text for piece in conversation.reply(message, char_times))
