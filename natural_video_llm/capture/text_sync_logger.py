"""Keyboard → text events: every character with its time on the session's clock.

Runs beside a video logger in another terminal, or before it: whoever comes first begins the session.
"""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from rich.console import Console

from natural_video_llm.capture.session_opening import open_session
from natural_video_llm.capture.typing_record import Edit, TypingRecord
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.events import Text
from natural_video_llm.stop_signals import interrupt, on_stop_signals

if TYPE_CHECKING:
    from natural_video_llm.capture.keyboard import Keyboard

_HELP = "Each line is kept with the time of every key. Enter ends a line; quit, Ctrl-D or Ctrl-C stops."


class TextSource(Protocol):
    """Where lines come from."""

    def read(self, speaker: str) -> Text | None:
        """The next line as an event, None for an empty one. Raises EOFError at `quit` and at the end."""

    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed since the last line."""

    def stop(self) -> None:
        """Let the line that is being read be the end; from any thread."""


def record_text(
    folder: Path,
    console: Console,
    *,
    speaker: str | None = None,
    filmed: str | None = None,
    person: str | None = None,
    yes_file: Path | None = None,
    dictated: bool = False,
) -> int:
    """Log lines into the session `folder` until `quit`, Ctrl-D, Ctrl-C or the end of input; returns how many.

    Without a terminal each line of standard input becomes an utterance that is timed as a whole, by its arrival.

    Args:
        speaker: who types; None for who is filmed.
        filmed, person: who is filmed, where this begins the session.
        yes_file: consent that was given elsewhere.
        dictated: the text comes from speech recognition, so that its times are later than the speech.

    Raises:
        UserError: no consent, the session cannot be joined, or a line cannot be written.
    """
    prepare_stdin()
    writer, clock = open_session(folder, filmed, person, yes_file, console)
    kept = 0
    with writer, on_stop_signals(interrupt):
        try:
            with open_texts(clock, console, dictated) as texts:
                while True:
                    text = texts.read(speaker or writer.start.filmed_speaker)
                    if text is not None:
                        writer.append(text)
                        kept += 1
                        confirm(text, console)
        except (EOFError, KeyboardInterrupt):
            pass  # ways to stop; what was confirmed is on the disk
    console.print(f"{kept} lines kept in {folder}", markup=False, highlight=False, soft_wrap=True)
    return kept


def confirm(text: Text, console: Console) -> None:
    """To be called when it is written and counted: whoever reads the confirmation may pull the plug."""
    console.print(
        f"  kept: {len(text.text)} characters, {text.t_end - text.t_start:.1f} s", style="dim", highlight=False
    )


def prepare_stdin() -> None:
    """Text from a pipe is UTF-8, whatever the locale; to be called before anything is read."""
    if isinstance(sys.stdin, io.TextIOWrapper) and not sys.stdin.isatty():
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")


@contextmanager
def open_texts(
    clock: SessionClock, console: Console, dictated: bool = False, status: Callable[[], str] | None = None
) -> Iterator[TextSource]:
    """Lines from the terminal, or from a pipe where standard input is one.

    `status` gives what is shown at the right of the prompt.
    """
    if not sys.stdin.isatty():
        yield _PipedTexts(clock, dictated)
        return
    from natural_video_llm.capture.keyboard import Keyboard  # a module for Unix terminals only

    console.print(_HELP, highlight=False, soft_wrap=True)
    with Keyboard(clock.now_s, status) as keyboard:
        yield _TypedTexts(keyboard, dictated)


class _TypedTexts:
    def __init__(self, keyboard: "Keyboard", dictated: bool):
        self._keyboard, self._dictated = keyboard, dictated
        self.interrupted, self.stop = keyboard.interrupted, keyboard.stop

    def read(self, speaker: str) -> Text | None:
        record, entered_s = self._keyboard.read_line(f"{speaker}: ")
        if _is_quit(record.text):
            raise EOFError
        return typed_text(record, entered_s, speaker, self._dictated) if record.text.strip() else None


class _PipedTexts:
    """Each line with the moment of its arrival and no more."""

    def __init__(self, clock: SessionClock, dictated: bool):
        self._clock, self._dictated, self._stopped = clock, dictated, False

    def read(self, speaker: str) -> Text | None:
        line = sys.stdin.readline()
        arrived_s = _microseconds(self._clock.now_s())
        if self._stopped or not line or _is_quit(line):
            raise EOFError
        if not line.strip():
            return None
        return Text(
            speaker=speaker,
            text=line.rstrip("\r\n"),
            t_start=arrived_s,
            t_end=arrived_s,
            timing="utterance",
            how="dictated" if self._dictated else None,
        )

    def interrupted(self) -> bool:
        return False

    def stop(self) -> None:
        self._stopped = True


def _is_quit(line: str) -> bool:
    return line.strip().lower() == "quit"


def typed_text(record: TypingRecord, entered_s: float, speaker: str, dictated: bool = False) -> Text:
    """The event of a line: from its first key to Enter, times in whole microseconds."""
    edits: list[Edit] = [(_microseconds(time_s), *change) for time_s, *change in record.edits]  # type: ignore[misc]
    how: Literal["typed", "pasted", "dictated"] = "pasted" if record.pasted else "typed"
    return Text(
        speaker=speaker,
        text=record.text,
        t_start=edits[0][0],
        t_end=max(_microseconds(entered_s), edits[-1][0]),
        timing="char",
        char_times=[_microseconds(time_s) for time_s in record.char_times],
        edits=edits,
        how="dictated" if dictated else how,
    )


def _microseconds(time_s: float) -> float:
    return round(time_s, 6)
