"""Who answers at the keyboard: the base LLM as it is, and a run that knows when each character was typed."""

import numpy as np
import pytest
import skimage
import torch
from live_models import SetClock, opened

from natural_video_llm.checkpoint import BaseLLM, load_base_llm
from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.partner import LLMPartner, RunPartner
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.sessions.events import Text


@pytest.fixture(scope="module")
def base() -> BaseLLM:
    return load_base_llm()


def typed(text: str) -> Text:
    times = [1.0 + 0.1 * i for i in range(len(text))]
    return Text(speaker="ann", text=text, t_start=1.0, t_end=times[-1] + 1, timing="char", char_times=times)


def test_the_base_llm_answers_as_it_does_by_itself(base: BaseLLM) -> None:
    partner = LLMPartner(base, 0.0, torch.Generator())
    reply = "".join(partner.reply(typed("Name a colour of the sky.")))
    chat = ChatFormat(base.tokenizer)
    template = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Name a colour of the sky."}], tokenize=False, add_generation_prompt=True
    )
    # The house's conversations go without the template's default system message.
    prompt = chat._encode(str(template)[str(template).rindex("<|im_start|>user") :])
    with torch.no_grad():
        out = base.model.generate(
            torch.tensor([prompt], device=base.model.device), max_new_tokens=60, do_sample=False, use_cache=True
        )
    expected = base.tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
    assert reply == expected
    assert len(reply) > 3


def test_only_what_was_shown_is_remembered(base: BaseLLM) -> None:
    partner = LLMPartner(base, 0.0, torch.Generator())
    reply = partner.reply(typed("Tell me a long story."))
    shown = [next(reply), next(reply)]
    reply.close()
    role, words = partner._turns[-1]
    assert role == "assistant"
    assert base.tokenizer.decode(words.ids) == "".join(shown)


def test_a_run_is_told_when_each_token_was_typed_and_sees_the_frames(engine: Engine) -> None:
    clock = SetClock()
    message = typed("I saw my sister today.")
    assert message.char_times is not None
    message.char_times[2] = 9.0  # corrected last: what stands behind it is no older
    portrait = np.ascontiguousarray(skimage.data.astronaut()[:256, 90:346])
    with opened(engine, clock) as conversation:
        partner = RunPartner(conversation)
        partner.on_frame(clock.time_s, portrait)
        conversation.settle()
        reply = partner.reply(message)
        shown = next(reply) + next(reply)
        reply.close()
        words = conversation._text.turns[0][1]
        assert conversation.turns() == [("user", message.text), ("assistant", shown)]
        assert partner.note().startswith("face seen; the face moved this reply by ")
    assert words.times[0] == pytest.approx(1.0)
    assert words.times[1:] == [9.0] * (len(words.ids) - 1)


def test_a_line_that_was_timed_as_a_whole_was_typed_evenly(engine: Engine) -> None:
    with opened(engine) as conversation:
        whole = Text(speaker="ann", text="One two three.", t_start=1.0, t_end=8.0, timing="utterance")
        next(RunPartner(conversation).reply(whole))
        times = conversation._text.turns[0][1].times
    assert times == sorted(times)
    assert times[-1] == pytest.approx(8.0)
    assert 1.0 < times[0] < 4.0
