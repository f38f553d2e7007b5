"""Conversations as tokens: each turn's own tokens between the marks of the tokenizer's chat template."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

_ONE, _TWO, _THREE, _FOUR = "nvllm-one", "nvllm-two", "nvllm-three", "nvllm-four"


@dataclass(frozen=True)
class TimedTokens:
    """Token ids, and for each the time in seconds at which it appeared."""

    ids: list[int]
    times: list[float]


@dataclass(frozen=True)
class Marks:
    """What stands before and after the words of a turn."""

    before: list[int]
    after: list[int]


class ChatFormat:
    """Puts turns together in the same way for training, evaluation and conversation.

    The marks are cut out of the template's own rendering, without its default system message: a conversation is its
    turns alone. A tokenizer without a template, or with one that no marks can be cut out of, gets plain `user:` and
    `assistant:` lines, and `notice` says so in a line for whoever trains or talks; it is None otherwise.

    A turn's end is the first special token after its words: `end_ids` holds it by role, `end_length` how many tokens
    after the words it takes to get there. `special_ids` are all those that decoding leaves out of a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.notice: str | None = None
        try:
            bos, self.marks = _template_marks(tokenizer)
        except _NoMarksError as error:
            bos, self.marks = _plain_marks(tokenizer)
            self.notice = f"{error}; turns are written as plain lines that begin with user: and assistant:"
        self.start_ids: list[int] = self._encode(bos) if bos else []
        added = tokenizer.added_tokens_decoder.items()
        self.special_ids = {*tokenizer.all_special_ids, *(token for token, text in added if text.special)}
        self.end_length = {
            role: next((i + 1 for i, t in enumerate(marks.after) if t in self.special_ids), min(1, len(marks.after)))
            for role, marks in self.marks.items()
        }
        self.end_ids = {
            role: {marks.after[self.end_length[role] - 1]} if marks.after else set()
            for role, marks in self.marks.items()
        }

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def opening(self, role: str, time_s: float) -> TimedTokens:
        ids = self.marks[role].before
        return TimedTokens(ids, [time_s] * len(ids))

    def closing(self, role: str, time_s: float) -> TimedTokens:
        ids = self.marks[role].after
        return TimedTokens(ids, [time_s] * len(ids))

    def turn(self, role: str, words: TimedTokens) -> TimedTokens:
        """A whole turn: its marks carry the time of its first and its last token."""
        parts = [self.opening(role, words.times[0]), words, self.closing(role, words.times[-1])]
        return TimedTokens([i for p in parts for i in p.ids], [t for p in parts for t in p.times])

    def conversation(self, turns: Sequence[tuple[str, TimedTokens]]) -> TimedTokens:
        ids, times = list(self.start_ids), [turns[0][1].times[0]] * len(self.start_ids)
        for role, words in turns:
            turn = self.turn(role, words)
            ids += turn.ids
            times += turn.times
        return TimedTokens(ids, times)


class _NoMarksError(Exception):
    pass


def _template_marks(tokenizer: PreTrainedTokenizerBase) -> tuple[str, dict[str, Marks]]:
    """What stands first, and the marks by role.

    Raises:
        _NoMarksError: there is no template, it fails, or it does not write turns one after the other as they are.
    """
    if not tokenizer.chat_template:
        raise _NoMarksError("the tokenizer has no chat template")
    try:
        return _cut_template(tokenizer)
    except TemplateError as error:
        raise _NoMarksError(f"the tokenizer's chat template fails on a plain conversation ({error})") from error
    except ValueError as error:  # a text that is not there once, or that stands in another place
        raise _NoMarksError("the tokenizer's chat template does not write turns one after the other") from error


def _cut_template(tokenizer: PreTrainedTokenizerBase) -> tuple[str, dict[str, Marks]]:
    roles = ("user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": text} for role, text in zip(roles, (_ONE, _TWO, _THREE, _FOUR), strict=True)]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    head, rest = text.split(_ONE)
    user_to_reply, rest = rest.split(_TWO)
    reply_to_user, rest = rest.split(_THREE)
    _, reply_end = rest.split(_FOUR)
    user_before = reply_to_user.removeprefix(reply_end)
    # The reply's opening is what the template adds to ask for one; what is left of the gap closes the user's turn.
    prompt = str(tokenizer.apply_chat_template(messages[:3], tokenize=False, add_generation_prompt=True))
    bare = str(tokenizer.apply_chat_template(messages[:3], tokenize=False))
    reply_before = prompt.removeprefix(bare) if prompt.startswith(bare) else ""
    # Some templates open a reply that is asked for with more than one that is there (a place to think).
    shared = next(n for n in range(len(reply_before), -1, -1) if user_to_reply.endswith(reply_before[:n]))
    user_after = user_to_reply[: len(user_to_reply) - shared]

    def ids(part: str) -> list[int]:
        return tokenizer(part, add_special_tokens=False)["input_ids"]

    bos = tokenizer.bos_token or ""
    start = bos if bos and head.startswith(bos) and not user_before.startswith(bos) else ""
    return start, {
        "user": Marks(ids(user_before), ids(user_after)),
        "assistant": Marks(ids(reply_before), ids(reply_end)),
    }


def _plain_marks(tokenizer: PreTrainedTokenizerBase) -> tuple[str, dict[str, Marks]]:
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    return tokenizer.bos_token or "", {
        role: Marks(tokenizer(f"{role}:\n", add_special_tokens=False)["input_ids"], end + newline)
        for role in ("user", "assistant")
    }
