"""One recorder a role; the lock dies with its process."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.lock import role_lock

HOLD = (
    "import sys, time; from pathlib import Path\n"
    "from natural_video_llm.sessions.lock import role_lock\n"
    "with role_lock(Path(sys.argv[1]), 'video'):\n"
    "    print('held', flush=True); time.sleep(60)"
)


def test_a_role_is_played_once_at_a_time(tmp_path: Path) -> None:
    with role_lock(tmp_path, "video"):
        with pytest.raises(UserError, match="already; stop it") as raised, role_lock(tmp_path, "video"):
            pass
        assert str(tmp_path) in str(raised.value)
        with role_lock(tmp_path, "other"):
            pass
    with role_lock(tmp_path, "video"):
        pass


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="already"), role_lock(tmp_path, "video"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with role_lock(tmp_path, "video"):
        pass


def test_a_folder_that_cannot_hold_the_lock_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"), role_lock(tmp_path / "nowhere", "video"):
        pass
