"""Camera and keyboard in one terminal: how a single person, or two at one keyboard, make training data."""

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.console import Console

from natural_video_llm.capture.camera_source import Frames, Source, find_source
from natural_video_llm.capture.options import BothOptions
from natural_video_llm.capture.session_opening import open_session
from natural_video_llm.capture.text_sync_logger import TextSource, confirm, open_texts, prepare_stdin
from natural_video_llm.capture.webcam_video_logger import VideoLogger
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.events import MODEL_SPEAKER, SessionEnd, Text
from natural_video_llm.sessions.folder import SessionWriter
from natural_video_llm.stop_signals import interrupt, on_stop_signals

_LOOK_EVERY_S, _FIRST_FRAME_S = 0.2, 5.0


class Partner(Protocol):
    """Who answers the one who types."""

    def on_frame(self, time_s: float, rgb: np.ndarray) -> None:
        """See rgb [H, W, 3] uint8, captured at `time_s` on the session's clock; must return at once."""

    def reply(self, message: Text) -> Generator[str]:
        """The answer, piece by piece; closing the generator interrupts it."""

    def note(self) -> str:
        """What a person should know of the reply that was just given: what reached the model. May be empty."""


OpenPartner = Callable[[SessionClock], AbstractContextManager[Partner]]


def record_both(folder: Path, options: BothOptions, open_partner: OpenPartner | None, console: Console) -> int:
    """Record video and text into the session `folder` until `quit`, Ctrl-D or Ctrl-C; returns the lines kept.

    Speakers type in turn; an empty line passes the turn. With a partner every line is answered, and Ctrl-C during
    an answer ends the answer only. A file in the camera's place may end before the conversation does.

    Raises:
        UserError: no consent, no camera, a second video logger, or the disk cannot be written.
    """
    options.check()
    prepare_stdin()
    source = find_source(options.video_source, options.width, options.height, options.rate_hz)
    filmed = options.speakers[0] if options.speakers else None
    writer, clock = open_session(folder, filmed, options.person, options.yes, console)
    notices = _Notices(console)
    # The text has a writer of its own: it and the video's thread must wait for each other as two processes do.
    with writer, SessionWriter.join(folder) as texts_writer, on_stop_signals(interrupt):
        with ExitStack() as stack:
            partner = stack.enter_context(open_partner(clock)) if open_partner else None
            seen = _Tapped(source, partner.on_frame) if partner else source
            video = stack.enter_context(VideoLogger(seen, writer, clock, options.segment_s, notices.add))
            _await_first_frame(video, notices)
            texts = stack.enter_context(open_texts(clock, console, status=lambda: _status(video)))
            stack.enter_context(_stopping_with(video, texts))
            table = _Table(texts_writer, clock, console, texts, notices)
            kept = _converse(table, options.speakers or (writer.start.filmed_speaker,), partner)
        writer.append(SessionEnd(t=max(clock.now_s(), video.last_s)))
    console.print(
        f"{kept} lines kept in {folder} (next: nvllm extract {folder})", markup=False, highlight=False, soft_wrap=True
    )
    return kept


def _await_first_frame(video: VideoLogger, notices: "_Notices") -> None:
    """Words that come before the picture would have no face."""
    until = time.monotonic() + _FIRST_FRAME_S
    while not (status := video.status()).frames and status.running:
        if time.monotonic() > until:
            notices.add(f"no picture after {_FIRST_FRAME_S:.0f} s; words are kept, and the video from when it comes")
            return
        time.sleep(0.02)


class _Notices:
    """Trouble that the video's threads report, kept until no line is being typed."""

    def __init__(self, console: Console):
        self._console = console
        self._waiting: list[str] = []

    def add(self, sentence: str) -> None:
        self._waiting.append(sentence)

    def show(self) -> None:
        while self._waiting:
            self._console.print(self._waiting.pop(0), style="yellow", markup=False, highlight=False, soft_wrap=True)


class _Tapped:
    """A source whose frames somebody else sees as well."""

    def __init__(self, source: Source, on_frame: Callable[[float, np.ndarray], None]):
        self.name, self.rate_hz = source.name, source.rate_hz
        self.open, self.close = source.open, source.close
        self._source, self._on_frame = source, on_frame

    @property
    def can_wait(self) -> bool:
        return self._source.can_wait

    def frames(self, clock: SessionClock, stop: threading.Event) -> Frames:
        for time_s, rgb in self._source.frames(clock, stop):
            self._on_frame(time_s, rgb)
            yield time_s, rgb


@dataclass(frozen=True)
class _Table:
    """What a conversation needs: where it is written, the time, the screen, the keyboard."""

    writer: SessionWriter
    clock: SessionClock
    console: Console
    texts: TextSource
    notices: _Notices


def _converse(table: _Table, speakers: Sequence[str], partner: Partner | None) -> int:
    kept = turn = 0
    try:
        while True:
            table.notices.show()
            text = table.texts.read(speakers[turn % len(speakers)])
            turn += 1
            if text is None:
                continue
            table.writer.append(text)
            kept += 1
            confirm(text, table.console)
            answer = _answer(table, partner, text) if partner else None
            if answer is not None:
                table.writer.append(answer)
                kept += 1
                confirm(answer, table.console)
    except (EOFError, KeyboardInterrupt):
        return kept


def _answer(table: _Table, partner: Partner, message: Text) -> Text | None:
    """Show the reply as it comes; the event holds what was shown, None where nothing was."""
    text, times = "", list[float]()
    sys.stdout.write(f"{MODEL_SPEAKER}: ")
    sys.stdout.flush()
    with closing(partner.reply(message)) as pieces:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
            text += piece
            times += [round(table.clock.now_s(), 6)] * len(piece)
            if table.texts.interrupted():
                break
    sys.stdout.write("\n")
    if note := partner.note():
        table.console.print(f"  {note}", style="dim", markup=False, highlight=False)
    if not text.strip():
        return None
    return Text(
        speaker=MODEL_SPEAKER,
        text=text,
        t_start=times[0],
        t_end=times[-1],
        timing="char",
        char_times=times,
        how="generated",
    )


def _status(video: VideoLogger) -> str:
    try:
        status = video.status()
    except Exception:  # raised where it can be shown, when the logger is left
        return "video stopped"
    return status.line() if status.running else "video ended"


@contextmanager
def _stopping_with(video: VideoLogger, texts: TextSource) -> Iterator[None]:
    """A camera's failure ends the line that is being typed."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            try:
                video.status()
            except Exception:  # as in _status
                texts.stop()
                return

    thread = threading.Thread(target=watch, name="video-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
