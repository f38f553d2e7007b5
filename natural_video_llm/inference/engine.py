"""The live loop, free of any user interface: text and faces in, words out."""

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import accumulate

import torch
from transformers import PreTrainedTokenizerBase

from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.generate import ReplyToken, generate_reply
from natural_video_llm.sessions.clock import SessionClock

MAX_CONTEXT_TOKENS = 1024
MAX_REPLY_TOKENS = 60


class TextPieces:
    """Token after token as the text that each one adds."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._text = ""

    def add(self, token_id: int) -> str:
        self._ids.append(token_id)
        whole = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        # A character of several tokens decodes to U+FFFD until its last one is there.
        piece = "" if whole.endswith("\ufffd") else whole[len(self._text) :]
        self._text = whole if piece else self._text
        return piece


class Conversation:
    """Turns so far, and the next reply.

    The history holds what was shown and nothing more: a reply that is broken off ends where it was broken off.
    The oldest turns are dropped once the context is full.
    """

    def __init__(
        self,
        model: NaturalVideoLLM,
        tokenizer: PreTrainedTokenizerBase,
        clock: SessionClock,
        temperature: float,
        generator: torch.Generator,
    ):
        self._model, self._tokenizer, self._clock = model, tokenizer, clock
        self._temperature, self._generator = temperature, generator
        self._chat = ChatFormat(tokenizer)
        positions = getattr(model.llm.config.get_text_config(), "max_position_embeddings", None)
        self._limit = min(MAX_CONTEXT_TOKENS, positions - MAX_REPLY_TOKENS) if positions else MAX_CONTEXT_TOKENS
        self.turns: list[tuple[str, TimedTokens]] = []

    def reply(
        self,
        message: str,
        typed_s: tuple[float, float],
        look: Callable[[], tuple[float, Face]],
        char_times: Sequence[float] | None = None,
    ) -> Generator[tuple[str, float]]:
        """Answer `message`, begun and sent at the times `typed_s`; yields (text, bits the face moved it) by token.

        Where `char_times` says when each character was typed, a token has the time of its latest one, as in training.
        Closing the generator interrupts the reply.
        """
        words = _timed(self._tokenizer, message, typed_s, char_times)
        if not words.ids:
            return
        self.turns.append(("user", words))
        tokens: list[ReplyToken] = []
        shown, pieces = 0, TextPieces(self._tokenizer)
        try:
            for token in self._generate(look):
                tokens.append(token)
                piece = pieces.add(token.id)
                if piece:
                    shown = len(tokens)
                yield piece, token.moved_bits
        finally:
            self._remember(tokens[:shown])

    def _generate(self, look: Callable[[], tuple[float, Face]]) -> Iterator[ReplyToken]:
        def look_on_device() -> tuple[float, Face]:
            now_s, face = look()
            return now_s, face.to(self._model.absence.device)

        return generate_reply(
            self._model,
            self._prompt(),
            look_on_device,
            self._chat.end_ids["assistant"],
            max_tokens=MAX_REPLY_TOKENS,
            temperature=self._temperature,
            generator=self._generator,
        )

    def _remember(self, shown: list[ReplyToken]) -> None:
        # A mark that slipped in among the words was not shown, and would open a turn in the next prompt.
        words = [token for token in shown if token.id not in self._tokenizer.all_special_ids]
        if words:
            self.turns.append(("assistant", TimedTokens([t.id for t in words], [t.time_s for t in words])))

    def _prompt(self) -> TimedTokens:
        opening = self._chat.opening("assistant", self._clock.now_s())
        while True:
            prompt = self._chat.conversation(self.turns)
            excess = len(prompt.ids) + len(opening.ids) - self._limit
            if excess <= 0:
                return TimedTokens(prompt.ids + opening.ids, prompt.times + opening.times)
            self._forget(excess)

    def _forget(self, tokens: int) -> None:
        """Drop the oldest exchange; of a message that alone is too long, its first `tokens` tokens."""
        if len(self.turns) == 1:
            role, words = self.turns[0]
            self.turns[0] = role, TimedTokens(words.ids[tokens:], words.times[tokens:])
            return
        del self.turns[0]
        while self.turns[0][0] != "user":
            del self.turns[0]


def _timed(
    tokenizer: PreTrainedTokenizerBase,
    message: str,
    typed_s: tuple[float, float],
    char_times: Sequence[float] | None,
) -> TimedTokens:
    if char_times is None:
        ids = tokenizer(message, add_special_tokens=False)["input_ids"]
        # A token's time is that of its last character, so that the last one comes when the message is sent.
        return TimedTokens(ids, torch.linspace(*typed_s, len(ids) + 1, dtype=torch.float64)[1:].tolist())
    encoded = tokenizer(message, add_special_tokens=False, return_offsets_mapping=True)
    times = [
        max(char_times[start : max(end, start + 1)], default=typed_s[1]) for start, end in encoded["offset_mapping"]
    ]
    # A token that was corrected later makes those behind it as late: times never fall.
    return TimedTokens(list(encoded["input_ids"]), list(accumulate(times, max)))
