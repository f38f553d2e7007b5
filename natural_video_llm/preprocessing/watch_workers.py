"""Processes that encode segments for a watcher and stop at its word."""

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from natural_video_llm.preprocessing.extract_video_latents import ExtractedSegment, extract_in_worker, start_worker
from natural_video_llm.preprocessing.options import Execution

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class WatchWorkers:
    """Up to `workers` processes, started as they are needed; each keeps its encoder between segments."""

    def __init__(self, encoder_name: str, execution: Execution, workers: int):
        self.workers = workers
        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _start_watch_worker, (encoder_name, execution)
        )

    def submit(self, video: Path, target: Path, frames: int) -> Future[ExtractedSegment | None]:
        """`extract_segment` in one of the processes."""
        with _signals_held():  # a new process inherits that, until it is ready for them
            return self._pool.submit(_work, video, target, frames)

    def stop(self) -> None:
        """End all work within one frame, claims given back and nothing half-written."""
        for process in set(multiprocessing.active_children()) - self._others:
            process.terminate()
        self._pool.shutdown(cancel_futures=True)


_working = False
_stopping = False


def _start_watch_worker(encoder_name: str, execution: Execution) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the watcher, which passes it on
    signal.signal(signal.SIGTERM, _stop_working)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    start_worker(encoder_name, execution)


def _stop_working(*_: object) -> None:
    global _stopping
    _stopping = True
    if _working:
        raise SystemExit


def _work(video: Path, target: Path, frames: int) -> ExtractedSegment | None:
    global _working
    _working = True
    try:
        if _stopping:
            raise SystemExit
        return extract_in_worker(video, target, frames)
    finally:
        _working = False


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that would stop the watcher wait; none is lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
