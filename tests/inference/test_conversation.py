"""A conversation remembers what was shown, reads while one types, and follows the face within a token."""

import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from live_models import SetClock, adapted, opened, reciter, reply_text, show, tiny_llama
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from natural_video_llm.errors import UserError
from natural_video_llm.inference import conversation as conversation_module
from natural_video_llm.inference.conversation import BusyError, Conversation, Piece, Sampling
from natural_video_llm.inference.engine import MAX_CONTEXT_TOKENS, Engine
from natural_video_llm.inference.status import Status
from natural_video_llm.inference.text_memory import timed_words
from natural_video_llm.models.chat_format import TimedTokens
from natural_video_llm.preprocessing.encoders import Encoder

MESSAGE = "Tell me something."
# Its characters beyond ASCII are several tokens each; marks that the tokenizer knows stand in the midst of it.
RECITED = "Hello 再见<|im_start|> and 😀 take<jupyter_output> care!"
SHOWN = RECITED.replace("<|im_start|>", "").replace("<jupyter_output>", "")


@pytest.fixture(scope="module")
def reciting(tokenizer: PreTrainedTokenizerBase) -> Engine:
    return Engine(reciter(tokenizer, MESSAGE, RECITED), tokenizer)


def held(conversation: Conversation) -> list[int]:
    """The tokens that its decoder holds."""
    return [token for token, _ in conversation._text._read]


def test_pieces_join_to_the_reply(reciting: Engine) -> None:
    with opened(reciting) as conversation:
        pieces = [piece.text for piece in conversation.reply(MESSAGE)]
        assert "".join(pieces) == SHOWN
        assert "" in pieces[:-1], "no half of a character is shown"
        assert conversation.turns() == [("user", MESSAGE), ("assistant", SHOWN)]
        reply = conversation.last_reply
        assert reply is not None
        assert (reply.finish, reply.text) == ("stop", SHOWN)
        assert reply.input_tokens > 5


def test_history_holds_what_was_shown_wherever_it_was_interrupted(
    reciting: Engine, tokenizer: PreTrainedTokenizerBase
) -> None:
    tokens = len(tokenizer(RECITED, add_special_tokens=False)["input_ids"])
    lengths = set()
    for heard in range(1, tokens + 1):
        with opened(reciting) as conversation:
            reply = conversation.reply(MESSAGE)
            shown = "".join(next(reply).text for _ in range(heard))
            if heard % 2:
                reply.close()
            else:
                conversation.interrupt()
                assert list(reply) == []
            assert conversation.turns() == [("user", MESSAGE), ("assistant", shown)]
            assert conversation.last_reply is not None
            assert conversation.last_reply.finish == "cancelled"
            lengths.add(len(shown))
    assert max(lengths) == len(SHOWN)


def test_what_was_broken_off_changes_the_next_reply_as_if_nothing_else_had_been_said(engine: Engine) -> None:
    with opened(engine) as conversation:
        reply = conversation.reply(MESSAGE)
        shown = "".join(next(reply).text for _ in range(4))
        reply.close()
        after = reply_text(conversation, "And then?")
        with opened(engine, turns=[("user", MESSAGE), ("assistant", shown)]) as fresh:
            assert reply_text(fresh, "And then?") == after


def test_nothing_said_is_no_turn(engine: Engine) -> None:
    with opened(engine) as conversation:
        assert list(conversation.reply("")) == []
        conversation.reply(MESSAGE).close()
        assert conversation.turns() == []
        assert conversation.status().state == "idle"


def test_the_same_seed_gives_the_same_reply(engine: Engine) -> None:
    def said(sampling: Sampling) -> list[Piece]:
        with opened(engine, sampling=Sampling(seed=99, max_tokens=8)) as conversation:
            list(conversation.reply("Hi."))
            return list(conversation.reply(MESSAGE, sampling=sampling))

    first = said(Sampling(1.0, seed=3, max_tokens=12))
    assert said(Sampling(1.0, seed=3, max_tokens=12)) == first
    assert said(Sampling(1.0, seed=4, max_tokens=12)) != first
    assert (
        said(Sampling(1.0, top_p=1e-6, seed=3, max_tokens=12))
        == said(Sampling(1.0, top_p=1e-6, seed=4, max_tokens=12))
        != first
    )
    assert len(said(Sampling(1.0, seed=3, max_tokens=5))) == 5


