"""`nvllm` in a real pseudo-terminal: what a person types, when, and what the screen shows."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

NVLLM = (sys.executable, "-c", "from natural_video_llm.cli import main; main()")
CTRL_C, CTRL_D, ENTER, BACKSPACE, LEFT = b"\x03", b"\x04", b"\r", b"\x7f", b"\x1b[D"
PASTE_BEGIN, PASTE_END = b"\x1b[200~", b"\x1b[201~"
_PATIENCE_S = 60.0


class Terminal:
    """A running `nvllm` with a keyboard; a context manager that leaves no process behind."""

    def __init__(self, *arguments: str | Path):
        self._master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [*NVLLM, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.screen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return  # the other end is closed
            if not data:
                return
            self.screen += data

    def press(self, keys: bytes) -> float:
        """Send keys at once; returns the monotonic time just before."""
        pressed_s = time.monotonic()
        os.write(self._master, keys)
        return pressed_s

    def type(self, text: str, gap_s: float = 0.02) -> list[float]:
        """Send character by character; returns the monotonic time of each."""
        times = []
        for character in text:
            times.append(self.press(character.encode()))
            time.sleep(gap_s)
        return times

    def line(self, text: str) -> None:
        """Type a line at once and wait until it is confirmed."""
        before = self.kept
        self.press(text.encode() + ENTER)
        self.wait_kept(before + 1)

    @property
    def kept(self) -> int:
        """Lines that were confirmed."""
        return self.screen.count(b"kept: ")

    def wait_kept(self, count: int) -> None:
        self._wait(lambda: self.kept >= count, f"{count} confirmed lines")

    def wait_for(self, words: str) -> None:
        self._wait(lambda: words.encode() in self.screen, repr(words))

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"no {what} on the screen: {self.screen[-2000:]!r}"
            assert self.process.poll() is None or condition(), f"ended without {what}: {self.screen[-2000:]!r}"
            time.sleep(0.01)

    def exit_code(self) -> int:
        code = self.process.wait(timeout=_PATIENCE_S)
        self._reader.join(timeout=_PATIENCE_S)  # the last words are on their way
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(timeout=5)
