"""Conversations as tokens: the same text as the tokenizer's own chat template, with a time for every token."""

import copy
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens

_CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
# The shapes that chat templates come in; the names are of families that use them.
TEMPLATES = {
    "chatml": _CHATML + _ASK,
    "chatml with a system message": "<|im_start|>system\nBe kind.<|im_end|>\n" + _CHATML + _ASK,
    "gemma": "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    "llama 3": "{{ bos_token }}{% for m in messages %}<|header|>{{ m.role }}<|/header|>\n\n{{ m.content }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|header|>assistant<|/header|>\n\n{% endif %}",
    "mistral": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
}
TALK = [("user", "Hello there."), ("assistant", "Hi!"), ("user", "How are you?"), ("assistant", "Fine, thanks.")]


@pytest.fixture(scope="module")
def tokenizer(llm_dir: str) -> PreTrainedTokenizerBase:
    return load_tokenizer(llm_dir)


def timed(tokenizer: PreTrainedTokenizerBase, text: str, from_s: float = 0.0) -> TimedTokens:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return TimedTokens(ids, [from_s + i / 10 for i in range(len(ids))])


def as_messages(talk: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in talk]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_a_conversation_reads_as_the_template_writes_it(
    tokenizer: PreTrainedTokenizerBase, name: str, turns: int
) -> None:
    own = copy.deepcopy(tokenizer)
    own.chat_template = TEMPLATES[name]
    chat = ChatFormat(own)
    ids = chat.conversation([(role, timed(own, text)) for role, text in TALK[:turns]]).ids
    asked = turns % 2 == 1
    if asked:
        ids = ids + chat.opening("assistant", 9.0).ids
    template = str(own.apply_chat_template(as_messages(TALK[:turns]), tokenize=False, add_generation_prompt=asked))
    assert own.decode(ids) == template.replace("<|im_start|>system\nBe kind.<|im_end|>\n", "")


def test_the_default_tokenizers_system_message_is_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    template = str(tokenizer.apply_chat_template(as_messages(TALK), tokenize=False))
    assert "system" in template, "else this test shows nothing"
    ids = ChatFormat(tokenizer).conversation([(role, timed(tokenizer, text)) for role, text in TALK]).ids
    assert tokenizer.decode(ids) == template[template.index("<|im_start|>user") :]


@given(
    talk=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
                lambda text: not text[0].isspace() and "<" not in text
            )
        ),
        min_size=1,
        max_size=3,
    )
)
def test_parts_are_cut_as_the_whole_is(tokenizer: PreTrainedTokenizerBase, talk: list[tuple[str]]) -> None:
    chat = ChatFormat(tokenizer)
    turns = [(("user", "assistant")[i % 2], text) for i, (text,) in enumerate(talk)]
    # The vocabulary has no token for some control characters; alignment leaves such utterances out.
    assume(all(timed(tokenizer, text).ids for _, text in turns))
    whole = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    ids = chat.conversation([(role, timed(tokenizer, text)) for role, text in turns]).ids
    assert ids == tokenizer(whole, add_special_tokens=False)["input_ids"]


UNUSABLE = {
    "none": (None, "has no chat template"),
    "only the last message": ("{{ messages[-1].content }}", "does not write turns one after the other"),
    "everything twice": ("{% for m in messages + messages %}{{ m.content }}{% endfor %}", "does not write turns"),
    "one that refuses": ("{{ raise_exception('no replies, please') }}", "fails on a plain conversation .no replies"),
    "a broken one": ("{% for m in messages %}{{ m.content }}", "fails on a plain conversation"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_without_a_usable_template_there_are_plain_lines_and_a_notice(
    tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    plain = copy.deepcopy(tokenizer)
    plain.chat_template, reason = UNUSABLE[name]
    chat = ChatFormat(plain)
    ids = chat.conversation([(role, timed(plain, text)) for role, text in TALK[:2]]).ids
    bos, eos = plain.bos_token, plain.eos_token
    assert plain.decode(ids) == f"{bos}user:\nHello there.{eos}\nassistant:\nHi!{eos}\n"
    assert chat.end_ids["assistant"] == {plain.eos_token_id}
    assert chat.notice is not None
    assert re.search(reason, chat.notice)
    assert "plain lines" in chat.notice


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_usable_template_needs_no_notice(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    own = copy.deepcopy(tokenizer)
    own.chat_template = TEMPLATES[name]
    assert ChatFormat(own).notice is None


def test_a_tokenizer_without_special_tokens_ends_a_turn_with_its_line(tokenizer: PreTrainedTokenizerBase) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = bare.bos_token = bare.eos_token = None
    chat = ChatFormat(bare)
    ids = chat.conversation([(role, timed(bare, text)) for role, text in TALK[:2]]).ids
    assert bare.decode(ids) == "user:\nHello there.\nassistant:\nHi!\n"
    assert chat.closing("assistant", 0.0).ids[0] in chat.end_ids["assistant"]


def test_marks_carry_the_times_of_their_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = ChatFormat(tokenizer)
    first, second = timed(tokenizer, "Hello there, you.", 1.0), timed(tokenizer, "Good morning.", 5.0)
    turn = chat.turn("user", first)
    before, after = len(chat.marks["user"].before), len(chat.marks["user"].after)
    assert turn.times == [1.0] * before + first.times + [first.times[-1]] * after
    assert turn.ids == chat.opening("user", 1.0).ids + first.ids + chat.closing("user", 2.0).ids
    both = chat.conversation([("user", first), ("assistant", second)])
    assert len(both.ids) == len(both.times)
    assert both.times == sorted(both.times)
    assert both.ids == turn.ids + chat.turn("assistant", second).ids


def test_a_turn_ends_with_one_of_its_end_ids(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = ChatFormat(tokenizer)
    for role in ("user", "assistant"):
        assert chat.closing(role, 0.0).ids[0] in chat.end_ids[role]
    assert chat.end_ids["assistant"] == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
