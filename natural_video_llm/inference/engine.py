"""The live loop, free of any user interface: text and faces in, words out."""

from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedTokenizerBase

from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.generate import generate_reply
from natural_video_llm.sessions.clock import SessionClock

MAX_CONTEXT_TOKENS = 1024


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
        self.turns: list[tuple[str, TimedTokens]] = []

    def reply(
        self, message: str, typed_s: tuple[float, float], look: Callable[[], tuple[float, Face]]
    ) -> Iterator[tuple[str, float]]:
        """Answer `message`, begun and sent at the times `typed_s`; yields (text, bits the face moved it) by token.

        Closing the iterator interrupts the reply.
        """
        ids = self._tokenizer(message, add_special_tokens=False)["input_ids"]
        if not ids:
            return
        times = torch.linspace(*typed_s, len(ids), dtype=torch.float64).tolist()
        self.turns.append(("user", TimedTokens(ids, times)))
        shown: list[int] = []
        shown_s: list[float] = []
        text = ""
        try:
            for token in generate_reply(
                self._model,
                self._prompt(),
                look,
                self._chat.end_ids["assistant"],
                temperature=self._temperature,
                generator=self._generator,
            ):
                shown.append(token.id)
                shown_s.append(token.time_s)
                whole = str(self._tokenizer.decode(shown, skip_special_tokens=True))
                # A character of several tokens decodes to U+FFFD until its last one is there.
                piece = "" if whole.endswith("\ufffd") else whole[len(text) :]
                text = whole if piece else text
                yield piece, token.moved_bits
        finally:
            if shown:
                self.turns.append(("assistant", TimedTokens(shown, shown_s)))

    def _prompt(self) -> TimedTokens:
        while True:
            prompt = self._chat.conversation(self.turns)
            if len(prompt.ids) <= MAX_CONTEXT_TOKENS or len(self.turns) <= 1:
                break
            del self.turns[0]
        opening = self._chat.opening("assistant", self._clock.now_s())
        return TimedTokens(
            (prompt.ids + opening.ids)[-MAX_CONTEXT_TOKENS:],
            (prompt.times + opening.times)[-MAX_CONTEXT_TOKENS:],
        )
