"""One conversation: a face and text in, words out, everything that it remembers in one object."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from natural_video_llm.inference.live_face import LiveFace
from natural_video_llm.inference.stages import Stages
from natural_video_llm.inference.status import State, Status, blindness, watching_state
from natural_video_llm.inference.text_memory import TextMemory, TextPieces, timed_words
from natural_video_llm.inference.typing_times import TypingTimes
from natural_video_llm.models.chat_format import TimedTokens
from natural_video_llm.models.generate import ReplyToken, choose_token
from natural_video_llm.preprocessing.encoders.face_geometry import geometry_latent
from natural_video_llm.sessions.clock import SessionClock

if TYPE_CHECKING:
    from natural_video_llm.inference.engine import Engine

MAX_REPLY_TOKENS = 60


class BusyError(RuntimeError):
    """A reply is being written already."""


@dataclass(frozen=True)
class Sampling:
    """How a reply is written.

    Args:
        temperature: 0 takes the likeliest token.
        top_p: the likeliest tokens that together have this probability are drawn from; 1 leaves all.
        seed: of the draws; None for one that nobody knows.
        max_tokens: of a reply; at most half of the context.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    seed: int | None = 0
    max_tokens: int = MAX_REPLY_TOKENS


@dataclass(frozen=True)
class Piece:
    """One token of a reply: the text that it adds (empty within a character of several tokens), when it was predicted
    on the conversation's clock, by how many bits the face moved it, and how old the newest frame was (None where none
    is kept)."""

    text: str
    time_s: float
    moved_bits: float
    face_age_s: float | None


@dataclass
class Reply:
    """A reply, as far as it was shown.

    finish: "stop" at the model's own end, "length" at the most tokens, "cancelled" where it was broken off.
    """

    input_tokens: int = 0
    text: str = ""
    pieces: list[Piece] = field(default_factory=list)
    finish: Literal["stop", "length", "cancelled"] = "cancelled"
    first_token_s: float | None = None
    token_s: list[float] = field(default_factory=list)

    def stages_ms(self) -> dict[str, float]:
        """Of this reply: first_token, and the medians of token (with the wait for one's turn) and face_age."""
        ages_s = [piece.face_age_s for piece in self.pieces if piece.face_age_s is not None]
        found = {
            "first_token": self.first_token_s,
            "token": median(self.token_s) if self.token_s else None,
            "face_age": median(ages_s) if ages_s else None,
        }
        return {stage: round(1000 * seconds, 2) for stage, seconds in found.items() if seconds is not None}

    @property
    def moved_bits(self) -> float:
        """The mean over its tokens; 0 where there are none."""
        return fmean(piece.moved_bits for piece in self.pieces) if self.pieces else 0.0