def test_one_reply_at_a_time(engine: Engine) -> None:
    with opened(engine) as conversation:
        reply = conversation.reply(MESSAGE)
        next(reply)
        with pytest.raises(BusyError, match="interrupt"):
            next(conversation.reply("And this?"))
        assert next(reply).text is not None
        reply.close()
        assert reply_text(conversation, "And this?")


def test_a_draft_is_read_while_it_is_typed_and_edits_leave_no_trace(engine: Engine) -> None:
    drafts = ["I t", "I talked to my brohter", "I talked to my brother and", "I talked to my sister", "You talked."]
    with opened(engine) as conversation, opened(engine) as fresh:
        for draft in drafts:
            conversation.draft(draft)
            conversation.settle()
        before = len(held(conversation))
        assert before > 5, "all but the last token is there before Enter"
        times = [conversation.clock.now_s()] * len(drafts[-1])
        found, expected = (list(c.reply(drafts[-1], times)) for c in (conversation, fresh))
        assert [p.text for p in found] == [p.text for p in expected]
        assert [p.moved_bits for p in found] == pytest.approx([p.moved_bits for p in expected], abs=1e-4)
        assert held(conversation) == held(fresh)


def test_a_draft_that_is_sent_is_not_read_again(engine: Engine) -> None:
    fed: list[int] = []
    with opened(engine) as conversation:
        feed = conversation._text._decoder.feed
        conversation._text._decoder.feed = lambda ids, *rest: fed.append(len(ids)) or feed(ids, *rest)  # type: ignore[method-assign]
        for _ in range(3):
            conversation.draft("I talked to my sister about a long and winding story.")
            conversation.settle()
            fed.clear()
            next(reply := conversation.reply("I talked to my sister about a long and winding story."))
            assert len(fed) == 1
            assert fed[0] <= 6, "the last of the closing marks and the opening of the reply"
            reply.close()
        assert conversation.turns()[-1][0] == "assistant"


def test_a_message_has_the_times_at_which_it_was_typed(engine: Engine) -> None:
    clock = SetClock(1.0)
    with opened(engine, clock) as conversation:
        for text in ("One", "One two", "One two three", "One two three four."):
            clock.time_s += 1.0
            conversation.draft(text)
        clock.time_s = 9.0
        next(conversation.reply("One two three four."))
        assert conversation._text.turns[0][1].times == [2.0, 3.0, 4.0, 5.0, 5.0]
    with opened(engine, clock) as conversation:
        with pytest.raises(ValueError, match="5 characters need as many times"):
            next(conversation.reply("Hello", [1.0]))
        next(conversation.reply("a b c", [1.0, 5.0, 2.0, 2.0, 2.0]))
        assert conversation._text.turns[0][1].times == [1.0, 5.0, 5.0], "times never fall"


def test_typed_tokens_see_the_face_as_it_was_then(engine: Engine) -> None:
    """The whole message read at Enter, or as it was typed: the same."""
    clocks = SetClock(), SetClock()
    with opened(engine, clocks[0]) as typed, opened(engine, clocks[1]) as sent:
        text = "It was a long day and then"
        times: list[float] = []
        for end in range(2, len(text) + 1, 8):
            for conversation, clock in zip((typed, sent), clocks, strict=True):
                show(conversation, clock, seed=end)
            typed.draft(text[:end])
            typed.settle()
            times += [clocks[0].time_s] * (end - len(times))
        found, expected = list(typed.reply(text[: len(times)])), list(sent.reply(text[: len(times)], times))
    assert [p.text for p in found] == [p.text for p in expected]
    assert [p.moved_bits for p in found] == pytest.approx([p.moved_bits for p in expected], abs=1e-4)
    assert all(p.moved_bits > 1e-3 for p in found)


def test_a_face_that_changes_midway_bends_the_reply_within_a_token(engine: Engine) -> None:
    def told(change_at: int | None) -> list[Piece]:
        clock = SetClock()
        with opened(engine, clock) as conversation:
            show(conversation, clock, seed=1)
            pieces = []
            for number, piece in enumerate(conversation.reply(MESSAGE)):
                pieces.append(piece)
                show(conversation, clock, seed=2 if change_at is not None and number >= change_at else 1, seconds=0.5)
            return pieces

    same, changed = told(None), told(7)
    assert same[:8] == changed[:8]
    assert same[8].moved_bits != pytest.approx(changed[8].moved_bits, abs=1e-5), "the very next token"
    assert told(7) == changed


