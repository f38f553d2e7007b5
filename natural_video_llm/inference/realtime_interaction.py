"""Conversation in the terminal: text from the keyboard, the face from a camera or a file."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape

from natural_video_llm.checkpoint import load_run
from natural_video_llm.inference.engine import Conversation
from natural_video_llm.inference.live_face import LiveFace, View, camera_frames, file_frames
from natural_video_llm.preprocessing.encoders import Execution, make_encoder
from natural_video_llm.preprocessing.encoders.real_time import CAMERA_RATE_HZ, measure_real_time
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.video import read_frames

# A line from the terminal has no times of its own; a pause before the first key must not count as typing.
_TYPING_S_A_CHARACTER = 0.08

console = Console(highlight=False)
_reply_line = threading.Lock()  # held while a reply is being written, so that no other line breaks into it


def talk(
    run: Path, source: int | Path, say: Sequence[str], temperature: float, seed: int, execution: Execution
) -> None:
    """Talk until `quit`, end of input, or the last of the messages in `say`.

    A file is played to its end, also where the messages are over before. An encoder that cannot keep up is told of
    beforehand.

    Raises:
        UserError: no such run, camera or file.
    """
    model, tokenizer = load_run(run)
    encoder = make_encoder(model.config.encoder, execution, model.config.encoder_sha256)
    if warning := measure_real_time(encoder, _rate_hz(source)).warning:
        console.print(f"[yellow]{escape(warning)}[/yellow]", soft_wrap=True)
    frames = file_frames(source) if isinstance(source, Path) else camera_frames(source)
    clock = SessionClock()
    generator = torch.Generator(model.absence.device).manual_seed(seed)
    conversation = Conversation(model, tokenizer, clock, temperature, generator)
    console.print("The picture stays in this process: nothing of it is kept or sent. Type, Enter sends, quit ends.")
    with LiveFace(frames, encoder, model.memory_s, model.config.neutral_memory_s, clock) as face:
        reporter = _FaceReporter(face, clock)
        _wait(face, lambda view: view.frames > 0)  # a camera that does not open is told before the first question
        with reporter:
            for message, typed_s in _messages(say, face, clock):
                _answer(conversation, message, typed_s, face)
            if isinstance(source, Path):
                _play_out(face)
    view = face.view()
    console.print(f"[dim]{view.frames} frames seen, {view.dropped} dropped[/dim]")


def _rate_hz(source: int | Path) -> float:
    """Frames a second of a file, what is usual for a camera."""
    times_s = [time_s for time_s, _ in islice(read_frames(source), 16)] if isinstance(source, Path) else []
    gaps_s = np.diff(times_s)
    return min(120.0, max(1.0, float(1 / np.median(gaps_s)))) if gaps_s.any() else CAMERA_RATE_HZ


def _answer(conversation: Conversation, message: str, typed_s: tuple[float, float], face: LiveFace) -> None:
    moved: list[float] = []
    with _reply_line:
        console.print("[bold]reply:[/bold] ", end="")
        try:
            with closing(conversation.reply(message, typed_s, face.look)) as pieces:
                for piece, moved_bits in pieces:
                    console.print(escape(piece), end="")
                    moved.append(moved_bits)
        except KeyboardInterrupt:
            console.print(" [dim](interrupted)[/dim]", end="")
        console.print()
    mean = sum(moved) / len(moved) if moved else 0.0
    seen = "face seen" if face.view().face_seen else "no face seen"
    console.print(f"[dim]{seen}; the face moved this reply by {mean:.3f} bits a token[/dim]")


def _messages(say: Sequence[str], face: LiveFace, clock: SessionClock) -> Iterator[tuple[str, tuple[float, float]]]:
    """Each message with the times at which it was begun and sent."""
    if say:
        for message in say:
            # A scripted message comes when somebody is there to say it, or after a while all the same.
            _wait(face, lambda view: view.face_seen)
            now_s = clock.now_s()
            console.print(f"[bold]you:[/bold] {escape(message)}")
            yield message, (now_s, now_s)
        return
    while True:
        started_s = clock.now_s()
        try:
            line = input("you: " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip().lower() == "quit":
            return
        message, sent_s = line.strip(), clock.now_s()
        if message:
            yield message, (max(started_s, sent_s - _TYPING_S_A_CHARACTER * len(message)), sent_s)


def _wait(face: LiveFace, ready: Callable[[View], bool], at_most_s: float = 3.0) -> None:
    until = time.monotonic() + at_most_s
    while time.monotonic() < until:
        view = face.view()
        if ready(view) or not view.running:
            return
        time.sleep(0.05)


def _play_out(face: LiveFace) -> None:
    while face.view().running:
        time.sleep(0.1)


class _FaceReporter:
    """Says when a face comes into view and when it leaves; a blink of the tracker is not worth a line.

    What happens while a reply is being written is told after it.
    """

    def __init__(self, face: LiveFace, clock: SessionClock, settle_s: float = 0.3):
        self._face, self._clock, self._settle_s = face, clock, settle_s
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
        since_s = self._clock.now_s()
        while not self._stop.wait(0.05):
            try:
                view: View = self._face.view()
            except Exception:
                return  # whoever looks at the face next raises it where it can be shown
            if view.frames == 0 or not view.running:
                continue
            now_s = self._clock.now_s()
            if view.face_seen != last:
                since_s, last = now_s, view.face_seen
            elif last != noted and now_s - since_s >= self._settle_s:
                noted = last
                self._untold.append(f"{'face seen' if noted else 'no face seen'} (at {since_s:.1f} s)")
            if not _reply_line.locked():
                self._tell()

    def _tell(self) -> None:
        while self._untold:
            console.print(f"[dim]{self._untold.pop(0)}[/dim]")
