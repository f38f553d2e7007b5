"""Several processes write into one session: lines never mix, and none is half there."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.clock import boot_id
from natural_video_llm.sessions.events import SessionEnd, SessionStart, Text, VideoGap
from natural_video_llm.sessions.folder import Session, SessionWriter

APPEND = (
    "import sys; from pathlib import Path\n"
    "from natural_video_llm.sessions.events import SessionEnd\n"
    "from natural_video_llm.sessions.folder import SessionWriter\n"
    "with SessionWriter.join(Path(sys.argv[1])) as writer:\n"
    "    for i in range(int(sys.argv[2])): writer.append(SessionEnd(t=i, by=sys.argv[3] * 300))"
)
APPEND_TO_A_FULL_DISK = (
    "import sys, resource; from pathlib import Path\n"
    "from natural_video_llm.errors import UserError\n"
    "from natural_video_llm.sessions.events import SessionEnd\n"
    "from natural_video_llm.sessions.folder import SessionWriter\n"
    "writer = SessionWriter.join(Path(sys.argv[1]))\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    "try:\n"
    "    for i in range(100): writer.append(SessionEnd(t=i, filler='x' * 100))\n"
    "except UserError as error: print(i, error)"
)


def begin(path: Path, **fields: Any) -> SessionWriter:
    own = {"monotonic_s": time.monotonic(), "boot_id": boot_id(), **fields}
    start = SessionStart(session_id="one", started_utc="2026-01-01", filmed_speaker="a", consent="a test", **own)
    return SessionWriter(path, start)


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_joining_goes_on_where_the_session_stopped(tmp_path: Path) -> None:
    first = begin(tmp_path)
    with SessionWriter.join(tmp_path) as second:
        assert second.start == first.start
        second.append(SessionEnd(t=1))
        first.append(SessionEnd(t=2))
        second.append(VideoGap(t=1, t_end=2, reason="a cable"))
    first.close()
    assert Session(tmp_path).events[1:] == [SessionEnd(t=1), SessionEnd(t=2), VideoGap(t=1, t_end=2, reason="a cable")]


@pytest.mark.parametrize("torn", [b'{"event":"session_end","t":', b"x" * 10_000, b'{"event":"session_end","t":9.0}'])
def test_a_torn_last_line_is_cut_off_and_reported(
    tmp_path: Path, torn: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path).close()
    with (tmp_path / "session.jsonl").open("ab") as log:
        log.write(torn)
    SessionWriter.join(tmp_path).close()
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "torn" in errors
    assert len(Session(tmp_path).events) == 1
    assert (tmp_path / "session.jsonl").read_bytes().endswith(b"}\n")


def test_another_writer_cuts_off_what_a_dead_one_left(tmp_path: Path) -> None:
    with begin(tmp_path) as writer:
        with (tmp_path / "session.jsonl").open("ab") as log:
            log.write(b'{"event":"te')
        writer.append(SessionEnd(t=1))
    assert Session(tmp_path).events[1:] == [SessionEnd(t=1)]


def test_an_only_line_without_an_end_is_left_alone(tmp_path: Path) -> None:
    begin(tmp_path).close()
    log = tmp_path / "session.jsonl"
    line = log.read_bytes().rstrip()
    log.write_bytes(line)
    with pytest.raises(UserError, match="line 1 has no end"):
        SessionWriter.join(tmp_path)
    assert log.read_bytes() == line


@pytest.mark.parametrize(
    "other", [{"boot_id": "another boot"}, {"monotonic_s": None}, {"monotonic_s": time.monotonic() + 1e6}]
)
def test_a_session_of_another_clock_is_not_joined(tmp_path: Path, other: dict[str, Any]) -> None:
    begin(tmp_path, **other).close()
    before = (tmp_path / "session.jsonl").read_bytes()
    with pytest.raises(UserError, match="new folder"):
        SessionWriter.join(tmp_path)
    assert (tmp_path / "session.jsonl").read_bytes() == before


def test_what_is_no_session_is_not_joined(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        SessionWriter.join(tmp_path)
    (tmp_path / "session.jsonl").touch()
    with pytest.raises(UserError, match="no session_start"):
        SessionWriter.join(tmp_path)
    assert not (tmp_path / "video").exists()


def test_a_log_without_a_line_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "session.jsonl").touch()
    begin(tmp_path).close()
    assert Session(tmp_path).start.session_id == "one"


def test_lines_of_processes_and_threads_never_mix(tmp_path: Path) -> None:
    count = 60
    with begin(tmp_path) as writer:
        processes = [
            subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path), str(count), name]) for name in ("a", "b")
        ]

        def append_from_a_thread(name: str) -> None:
            for i in range(count):
                writer.append(SessionEnd(t=i, by=name * 300))  # type: ignore[call-arg]

        threads = [threading.Thread(target=append_from_a_thread, args=(name,)) for name in ("c", "d")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [process.wait() for process in processes] == [0, 0]
    lines = [json.loads(line) for line in (tmp_path / "session.jsonl").read_bytes().splitlines()[1:]]
    for name in "abcd":
        assert [line["t"] for line in lines if line["by"] == name * 300] == list(range(count))
    assert len(lines) == 4 * count


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    begin(tmp_path).close()
    said = run(APPEND_TO_A_FULL_DISK, tmp_path).stdout
    failed, _, message = said.partition(" ")
    assert int(failed) > 0
    assert "disk full" in message
    assert (tmp_path / "session.jsonl").read_bytes().endswith(b"}\n")
    assert len(Session(tmp_path).events) == 1 + int(failed)
    with SessionWriter.join(tmp_path) as writer:
        writer.append(SessionEnd(t=5))
    assert Session(tmp_path).events[-1] == SessionEnd(t=5)


def test_nothing_is_left_open(tmp_path: Path) -> None:
    begin(tmp_path).close()
    SessionWriter.join(tmp_path).close()
    before = len(os.listdir("/dev/fd"))
    for _ in range(10):
        with SessionWriter.join(tmp_path) as writer:
            writer.append(SessionEnd(t=1))
        with pytest.raises(UserError, match="exists already"):
            begin(tmp_path)
    assert len(os.listdir("/dev/fd")) == before


def test_edits_and_their_kind_come_back(tmp_path: Path) -> None:
    text = Text(
        speaker="a",
        text="hi",
        t_start=1,
        t_end=2,
        timing="char",
        char_times=[1.0, 2.0],
        edits=[(1.0, 0, 0, "h"), (1.2, 1, 0, "x"), (1.4, 1, 1, ""), (2.0, 1, 0, "i")],
        how="typed",
    )
    with begin(tmp_path) as writer:
        writer.append(text)
    assert Session(tmp_path).texts == [text]