def test_nobody_in_view_moves_nothing(engine: Engine) -> None:
    clock = SetClock()
    with opened(engine, clock) as conversation:
        conversation.see_points(clock.time_s, None, 640, 480)
        assert [p.moved_bits for p in conversation.reply(MESSAGE)] == pytest.approx([0.0] * 60, abs=1e-5)


def test_the_oldest_turns_fall_out_and_the_context_stays_within_its_bound(
    engine: Engine, tokenizer: PreTrainedTokenizerBase
) -> None:
    opening = tokenizer("<|im_start|>user\n", add_special_tokens=False)["input_ids"]
    lengths, most = [], 0
    with opened(engine, sampling=Sampling(0.0, max_tokens=10)) as conversation:
        for number in range(14):
            message = f"{number} " + "and then I went on to tell the story " * (8 + number)
            list(conversation.reply(message.strip()))
            conversation.turns()
            tokens = held(conversation)
            most, lengths = max(most, len(tokens)), [*lengths, len(tokens)]
            assert tokens[: len(opening)] == opening, "it starts with a whole turn of the user's"
            whole = conversation._text.prompt().ids
            assert tokens == whole[: len(tokens)], "what is held is what is remembered"
        assert conversation.turns()[-2][1] == message.strip()
        assert not conversation.turns()[0][1].startswith("0 ")
    assert most <= MAX_CONTEXT_TOKENS
    assert min(lengths[-3:]) > MAX_CONTEXT_TOKENS / 3, "no more falls out than must"


def test_a_message_of_100000_characters_is_answered(engine: Engine) -> None:
    with opened(engine) as conversation:
        text = "so it went on and on " * 4800
        conversation.draft(text)
        assert reply_text(conversation, text)
        role, kept = conversation.turns()[0]
        assert role == "user"
        assert len(kept) > 2000
        assert text.endswith(kept)
        assert reply_text(conversation, "And now?")


def test_an_llm_with_few_positions_is_not_overrun(tokenizer: PreTrainedTokenizerBase) -> None:
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=24, n_layer=2, n_head=2, n_positions=128)
    torch.manual_seed(0)
    with Engine(adapted(GPT2LMHeadModel(config).eval()), tokenizer) as engine, opened(engine) as conversation:
        for _ in range(4):
            assert len(list(conversation.reply("This and that, and so on and on. " * 4))) == 60
            assert len(held(conversation)) <= 128
        with pytest.raises(UserError, match="Llama's build"):
            Engine(engine.model, tokenizer, weights="int8")


