"""A reply, token by token, each looking at the newest face."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from natural_video_llm.models.chat_format import TimedTokens
from natural_video_llm.models.decoder import Decoder
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM

MAX_TOKENS = 60


@dataclass(frozen=True)
class ReplyToken:
    """One token of a reply: when it was predicted (seconds), and by how many bits the face moved the prediction."""

    id: int
    time_s: float
    moved_bits: float


def generate_reply(
    model: NaturalVideoLLM,
    decoder: Decoder,
    prompt: TimedTokens,
    look: Callable[[], tuple[float, Face]],
    end_ids: set[int],
    *,
    max_tokens: int = MAX_TOKENS,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[ReplyToken]:
    """Yield the reply to `prompt` up to its end mark, which is not yielded.

    Args:
        decoder: of the model, with nothing in it yet.
        prompt: the conversation, up to and with the opening of the reply.
        look: called before every token; gives the time now and the face up to now, a batch of one.
        end_ids: tokens that end a turn.
        temperature: 0 takes the likeliest token.
    """
    ids, queries = prompt.ids, prompt.times[1:]
    for _ in range(max_tokens):
        now_s, face = look()
        with torch.no_grad():
            seen = model.encode(face)
        log_probs = decoder.feed(ids, [*queries, now_s], seen)
        token = choose_token(log_probs, now_s, temperature, generator)
        if token.id in end_ids:
            return
        yield token
        ids, queries = [token.id], []


def choose_token(
    log_probs: Tensor, now_s: float, temperature: float, generator: torch.Generator | None, top_p: float = 1.0
) -> ReplyToken:
    """The next token out of a decoder's log_probs [2, vocabulary]; `moved_bits` is the divergence
    KL(with the face || without it) of the two."""
    seeing, blind = log_probs
    moved = float((seeing.exp() * (seeing - blind)).sum()) / math.log(2)
    return ReplyToken(pick_token(seeing, temperature, generator, top_p), now_s, max(0.0, moved))


# Below this a division by the temperature may overflow, and nothing but the likeliest token could be drawn.
_COLD = 1e-4


def pick_token(log_probs: Tensor, temperature: float, generator: torch.Generator | None, top_p: float = 1.0) -> int:
    """The likeliest of log_probs [vocabulary] at temperature 0, else one drawn; with `top_p` below 1 out of the
    likeliest tokens that together have that probability (nucleus sampling, Holtzman et al. 2020).

    Raises:
        FloatingPointError: nothing can be drawn, since the predictions are not numbers.
    """
    if log_probs.isnan().any():
        raise FloatingPointError("the model's predictions are not numbers (NaN)")
    if temperature < _COLD:
        return int(log_probs.argmax())
    weights = (log_probs / temperature).softmax(-1)
    if top_p < 1:
        ordered, places = weights.sort(descending=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p
        beyond[0] = False  # a top_p too small for the weights' precision would leave nothing
        weights = weights.index_fill(0, places[beyond], 0.0)
    return int(torch.multinomial(weights, 1, generator=generator))
