"""Session time: one clock for all processes of a machine."""

import subprocess
import sys
import time
from datetime import UTC, datetime

from natural_video_llm.sessions.clock import SessionClock, utc_now


def test_time_starts_at_zero_and_rises() -> None:
    clock = SessionClock()
    first = clock.now_s()
    time.sleep(0.02)
    assert 0 <= first < 0.5
    assert 0.02 <= clock.now_s() - first < 0.5


def test_a_second_process_shares_the_clock() -> None:
    clock = SessionClock(time.monotonic() - 100)
    code = (
        f"from natural_video_llm.sessions.clock import SessionClock; print(SessionClock({clock.monotonic_s!r}).now_s())"
    )
    before = clock.now_s()
    theirs = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert before <= theirs <= clock.now_s()


def test_wall_clock_is_utc() -> None:
    now = datetime.fromisoformat(utc_now())
    assert now.utcoffset() is not None
    assert abs((datetime.now(UTC) - now).total_seconds()) < 5