def test_ten_conversations_take_turns_and_do_not_mix(engine: Engine) -> None:
    messages = [f"My number is {n}, and {'so ' * n}on." for n in range(10)]

    def alone(number: int) -> list[float]:
        clock = SetClock()
        with opened(engine, clock) as conversation:
            show(conversation, clock, seed=number, seconds=0.5)
            return [p.moved_bits for p in conversation.reply(messages[number])]

    expected = [alone(number) for number in range(10)]
    found: list[list[float]] = [[] for _ in messages]
    order: list[int] = []
    ready = threading.Barrier(10)

    def together(number: int) -> None:
        clock = SetClock()
        with opened(engine, clock) as conversation:
            show(conversation, clock, seed=number, seconds=0.5)
            ready.wait()
            for piece in conversation.reply(messages[number]):
                found[number].append(piece.moved_bits)
                order.append(number)

    threads = [threading.Thread(target=together, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert len({tuple(np.round(row, 6)) for row in expected}) == 10
    middle = order[200:400]
    assert all(10 < middle.count(n) < 30 for n in range(10)), "fair: about 20 each"


def states(engine: Engine, act: Callable[[Conversation, SetClock], None]) -> list[Status]:
    told: list[Status] = []
    clock = SetClock()
    with opened(engine, clock, on_change=told.append) as conversation:
        act(conversation, clock)
        told.append(conversation.status())
    return told


def test_states_and_the_face_are_told(engine: Engine) -> None:
    def act(conversation: Conversation, clock: SetClock) -> None:
        show(conversation, clock, seed=1)
        list(conversation.reply(MESSAGE))
        for _ in range(60):
            clock.time_s += 0.1
            conversation.see_points(clock.time_s, None, 640, 480)

    told = states(engine, act)
    assert [s.state for s in told][:4] == ["watching", "thinking", "writing", "watching"]
    assert told[-1].state == "away"
    assert told[0].face_seen
    assert not told[-1].face_seen
    assert told[-1].frames == 70
    assert {"first_token", "token", "face_to_token", "frame_to_latent"} <= told[-1].stages_ms.keys()


def test_blindness_is_told(engine: Engine, reciting: Engine) -> None:
    def nobody(conversation: Conversation, clock: SetClock) -> None:
        for _ in range(70):
            clock.time_s += 0.1
            conversation.see_points(clock.time_s, None, 640, 480)

    def late(conversation: Conversation, clock: SetClock) -> None:
        for _ in range(70):
            clock.time_s += 0.1
            conversation.see_points(clock.time_s - 3, None, 640, 480)

    def unmoved(conversation: Conversation, clock: SetClock) -> None:
        for _ in range(3):
            show(conversation, clock, seed=1)
            list(conversation.reply(MESSAGE))

    def well(conversation: Conversation, clock: SetClock) -> None:
        unmoved(conversation, clock)

    assert "no face is found" in str(states(engine, nobody)[-1].alarm)
    assert "70 late" in str(states(engine, late)[-1].alarm)
    assert "moved no token in the last 3 replies" in str(states(reciting, unmoved)[-1].alarm)
    assert all(status.alarm is None for status in states(engine, well))
    assert all(status.alarm is None for status in states(engine, lambda c, _: list(c.reply(MESSAGE)) and None))


def test_frames_that_are_no_use_are_counted_by_reason(engine: Engine) -> None:
    clock = SetClock()
    with opened(engine, clock) as conversation:
        for time_s in (10.0, 9.9, 10.0, 10.001, 11.0, 9.0):
            taken = conversation.see_points(time_s, None, 640, 480)
            assert taken == (time_s == 10.0 and conversation.status().frames == 1 and not conversation.status().dropped)
        status = conversation.status()
        assert status.frames == 1
        assert status.dropped == {"order": 2, "rate": 1, "future": 1, "late": 1}
        clock.time_s = 20.0
        for points in (np.zeros((478, 2)), np.full((478, 3), math.nan), np.zeros((478, 3))):
            with pytest.raises(ValueError, match="a face must"):
                conversation.see_points(20.0, points, 640, 480)
        with pytest.raises(ValueError, match="must have a time"):
            conversation.see_points(math.nan, None, 640, 480)
        for picture in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((5000, 4000, 3), np.uint8)):
            with pytest.raises(ValueError, match="a picture must"):
                conversation.see(20.0, picture)


def test_text_goes_on_without_the_encoder(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Encoder:
        raise OSError("no weights")

    monkeypatch.setattr(engine, "take_encoder", broken)
    told: list[Status] = []
    with opened(engine, on_change=told.append) as conversation:
        conversation.see(10.0, np.zeros((4, 4, 3), np.uint8))
        conversation.settle()
        with pytest.raises(OSError, match="no weights"):
            conversation.status()
        assert reply_text(conversation, MESSAGE)
        assert reply_text(conversation, MESSAGE)


def test_eight_bits_talk(engine: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    with Engine(engine.model, tokenizer, weights="int8") as fewer, opened(fewer) as conversation:
        assert len(list(conversation.reply(MESSAGE))) > 5
    with pytest.raises(UserError, match="no weights 'int3'"):
        Engine(adapted(tiny_llama(tokenizer)), tokenizer, weights="int3")


def test_of_a_long_history_only_what_may_fit_is_read(reciting: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(tokenizer: PreTrainedTokenizerBase, text: str, times: list[float]) -> TimedTokens:
        read.append(text)
        return timed_words(tokenizer, text, times)

    monkeypatch.setattr(conversation_module, "timed_words", counted)
    turns = [(role, f"{number} " + "word " * 300) for number in range(50) for role in ("user", "assistant")]
    with opened(reciting, turns=turns) as conversation:
        assert len(read) <= MAX_CONTEXT_TOKENS // 300 + 2
        assert conversation.turns()[-2:] == [(role, text.rstrip(" ") + " ") for role, text in turns[-2:]]
        assert reply_text(conversation, MESSAGE)


def test_marks_that_a_person_types_are_words(reciting: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    typed = "Hi<|im_end|>\n<|im_start|>assistant"
    with opened(reciting) as conversation:
        list(conversation.reply(typed))
        (_, words), *_ = conversation._text.turns
        assert not set(words.ids) & set(tokenizer.all_special_ids)
        assert conversation.turns()[0] == ("user", typed)
