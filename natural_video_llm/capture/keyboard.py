"""Lines from a terminal, each key with the time at which it arrived (prompt_toolkit does the editing)."""

import os
import select
import sys
import threading
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.history import DummyHistory
from prompt_toolkit.input.vt100 import Vt100Input, raw_mode
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.output import create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from natural_video_llm.capture.typing_record import TypingRecord

_READ_BYTES = 4096
_SWITCH_INTERVAL_S = 0.0005
_STATUS_EVERY_S = 0.5
_CTRL_C = b"\x03"


class Keyboard:
    """The terminal's keyboard, from entering the context to leaving it.

    The terminal stays in raw mode throughout and a thread stamps what arrives, so that a key has its true time also
    while a line is written to the disk, the screen is drawn, or a reply is shown.

    Args:
        now_s: the clock, in seconds; all times are its.
        status: gives what is shown at the right of the prompt, asked twice a second.
    """

    def __init__(self, now_s: Callable[[], float], status: Callable[[], str] | None = None):
        self._now_s, self._status = now_s, status
        self._open = ExitStack()

    def __enter__(self) -> "Keyboard":
        # Other threads' Python code holds the stamping thread up for one such interval (5 ms by default).
        self._open.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._open.enter_context(raw_mode(sys.stdin.fileno()))
        self._input = self._open.enter_context(_StampedInput(self._now_s))
        output = create_output(sys.stdout)
        if isinstance(output, Vt100_Output):
            output.enable_cpr = False  # the terminal's answers would come among the keys
        self._prompt: PromptSession[str] = PromptSession(
            input=self._input,
            output=output,
            history=DummyHistory(),
            rprompt=self._right if self._status else None,
            refresh_interval=_STATUS_EVERY_S if self._status else 0,
        )
        self._prompt.app.key_processor.after_key_press += lambda _: self._take()
        self._record = TypingRecord()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read_line(self, prompt: str) -> tuple[TypingRecord, float]:
        """The next line, and when Enter ended it.

        Raises:
            EOFError: Ctrl-D on an empty line, or the terminal's end.
            KeyboardInterrupt: Ctrl-C.
        """
        self._record = TypingRecord()
        self._prompt.prompt(prompt)
        return self._record, self._input.key_s

    def stop(self) -> None:
        """Make the line that is being read, and any later one, the end; from any thread."""
        self._input.end()

    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed while no line was being read; what was typed up to it is forgotten."""
        return self._input.forget_up_to(_CTRL_C)

    def _right(self) -> str:
        return self._status() if self._status and not self._prompt.app.is_done else ""  # it must not stay behind

    def _take(self) -> None:
        buffer = self._prompt.default_buffer
        # Bytes that are no UTF-8 come as lone surrogates, which no file of text can hold.
        text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in buffer.text)
        self._record.change(self._input.key_s, text, buffer.cursor_position)


class _StampedInput(Vt100Input, AbstractContextManager["_StampedInput"]):
    """A terminal read by a thread of its own; `key_s` is when the keys that were last handed out arrived.

    Each piece that was read is handed out by itself: a byte in a pipe for every piece wakes prompt_toolkit's loop,
    which comes back as long as there is one.
    """

    def __init__(self, now_s: Callable[[], float]):
        super().__init__(sys.stdin)
        self._now_s = now_s
        self._decoder = getincrementaldecoder(sys.stdin.encoding)("surrogateescape")
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._lock = threading.Lock()
        self._ended = False
        self._wake_read, self._wake_write = os.pipe()
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="keyboard", daemon=True)
        self.key_s = now_s()

    def __enter__(self) -> "_StampedInput":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._thread.join()
        for fd in (self._wake_read, self._wake_write, self._stop_read, self._stop_write):
            os.close(fd)

    def end(self) -> None:
        os.write(self._stop_write, b"x")

    def fileno(self) -> int:
        return self._wake_read

    @property
    def closed(self) -> bool:
        return self._ended and not self._pieces

    def read_keys(self) -> list[KeyPress]:
        # Keys behind the one that ended a line belong to the next line, with their own time.
        if get_app().is_done:
            return []
        with self._lock:
            if not self._pieces:
                return []
            os.read(self._wake_read, 1)
            self.key_s, data = self._pieces.popleft()
        self.vt100_parser.feed(self._decoder.decode(data))
        keys, self._buffer = self._buffer, []
        return keys

    def forget_up_to(self, key: bytes) -> bool:
        with self._lock:
            last = max((i for i, (_, data) in enumerate(self._pieces) if key in data), default=-1)
            for _ in range(last + 1):
                os.read(self._wake_read, 1)
                self._pieces.popleft()
        return last >= 0

    def _watch(self) -> None:
        terminal = sys.stdin.fileno()
        while self._stop_read not in select.select([terminal, self._stop_read], [], [])[0]:
            arrived_s = self._now_s()
            try:
                data = os.read(terminal, _READ_BYTES)
            except OSError:  # the terminal is gone
                data = b""
            if not data:
                break
            with self._lock:
                self._pieces.append((arrived_s, data))
                os.write(self._wake_write, b"x")
        self._ended = True
        os.write(self._wake_write, b"x")
