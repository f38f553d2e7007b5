"""Claims hold between processes and end with them."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from natural_video_llm.preprocessing.claim import claim, claim_file

HOLD = """
import sys, time
from pathlib import Path
from natural_video_llm.preprocessing.claim import claim
with claim(Path(sys.argv[1])) as is_ours:
    print(is_ours, flush=True)
    time.sleep(60)
"""
COUNT = """
import sys
import threading
import time
from pathlib import Path
from natural_video_llm.preprocessing.claim import claim
target, made = Path(sys.argv[1]), 0
while made < 200:
    with claim(target) as is_ours:
        if is_ours:
            number = int(target.read_text())
            target.write_text(str(number + 1))
            made += 1
"""


def test_one_at_a_time_and_nothing_is_left(tmp_path: Path) -> None:
    target = tmp_path / "made" / "000000.safetensors"
    with claim(target) as first, claim(target) as second:
        assert (first, second) == (True, False)
        assert claim_file(target).exists()
    with claim(target) as again:
        assert again
    assert not list(target.parent.iterdir())


def test_a_stop_while_it_is_claimed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock

    def lock_and_stop(descriptor: int, how: int) -> None:
        lock(descriptor, how)
        os.kill(os.getpid(), signal.SIGTERM)

    def stop(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(fcntl, "flock", lock_and_stop)
    before = signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=time.sleep, args=(1,)).start()  # which lets the signal through
    try:
        with pytest.raises(SystemExit), claim(tmp_path / "000000.safetensors"):
            pytest.fail("it goes on")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not list(tmp_path.iterdir())


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    target = tmp_path / "000000.safetensors"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(target)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with claim(target) as ours:
        assert not ours
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(timeout=60)
    holder.stdout.close()
    assert claim_file(target).exists()
    with claim(target) as ours:
        assert ours
    assert not claim_file(target).exists()


def test_claims_never_overlap_although_their_file_comes_and_goes(tmp_path: Path) -> None:
    target = tmp_path / "number.txt"
    target.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(target)]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert target.read_text() == "600"
