"""A reply, token by token, each looking at the newest face."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from natural_video_llm.models.chat_format import TimedTokens
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM


@dataclass(frozen=True)
class ReplyToken:
    """One token of a reply: when it was predicted (seconds), and by how many bits the face moved the prediction."""

    id: int
    time_s: float
    moved_bits: float


@torch.no_grad()
def generate_reply(
    model: NaturalVideoLLM,
    prompt: TimedTokens,
    look: Callable[[], tuple[float, Face]],
    end_ids: set[int],
    *,
    max_tokens: int = 60,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[ReplyToken]:
    """Yield the reply to `prompt` up to its end mark, which is not yielded.

    Args:
        prompt: the conversation, up to and with the opening of the reply.
        look: called before every token; gives the time now and the face up to now, a batch of one.
        end_ids: tokens that end a turn.
        temperature: 0 takes the likeliest token.

    Two rows run side by side on the same tokens, one with the face and one with nobody in view; `moved_bits` is the
    divergence KL(with || without) of their next-token distributions.
    """
    device = model.absence.device
    ids = torch.tensor([prompt.ids], device=device)
    times = torch.tensor([prompt.times], dtype=torch.float64, device=device)
    cache = None
    for _ in range(max_tokens):
        now_s, face = look()
        queries = torch.cat([times[:, 1:], times.new_full((1, 1), now_s)], dim=1)
        keep = torch.zeros(2, ids.shape[1], dtype=torch.bool, device=device)
        keep[:, -1] = True
        out = model(
            ids.expand(2, -1),
            queries.expand(2, -1),
            _beside_nobody(face),
            past_key_values=cache,
            use_cache=True,
            keep=keep,
        )
        cache = out.past_key_values
        seeing, blind = out.logits.float().log_softmax(-1)
        token = pick_token(seeing, temperature, generator)
        if token in end_ids:
            return
        moved = float((seeing.exp() * (seeing - blind)).sum()) / math.log(2)
        yield ReplyToken(token, now_s, max(0.0, moved))
        ids = torch.tensor([[token]], device=device)
        times = times.new_full((1, 1), now_s)


def _beside_nobody(face: Face) -> Face:
    nobody = torch.zeros_like(face.present)
    return Face(face.latents.expand(2, -1, -1), face.times.expand(2, -1), torch.cat([face.present, nobody]))


def pick_token(log_probs: Tensor, temperature: float, generator: torch.Generator | None) -> int:
    """The likeliest of log_probs [vocabulary] at temperature 0, else one drawn.

    Raises:
        FloatingPointError: nothing can be drawn, since the predictions are not numbers.
    """
    if temperature <= 0:
        return int(log_probs.argmax())
    if log_probs.isnan().any():
        raise FloatingPointError("the model's predictions are not numbers (NaN)")
    weights = (log_probs / temperature).softmax(-1)
    return int(torch.multinomial(weights, 1, generator=generator))
