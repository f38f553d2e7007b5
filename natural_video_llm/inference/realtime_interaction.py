"""Conversation in the terminal: text from the keyboard, the face from a camera or a file."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import Console
from rich.markup import escape

from natural_video_llm.errors import UserError
from natural_video_llm.inference.conversation import Conversation, Sampling
from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.sources import Player, camera_frames, file_frames
from natural_video_llm.inference.status import Status
from natural_video_llm.preprocessing.encoders.real_time import CAMERA_RATE_HZ, measure_real_time
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.sessions.video import read_frames

console = Console(highlight=False)
_reply_line = threading.Lock()  # held while a reply is being written, so that no other line breaks into it


def talk(
    run: Path, source: int | Path, say: Sequence[str], sampling: Sampling, execution: Execution, weights: str
) -> None:
    """Talk until `quit`, end of input, or the last of the messages in `say`.

    After those in `say`, and after those of a pipe, a file is played to its end. An encoder that cannot keep up is told
    of beforehand.

    Raises:
        UserError: no such run, camera or file.
    """
    with Engine.load(run, execution, weights) as engine:
        encoder = engine.take_encoder()
        if warning := measure_real_time(encoder, _rate_hz(source)).warning:
            console.print(f"[yellow]{escape(warning)}[/yellow]", soft_wrap=True)
        engine.give_back(encoder)
        frames = file_frames(source) if isinstance(source, Path) else camera_frames(source)
        console.print("The picture stays in this process: nothing of it is kept or sent. Type, Enter sends, quit ends.")
        with closing(engine.open(sampling=sampling)) as conversation:
            with Player(frames, conversation.clock, conversation.see) as player:
                _converse(conversation, player, say, isinstance(source, Path))
            status = conversation.status()
    console.print(f"[dim]{status.frames} frames seen, {sum(status.dropped.values())} dropped[/dim]")


def _converse(conversation: Conversation, player: Player, say: Sequence[str], play_out: bool) -> None:
    # A camera that does not open is told before the first question.
    _wait(conversation, player, lambda status: status.frames > 0)
    with _FaceReporter(conversation):
        for message in _messages(say, conversation, player):
            if message is None:
                return
            player.running()
            _answer(conversation, message)
        if play_out and player.running():
            console.print("[dim]the video is played to its end; Ctrl-C ends it now[/dim]")
        while play_out and player.running():
            time.sleep(0.1)


def _rate_hz(source: int | Path) -> float:
    """Frames a second of a file, what is usual for a camera."""
    times_s = [time_s for time_s, _ in islice(read_frames(source), 16)] if isinstance(source, Path) else []
    gaps_s = np.diff(times_s)
    return min(120.0, max(1.0, float(1 / np.median(gaps_s)))) if gaps_s.any() else CAMERA_RATE_HZ


def _answer(conversation: Conversation, message: str) -> None:
    with _reply_line:
        console.print("[bold]reply:[/bold] ", end="")
        try:
            with closing(conversation.reply(message)) as pieces:
                for piece in pieces:
                    console.print(escape(piece.text), end="")
        except FloatingPointError as error:
            raise UserError(f"{error}: its weights are damaged; train or download the run again") from error
        except KeyboardInterrupt:
            console.print(" [dim](interrupted)[/dim]", end="")
        console.print()
    status, reply = conversation.status(), conversation.last_reply
    seen = "face seen" if status.face_seen else "no face seen"
    moved_bits = reply.moved_bits if reply else 0.0
    console.print(f"[dim]{seen}; the face moved this reply by {moved_bits:.3f} bits a token[/dim]")


def _messages(say: Sequence[str], conversation: Conversation, player: Player) -> Iterator[str | None]:
    """The messages; None where a person wants to leave at once."""
    if say:
        for message in say:
            # A scripted message comes when somebody is there to say it, or after a while all the same.
            _wait(conversation, player, lambda status: status.face_seen)
            console.print(f"[bold]you:[/bold] {escape(message)}")
            yield message
        return
    at_a_terminal = sys.stdin.isatty()
    read_line = _keyboard(conversation) if at_a_terminal else input
    while True:
        try:
            message = read_line().strip()
        except EOFError:
            if at_a_terminal:
                yield None
            return
        if message.lower() == "quit":
            yield None
            return
        if message:
            yield message


def _keyboard(conversation: Conversation) -> Callable[[], str]:
    """Lines from the terminal, each read by the model while it is being typed."""
    prompt: PromptSession[str] = PromptSession()
    prompt.default_buffer.on_text_changed += lambda buffer: conversation.draft(buffer.text)

    def read_line() -> str:
        with patch_stdout(raw=True):  # what is told meanwhile stands above the line that is being typed
            return prompt.prompt("you: ")

    return read_line


def _wait(conversation: Conversation, player: Player, ready: Callable[[Status], bool], at_most_s: float = 3.0) -> None:
    until = time.monotonic() + at_most_s
    while player.running() and not ready(conversation.status()) and time.monotonic() < until:
        time.sleep(0.05)


class _FaceReporter:
    """Says when a face comes into view and when it leaves, and when the model is blind; a blink of the tracker is not
    worth a line.

    What happens while a reply is being written is told after it.
    """

    def __init__(self, conversation: Conversation, settle_s: float = 0.3):
        self._conversation, self._settle_s = conversation, settle_s
        self._untold: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="face-reporter", daemon=True)

    def __enter__(self) -> "_FaceReporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._tell()

    def _run(self) -> None:
        noted: bool | None = None
        last: bool | None = None
        alarm: str | None = None
        since_s = self._conversation.clock.now_s()
        while not self._stop.wait(0.05):
            try:
                status = self._conversation.status()
            except Exception:
                return  # whoever looks at the conversation next raises it where it can be shown
            if status.frames == 0 or status.state == "idle":
                continue
            now_s = self._conversation.clock.now_s()
            if status.face_seen != last:
                since_s, last = now_s, status.face_seen
            elif last != noted and now_s - since_s >= self._settle_s:
                noted = last
                self._untold.append(f"{'face seen' if noted else 'no face seen'} (at {since_s:.1f} s)")
            if status.alarm is not None and status.alarm != alarm:
                self._untold.append(status.alarm)
            alarm = status.alarm
            if not _reply_line.locked():
                self._tell()

    def _tell(self) -> None:
        while self._untold:
            console.print(f"[dim]{self._untold.pop(0)}[/dim]")
