"""Jobs spread over processes."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.workers import run_in_workers


def square(number: int) -> tuple[int, int]:
    if number < 0:
        raise UserError(f"{number} is too small")
    time.sleep(60 if number > 1000 else 0)
    return number**2, os.getpid()


def test_every_job_is_done_in_other_processes() -> None:
    results = list(run_in_workers(square, [(number,) for number in range(9)], 2))
    assert sorted(value for value, _ in results) == [number**2 for number in range(9)]
    assert os.getpid() not in {process for _, process in results}


def test_a_mistake_comes_through_and_ends_the_rest_at_once() -> None:
    before, start_s = multiprocessing.active_children(), time.monotonic()
    with pytest.raises(UserError, match="-1 is too small"):
        list(run_in_workers(square, [(2000,), (-1,), (3000,)], 2))
    assert time.monotonic() - start_s < 30
    assert multiprocessing.active_children() == before


class Interrupted(list[tuple[int]]):
    """Jobs during whose handing out Ctrl-C is pressed."""

    def __iter__(self) -> Iterator[tuple[int]]:
        for job in super().__iter__():
            yield job
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_while_the_processes_begin_ends_them_at_once() -> None:
    before, start_s = multiprocessing.active_children(), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(run_in_workers(square, Interrupted([(2000,), (3000,)]), 2))
    assert time.monotonic() - start_s < 30
    assert multiprocessing.active_children() == before


def test_it_works_outside_the_main_thread() -> None:
    found: list[tuple[int, int]] = []
    thread = threading.Thread(target=lambda: found.extend(run_in_workers(square, [(3,), (4,)], 2)))
    thread.start()
    thread.join(30)
    assert sorted(value for value, _ in found) == [9, 16]
