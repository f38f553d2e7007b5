"""Who answers while a session is recorded: the base LLM, or a trained run that sees the face."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from natural_video_llm.checkpoint import BaseLLM, load_base_llm
from natural_video_llm.console import console
from natural_video_llm.inference.conversation import MAX_REPLY_TOKENS, Conversation, Sampling
from natural_video_llm.inference.engine import MAX_CONTEXT_TOKENS, Engine
from natural_video_llm.inference.text_memory import TextPieces
from natural_video_llm.inference.typing_times import evenly_typed
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.generate import pick_token
from natural_video_llm.preprocessing.encoders.real_time import measure_real_time
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.events import Text

BASE_LLM = "llm"


class LLMPartner:
    """The base LLM by itself: plain text, no face. The history holds what was shown and nothing more."""

    def __init__(self, base: BaseLLM, temperature: float, generator: torch.Generator):
        self._base, self._temperature, self._generator = base, temperature, generator
        self._chat = ChatFormat(base.tokenizer)
        self._turns: list[tuple[str, TimedTokens]] = []

    def on_frame(self, time_s: float, rgb: np.ndarray) -> None:
        """Frames mean nothing to a text model."""

    def note(self) -> str:
        """Nothing but the text reached the model."""
        return ""

    def reply(self, message: Text) -> Generator[str]:
        """Answer piece by piece; closing the generator interrupts."""
        ids = self._base.tokenizer(message.text, add_special_tokens=False)["input_ids"]
        if not ids:
            return
        self._turns.append(("user", _untimed(ids)))
        shown: list[int] = []
        pieces = TextPieces(self._base.tokenizer)
        try:
            for token in self._tokens():
                shown.append(token)
                yield pieces.add(token)
        finally:
            if shown:
                self._turns.append(("assistant", _untimed(shown)))

    def _prompt(self) -> list[int]:
        while len(ids := self._chat.conversation(self._turns).ids) > MAX_CONTEXT_TOKENS and len(self._turns) > 1:
            del self._turns[0]
        return (ids + self._chat.opening("assistant", 0.0).ids)[-MAX_CONTEXT_TOKENS:]

    def _tokens(self) -> Iterator[int]:
        model, cache = self._base.model, None
        ids = self._prompt()
        for _ in range(MAX_REPLY_TOKENS):
            with torch.no_grad():
                out = model(torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            token = pick_token(out.logits[0, -1].float().log_softmax(-1), self._temperature, self._generator)
            if token in self._chat.end_ids["assistant"]:
                return
            yield token
            ids = [token]


class RunPartner:
    """A trained run that sees the frames which are being recorded."""

    def __init__(self, conversation: Conversation):
        self._conversation = conversation

    def on_frame(self, time_s: float, rgb: np.ndarray) -> None:
        """Take rgb [H, W, 3] uint8, captured at `time_s` on the session's clock; returns at once."""
        with suppress(Exception):  # the recording goes on; `reply` tells what ended the encoding
            self._conversation.see(time_s, rgb)

    def reply(self, message: Text) -> Generator[str]:
        """Answer piece by piece, each with the newest face in view; closing the generator interrupts.

        Raises:
            Exception: what ended the encoding of the face, if anything did.
        """
        self._conversation.status()
        char_times = message.char_times or evenly_typed(len(message.text), message.t_start, message.t_end)
        with closing(self._conversation.reply(message.text, char_times)) as pieces:
            for piece in pieces:
                yield piece.text

    def note(self) -> str:
        """Whether a face was in view, and how much it counted in the newest reply; and whether the model is blind."""
        status, reply = self._conversation.status(), self._conversation.last_reply
        seen = "face seen" if status.face_seen else "no face seen"
        moved = f"{seen}; the face moved this reply by {reply.moved_bits if reply else 0.0:.3f} bits a token"
        return f"{moved}; {status.alarm}" if status.alarm else moved


Partner = LLMPartner | RunPartner


def load_partner(name: str, temperature: float, seed: int) -> Callable[[SessionClock], AbstractContextManager[Partner]]:
    """The base LLM for "llm", else the run in the folder `name`; to be opened with the session's clock.

    An encoder that cannot keep up with a camera is told of.

    Raises:
        UserError: there is no such run or model.
    """
    if name == BASE_LLM:
        base, generator = load_base_llm(), torch.Generator().manual_seed(seed)

        @contextmanager
        def open_llm(clock: SessionClock) -> Iterator[Partner]:
            yield LLMPartner(base, temperature, generator)

        return open_llm

    engine = Engine.load(Path(name))
    encoder = engine.take_encoder()
    if warning := measure_real_time(encoder).warning:
        console.print(warning, style="yellow", markup=False, highlight=False, soft_wrap=True)
    engine.give_back(encoder)

    @contextmanager
    def open_run(clock: SessionClock) -> Iterator[Partner]:
        with engine, closing(engine.open(clock, Sampling(temperature, seed=seed))) as conversation:
            yield RunPartner(conversation)

    return open_run


def _untimed(ids: list[int]) -> TimedTokens:
    return TimedTokens(ids, [0.0] * len(ids))
