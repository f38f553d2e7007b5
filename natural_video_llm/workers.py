"""Jobs spread over processes."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_in_workers(
    work: Callable[..., Result],
    jobs: Sequence[tuple[Any, ...]],
    workers: int,
    prepare: Callable[..., None] | None = None,
    prepare_with: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Yield `work(*job)` of each job, as they finish; a process calls `prepare(*prepare_with)` first.

    Where a job fails, or the caller stops early, the processes are ended at once: a job must write its result
    whole or not at all. Ctrl-C reaches this process only, which ends the others without a word from them.
    """
    others = set(multiprocessing.active_children())
    # Spawned, not forked: OpenCV and the face nets keep threads that a fork would lose.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, prepare, prepare_with) as pool:
        try:
            with _ctrl_c_held_back():  # the new processes inherit it
                futures = [pool.submit(work, *job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """From this process until the end of the block, from those that begin in it for good."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # as it starts, it lets Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
