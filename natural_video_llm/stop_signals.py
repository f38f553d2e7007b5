"""Ctrl-C, `kill` and a closed terminal as a normal end of work that would go on for ever."""

import signal
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
    """Ctrl-C and `kill` wait until the end of the block, in this thread and in processes that begin in it; none is
    lost. Not on Windows."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupt() -> None:
    raise KeyboardInterrupt
