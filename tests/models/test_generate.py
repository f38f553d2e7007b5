"""Replies token by token: the cache changes nothing, and the face counts only where one is seen."""

import math
from collections.abc import Callable

import pytest
import torch
from tiny_llms import LATENT_SIZE, VOCABULARY, make_face, make_llm, make_model
from transformers import PreTrainedModel

from natural_video_llm.models.chat_format import TimedTokens
from natural_video_llm.models.decoder import TransformersDecoder
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.generate import ReplyToken, generate_reply, pick_token

Look = Callable[[], tuple[float, Face]]

IDS = torch.randint(0, VOCABULARY, (7,), generator=torch.Generator().manual_seed(4)).tolist()
PROMPT = TimedTokens(IDS, [1.0 + i / 10 for i in range(7)])
TOKENS = 8


def watching(face: Face, from_s: float = 1.9, step_s: float = 0.1) -> Look:
    """A camera that runs on while the reply is written."""
    now_s = from_s

    def look() -> tuple[float, Face]:
        nonlocal now_s
        now_s += step_s
        seen = int((face.times[0] <= now_s).sum())
        return now_s, Face(face.latents[:, :seen], face.times[:, :seen], face.present[:, :seen])

    return look


def reply(model: NaturalVideoLLM, look: Look, **options: object) -> list[ReplyToken]:
    return list(
        generate_reply(model, TransformersDecoder(model), PROMPT, look, set(), **{"max_tokens": TOKENS, **options})
    )


@torch.no_grad()
def without_cache(model: NaturalVideoLLM, look: Look) -> list[ReplyToken]:
    """A reply with the whole text run anew for each token, and for each of the two faces by itself."""
    ids, times, tokens = list(PROMPT.ids), list(PROMPT.times), []
    generator = torch.Generator().manual_seed(1)
    for _ in range(TOKENS):
        now_s, face = look()
        queries = torch.tensor([[*times[1:], now_s]], dtype=torch.float64)
        text = torch.tensor([ids])
        seeing = model(text, queries, face).logits[0, -1].log_softmax(-1)
        blind = model(text, queries, Face.absent(1, LATENT_SIZE)).logits[0, -1].log_softmax(-1)
        moved_bits = float((seeing.exp() * (seeing - blind)).sum()) / math.log(2)
        token = int(torch.multinomial(seeing.exp(), 1, generator=generator))
        tokens.append(ReplyToken(token, now_s, moved_bits))
        ids.append(tokens[-1].id)
        times.append(now_s)
    return tokens


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_with_a_cache_as_without(llm: PreTrainedModel, lora_rank: int) -> None:
    model, face = make_model(llm, lora_rank=lora_rank), make_face(batch=1)
    cached = reply(model, watching(face), temperature=1.0, generator=torch.Generator().manual_seed(1))
    anew = without_cache(model, watching(face))
    assert len({token.id for token in anew}) > 4
    assert [(t.id, t.time_s) for t in cached] == [(t.id, t.time_s) for t in anew]
    assert [t.moved_bits for t in cached] == pytest.approx([t.moved_bits for t in anew], abs=1e-5)


def test_the_face_moves_the_reply_and_nobody_moves_nothing(llm: PreTrainedModel) -> None:
    model, face = make_model(llm), make_face(batch=1)
    assert all(token.moved_bits > 1e-4 for token in reply(model, watching(face)))
    hidden = Face(face.latents, face.times, torch.zeros_like(face.present))
    for nobody in (Face.absent(1, LATENT_SIZE), hidden):
        assert [t.moved_bits for t in reply(model, watching(nobody))] == pytest.approx([0.0] * TOKENS, abs=1e-6)


def test_a_face_that_comes_midway_moves_only_what_comes_after() -> None:
    model, face = make_model(make_llm("llama")), make_face(batch=1)
    came_s = 2.35
    face = Face(face.latents, face.times, face.times > came_s)
    for token in reply(model, watching(face)):
        if token.time_s <= came_s:
            assert token.moved_bits == pytest.approx(0.0, abs=1e-6)
        else:
            assert token.moved_bits > 1e-4


def test_the_end_mark_ends_and_is_not_given() -> None:
    model, face = make_model(make_llm("gpt2")), make_face(batch=1)
    whole = [t.id for t in reply(model, watching(face), temperature=1.0, generator=torch.Generator().manual_seed(1))]
    end = whole[3]
    generator = torch.Generator().manual_seed(1)
    stopped = generate_reply(
        model, TransformersDecoder(model), PROMPT, watching(face), {end}, temperature=1.0, generator=generator
    )
    assert [t.id for t in stopped] == whole[: whole.index(end)]


def test_the_same_seed_gives_the_same_reply() -> None:
    model, face = make_model(make_llm("llama")), make_face(batch=1)
    first, again, other = (
        reply(model, watching(face), temperature=1.0, generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    )
    assert first == again
    assert [t.id for t in first] != [t.id for t in other]


def test_it_looks_once_a_token_and_only_when_asked() -> None:
    looks: list[float] = []
    camera = watching(make_face(batch=1))

    def look() -> tuple[float, Face]:
        now_s, face = camera()
        looks.append(now_s)
        return now_s, face

    model = make_model(make_llm("llama"))
    tokens = generate_reply(model, TransformersDecoder(model), PROMPT, look, set(), max_tokens=TOKENS)
    assert not looks
    for number, token in enumerate(tokens, start=1):
        assert len(looks) == number
        assert token.time_s == looks[-1]
    assert len(looks) == TOKENS


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e-5])
def test_next_to_no_temperature_takes_the_likeliest(temperature: float) -> None:
    assert pick_token(torch.tensor([0.2, 0.5, 0.3]).log(), temperature, None) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_predictions_that_are_no_numbers_give_no_token(temperature: float) -> None:
    with pytest.raises(FloatingPointError, match="NaN"):
        pick_token(torch.tensor([0.2, float("nan"), 0.3]), temperature, None)


def test_the_smallest_top_p_takes_the_likeliest() -> None:
    assert pick_token(torch.tensor([0.2, 0.5, 0.3]).log(), 1.0, None, top_p=1e-150) == 1
