"""Ctrl-C, `kill` and a closed terminal as a normal end of work that would go on for ever."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_stop_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Inside the block the three signals call `stop` in the main thread, in place of what they did before.

    A `stop` that only takes a note interrupts nothing in its middle; one that raises KeyboardInterrupt makes the
    others end the work as Ctrl-C does.
    """
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_signals_held() -> Iterator[None]:
    """Ctrl-C and `kill` wait until the end of the block; none is lost.

    By handlers, not by the thread's mask: of a process with several threads, another one would let them through.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    came: list[int] = []
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not None]
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for waiting in came:
            signal.raise_signal(waiting)


def interrupt() -> None:
    raise KeyboardInterrupt