class Conversation:
    """What one person shows and writes, and what is answered. Made by `Engine.open`.

    Methods may be called from any thread. The history holds what was shown and nothing more: a reply that is broken
    off ends where it was broken off. Memory is bounded: the face of the last minute, `engine.context_tokens` of text.
    """

    def __init__(
        self,
        engine: "Engine",
        clock: SessionClock,
        sampling: Sampling,
        on_change: Callable[[Status], None] | None,
        turns: Sequence[tuple[str, str]],
    ):
        self.clock, self.sampling, self.stages = clock, sampling, Stages()
        self.last_reply: Reply | None = None
        self._engine, self._on_change = engine, on_change
        self._face = LiveFace(engine.model, engine.take_encoder, clock, self.stages, self._looked)
        self._text = TextMemory(engine.new_decoder(), engine.chat, engine.context_tokens, self._face.ring.seen)
        self._lock = threading.Lock()
        self._typing = TypingTimes()
        self._draft: tuple[str, list[float]] | None = None
        self._reading: Future[None] | None = None
        self._state: State | None = None  # thinking or writing; None leaves it to the video
        self._interrupted = False
        self._seen_moved: deque[float] = deque(maxlen=8)
        self._told: Status | None = None
        self._generator = torch.Generator(engine.model.absence.device)
        self._seed(sampling.seed)
        if turns:
            self.recall(turns)

    def recall(self, turns: Sequence[tuple[str, str]]) -> None:
        """Take (role, text) of what was said elsewhere as said just now; any role but assistant counts as user.

        Raises:
            BusyError: a reply is being written.
        """
        with self._lock:
            if self._state is not None:
                raise BusyError("a reply is being written; interrupt it first")
        self._run(lambda: self._recall(turns))

    def see(self, time_s: float, rgb: np.ndarray) -> bool:
        """Take a picture rgb [H, W, 3] uint8, captured at `time_s` on the conversation's clock.

        Returns at once; False where it was dropped (see `View`). The newest wins.

        Raises:
            ValueError: it is no picture, or too large.
            Exception: what ended the encoding, if anything did.
        """
        return self._face.see(time_s, rgb)

    def see_points(self, time_s: float, points: np.ndarray | None, width_px: int, height_px: int) -> bool:
        """Take a face that somebody else has found: points [478, 3] as in `geometry_latent`, captured at `time_s`;
        None where nobody is in view. Otherwise as `see`.

        Raises:
            ValueError: they are no face, or the run does not read face geometry.
        """
        if not self._engine.takes_geometry:
            raise ValueError("this run reads no face geometry; send pictures")
        latent = None if points is None else geometry_latent(points, width_px, height_px)
        return self._face.see_latent(time_s, latent)

    def settle(self) -> None:
        """Wait until every picture that was taken is encoded and every draft read."""
        self._face.settle()
        while (reading := self._reading) is not None:
            reading.result()

    def draft(self, text: str, char_times: Sequence[float] | None = None) -> None:
        """What stands in the input field now; it is read into the model while the person types. Returns at once.

        Args:
            char_times: when each character was typed; by default those that are new are of now.
        """
        with self._lock:
            times = self._typing.change(text, self.clock.now_s(), char_times)
            self._draft = (text, times)
            self._read_on()

    def reply(
        self, message: str, char_times: Sequence[float] | None = None, sampling: Sampling | None = None
    ) -> Generator[Piece]:
        """Answer `message`, token by token, each looking at the newest face; closing the generator interrupts.

        Each `next` takes about a token's time, more where other conversations are being answered. An empty message
        gives nothing. `last_reply` holds the reply so far.

        Args:
            char_times: when each character was typed, on the conversation's clock; those of the drafts by default, now
                for what was in none.
            sampling: of this reply alone, which begins with its seed; else the conversation's draws go on.

        Raises:
            BusyError: a reply is being written; `interrupt` it first.
            ValueError: `char_times` are not one for each character.
        """
        if char_times is not None and len(char_times) != len(message):
            raise ValueError(f"{len(message)} characters need as many times, not {len(char_times)}")
        with self._lock:
            if self._state is not None:
                raise BusyError("a reply is being written; interrupt it first")
            self._state, self._interrupted, self._draft = "thinking", False, None
            times = self._typing.change(message, self.clock.now_s(), char_times)
            self._typing = TypingTimes()
        try:
            self._tell()
            if sampling is not None:
                self._seed(sampling.seed)
            yield from self._write(message, times, self._bounded(sampling or self.sampling))
        finally:
            with self._lock:
                self._state = None
            self._tell()

    def interrupt(self) -> None:
        """End the reply that is being written before its next token; from any thread."""
        self._interrupted = True

    def turns(self) -> list[tuple[str, str]]:
        """(role, text) of the turns that are remembered; the roles are user and assistant."""
        decode = self._engine.tokenizer.decode
        return self._run(lambda: [(role, str(decode(words.ids))) for role, words in self._text.turns])

    def status(self) -> Status:
        """Raises the error that ended the encoding of pictures, if one did."""
        view = self._face.view()
        return Status(
            self._state or watching_state(view),
            view.face_seen,
            blindness(view, self._seen_moved),
            view.frames,
            view.dropped,
            self.stages.medians_ms(),
        )

    def close(self) -> None:
        """Stop watching and writing; the memory is freed with the object."""
        self.interrupt()
        with self._lock:
            self._draft = None
        encoder = self._face.close()
        if encoder is not None:
            self._engine.give_back(encoder)

    # What follows runs in the thread that computes, where it is passed to `_run` or `submit`.

    def _run(self, job: Callable[[], Any]) -> Any:
        return self._engine.submit(job).result()

    def _write(self, message: str, times: list[float], sampling: Sampling) -> Generator[Piece]:
        began = time.perf_counter()
        if not self._run(lambda: self._ask(message, times, sampling)):
            return
        reply = self.last_reply = Reply()
        shown: list[ReplyToken] = []
        tokens: list[ReplyToken] = []
        pieces = TextPieces(self._engine.tokenizer)
        try:
            while not self._interrupted and self._run(self._read_asked):
                pass
            while len(tokens) < sampling.max_tokens:
                if self._interrupted:
                    return
                asked = time.perf_counter()
                token, face_age_s = self._token(tokens, sampling)
                if token.id in self._engine.chat.end_ids["assistant"]:
                    reply.finish = "stop"
                    return
                if not tokens:
                    reply.first_token_s = time.perf_counter() - began
                    self.stages.add("first_token", reply.first_token_s)
                    reply.input_tokens = self._text.length
                    self._state = "writing"
                    self._tell()
                else:
                    reply.token_s.append(time.perf_counter() - asked)
                tokens.append(token)
                piece = Piece(pieces.add(token.id), token.time_s, token.moved_bits, face_age_s)
                if piece.text:
                    shown = list(tokens)
                reply.text += piece.text
                reply.pieces.append(piece)
                yield piece
            reply.finish = "length"
        finally:
            self._engine.submit(lambda: self._remember(shown, sampling))
            with suppress(Exception):  # a dead encoder ends the seeing, not the writing
                if reply.pieces and self._face.view().face_seen:
                    self._seen_moved.append(reply.moved_bits)

    def _token(self, tokens: list[ReplyToken], sampling: Sampling) -> tuple[ReplyToken, float | None]:
        asked = time.perf_counter()

        def step() -> tuple[ReplyToken, float | None]:
            began = time.perf_counter()
            now_s = self.clock.now_s()
            if tokens:
                log_probs = self._text.next(tokens[-1].id, now_s)
            else:
                log_probs = self._text.begin_reply(self._text.prompt(), self._text.before_last(), now_s)
            token = choose_token(log_probs, now_s, sampling.temperature, self._generator, sampling.top_p)
            took = time.perf_counter() - began
            self.stages.add("wait", began - asked)
            if tokens:
                self.stages.add("token", took)
            face_s = self._face.ring.newest_s
            age_s = now_s - face_s if face_s > float("-inf") else None
            if age_s is not None:
                self.stages.add("face_age", age_s)
                self.stages.add("face_to_token", age_s + took)
            return token, age_s

        return self._run(step)

    def _recall(self, turns: Sequence[tuple[str, str]]) -> None:
        """The newest as far as they may fit: to read a long history keeps the other conversations waiting."""
        now_s, room = self.clock.now_s(), self._engine.context_tokens
        recalled = []
        for role, text in reversed(turns):
            words = timed_words(self._engine.tokenizer, text, [now_s] * len(text))
            if words.ids:
                recalled.append(("assistant" if role == "assistant" else "user", words))
                room -= len(words.ids)
            if room < 0:
                break
        self._text.turns += reversed(recalled)

    def _ask(self, message: str, times: list[float], sampling: Sampling) -> bool:
        """Add the message to the turns; whether there was one."""
        words = timed_words(self._engine.tokenizer, message, times)
        if words.ids:
            self._text.turns.append(("user", words))
            self._text.make_room(sampling.max_tokens)
        return bool(words.ids)

    def _read_asked(self) -> bool:
        return self._text.read_some(self._text.prompt(), self._text.before_last())

    def _remember(self, shown: list[ReplyToken], sampling: Sampling) -> None:
        # A mark that slipped in among the words was not shown, and would open a turn in the next prompt.
        words = [token for token in shown if token.id not in self._engine.chat.special_ids]
        if words:
            self._text.turns.append(("assistant", TimedTokens([t.id for t in words], [t.time_s for t in words])))
        # Room for the next message is made now, while nobody waits.
        self._text.make_room(sampling.max_tokens + self._engine.context_tokens // 8)

    def _read_on(self) -> None:
        """Read the draft; called with the lock held."""
        if self._reading is None and self._state is None:
            self._reading = self._engine.submit(self._read_draft)

    def _read_draft(self) -> None:
        with self._lock:
            draft, self._reading = self._draft, None
            if draft is None or self._state is not None:
                return
        words = timed_words(self._engine.tokenizer, *draft)
        if not words.ids:
            return
        prompt = self._text.with_draft(words)
        if not self._text.fits(prompt, self.sampling.max_tokens):
            return
        more = self._text.read_some(prompt, self._text.length_of_turns())
        with self._lock:
            if more or self._draft is not draft:
                self._read_on()

    def _looked(self, is_time_to_encode: bool) -> None:
        if is_time_to_encode:
            self._engine.submit(self._face.ring.encode)
        self._tell()

    def _bounded(self, sampling: Sampling) -> Sampling:
        return replace(sampling, max_tokens=max(1, min(sampling.max_tokens, self._engine.context_tokens // 2)))

    def _seed(self, seed: int | None) -> None:
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def _tell(self) -> None:
        if self._on_change is None:
            return
        try:
            now = self.status()
        except Exception:  # of the face's encoder: whoever asks for the status gets it, and text goes on
            return
        told, self._told = self._told, now
        if told is None or (told.state, told.face_seen, told.alarm) != (now.state, now.face_seen, now.alarm):
            self._on_change(now)
