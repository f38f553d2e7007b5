"""The live engine, free of any user interface: one set of weights, any number of conversations."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from natural_video_llm.checkpoint import load_run
from natural_video_llm.errors import UserError
from natural_video_llm.inference.conversation import Conversation, Sampling
from natural_video_llm.inference.status import Status
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.models.decoder import Decoder
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.lean_decoder import decoder_maker, lean_fits
from natural_video_llm.models.lean_linear import WEIGHTS
from natural_video_llm.preprocessing.encoders import Encoder, make_encoder, parse_encoder
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.sessions.clock import SessionClock

MAX_CONTEXT_TOKENS = 1024
Result = TypeVar("Result")


class Engine:
    """Weights loaded once, and the one thread in which they are used.

    Every pass through the LLM, one token of a reply or a few tokens of a prompt, is a job; jobs are done one after the
    other in the order in which they were asked for. A conversation asks for its next one when it has the last one's
    result, so that those which are writing take turns token by token.

    Use as a context manager, or call `close`.

    Args:
        model, tokenizer: as `load_run` gives them.
        execution: how a neural encoder of pictures runs.
        context_tokens: the most that a conversation's prompt and reply may have together.
        weights: of the LLM, one of `WEIGHTS`: "native" as it is, "int8" or "int4" for its linear maps in fewer bits.

    Raises:
        UserError: fewer bits are asked for where they cannot be had.
    """

    def __init__(
        self,
        model: NaturalVideoLLM,
        tokenizer: PreTrainedTokenizerBase,
        execution: Execution | None = None,
        context_tokens: int = MAX_CONTEXT_TOKENS,
        weights: str = "native",
    ):
        self.model, self.tokenizer, self.chat = model, tokenizer, ChatFormat(tokenizer)
        self.takes_geometry = parse_encoder(model.config.encoder).kind == "face-geometry"
        positions = getattr(model.llm.config.get_text_config(), "max_position_embeddings", None)
        self.context_tokens = min(context_tokens, positions or context_tokens)
        self.new_decoder = self._decoder_maker(weights)
        self._execution = execution
        self._encoders: list[Encoder] = []
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    @classmethod
    def load(cls, run: Path, execution: Execution | None = None, weights: str = "native") -> "Engine":
        """The engine of a run folder.

        Raises:
            UserError: `run` holds no adapter, its base LLM is not to be had, or not with these `weights`.
        """
        return cls(*load_run(run), execution, weights=weights)

    def open(
        self,
        clock: SessionClock | None = None,
        sampling: Sampling | None = None,
        on_change: Callable[[Status], None] | None = None,
        turns: Sequence[tuple[str, str]] = (),
    ) -> Conversation:
        """A new conversation; it must be closed.

        Args:
            clock: of all its times; one that begins now by default.
            on_change: called with the new status when something has changed it, from any of the engine's threads; it
                must return at once.
            turns: (role, text) of what was said before, the newest last; any role but assistant counts as user.
        """
        return Conversation(self, clock or SessionClock(), sampling or Sampling(), on_change, turns)

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish the job in hand and stop; conversations can do nothing more."""
        self._thread.shutdown(cancel_futures=True)

    def submit(self, job: Callable[[], Result]) -> "Future[Result]":
        """Have a job done in the thread that computes."""
        return self._thread.submit(job)

    def _decoder_maker(self, weights: str) -> Callable[[], Decoder]:
        if weights not in WEIGHTS:
            raise UserError(f"no weights {weights!r}; choose one of {', '.join(WEIGHTS)}")
        on_cpu = self.model.absence.device.type == "cpu"
        if weights != "native" and not (on_cpu and lean_fits(self.model, self.context_tokens)):
            raise UserError(f"{weights} weights need a CPU and an LLM of Llama's build; leave --weights out")
        return decoder_maker(self.model, self.context_tokens, weights)

    def take_encoder(self) -> Encoder:
        """An encoder of pictures for one conversation; its state is one person's, so it cannot be shared.

        Raises:
            UserError: its weights are not to be had.
        """
        with self._lock:
            if self._encoders:
                return self._encoders.pop()
        config = self.model.config
        return make_encoder(config.encoder, self._execution, config.encoder_sha256)

    def give_back(self, encoder: Encoder) -> None:
        """For the next conversation that needs one."""
        encoder.reset()
        with self._lock:
            self._encoders.append(encoder)
