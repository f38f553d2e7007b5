"""The keyboard logger in a real terminal: times, edits, pastes, kills, two at once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from terminal import BACKSPACE, CTRL_C, CTRL_D, ENTER, LEFT, NVLLM, PASTE_BEGIN, PASTE_END, Terminal

from natural_video_llm.capture.typing_record import TypingRecord
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.folder import Session

FAULT_REPEATS = int(os.environ.get("NVLLM_FAULT_REPEATS", "5"))

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of the Unix kind")


@pytest.fixture
def yes(tmp_path: Path) -> Path:
    file = tmp_path / "consent.txt"
    file.write_text("Ann agrees that her typing is recorded for tests.", encoding="utf-8")
    return file


def logger(folder: Path, yes: Path, *options: str) -> Terminal:
    return Terminal("capture", "text", folder, "--yes", yes, *options)


def test_keys_keep_their_times(tmp_path: Path, yes: Path) -> None:
    lines = [f"It is now the line number {i}, é." for i in range(8)]
    sent: list[list[float]] = []
    with logger(tmp_path / "s", yes, "--filmed", "ann") as terminal:
        terminal.wait_for("ann:")
        for i, line in enumerate(lines):
            sent.append(terminal.type(line))
            terminal.press(ENTER)
            if i % 2:  # every other line is typed on while the one before is put on the disk
                terminal.wait_kept(i + 1)
        terminal.type("quit")
        terminal.press(ENTER)
        assert terminal.exit_code() == 0
    session = Session(tmp_path / "s")
    assert [t.text for t in session.texts] == lines
    assert {(t.speaker, t.timing, t.how) for t in session.texts} == {("ann", "char", "typed")}
    got = np.concatenate([t.char_times or [] for t in session.texts])
    assert session.start.monotonic_s is not None
    late_ms = 1e3 * (got - (np.concatenate(sent) - session.start.monotonic_s))
    assert late_ms.min() > -0.01
    # Either process may lose the processor for a moment: a busy machine must not fail the test.
    assert np.median(late_ms) < 2
    assert np.percentile(late_ms, 90) < 10, late_ms
    for text in session.texts:
        assert text.t_start == (text.char_times or [])[0]
        assert text.t_end > (text.char_times or [])[-1]


def replayed(text: Text) -> TypingRecord:
    record = TypingRecord()
    for time_s, start, removed, inserted in text.edits or []:
        after = record.text[:start] + inserted + record.text[start + removed :]
        record.change(time_s, after, start + len(inserted))
    return record


def test_corrections_are_kept(tmp_path: Path, yes: Path) -> None:
    with logger(tmp_path / "s", yes) as terminal:
        terminal.wait_for("speaker:")
        for keys in (b"h", b"e", b"x", BACKSPACE, b"l", b"o", LEFT):
            terminal.press(keys)
            time.sleep(0.03)
        inserted_s = terminal.press(b"l")
        time.sleep(0.03)
        terminal.press(ENTER)
        terminal.wait_kept(1)
        terminal.press(CTRL_D)
        assert terminal.exit_code() == 0
    session = Session(tmp_path / "s")
    (text,) = session.texts
    assert text.text == "hello"
    assert text.edits is not None
    assert [edit[1:] for edit in text.edits] == [
        *((0, 0, "h"), (1, 0, "e"), (2, 0, "x"), (2, 1, "")),
        *((2, 0, "l"), (3, 0, "o"), (3, 0, "l")),
    ]
    assert text.char_times is not None
    assert session.start.monotonic_s is not None
    assert text.char_times[3] == pytest.approx(inserted_s - session.start.monotonic_s, abs=0.05)
    assert text.char_times[3] > text.char_times[4] > text.char_times[2]
    again = replayed(text)
    assert (again.text, again.char_times) == (text.text, text.char_times)


def test_pasted_text_is_marked(tmp_path: Path, yes: Path) -> None:
    with logger(tmp_path / "s", yes) as terminal:
        terminal.wait_for("speaker:")
        terminal.type("so ")
        terminal.press(PASTE_BEGIN + b"two\nlines" + PASTE_END + ENTER)
        terminal.wait_kept(1)
        terminal.line("a terminal without bracketed paste")
        terminal.type("typed")
        terminal.press(ENTER)
        terminal.wait_kept(3)
        terminal.press(CTRL_C)
        assert terminal.exit_code() == 0
    texts = Session(tmp_path / "s").texts
    assert [(t.text, t.how) for t in texts] == [
        ("so two\nlines", "pasted"),
        ("a terminal without bracketed paste", "pasted"),
        ("typed", "typed"),
    ]
    assert len(set(texts[0].char_times or [])) == 4  # three keys and the paste


def test_empty_lines_are_skipped_and_odd_bytes_survive(tmp_path: Path, yes: Path) -> None:
    with logger(tmp_path / "s", yes, "--dictated", "--speaker", "bob") as terminal:
        terminal.wait_for("bob:")
        terminal.press(ENTER + b"   " + ENTER)
        terminal.press(b"caf\xff \xf0\x9f\x98\x80" + ENTER)
        terminal.wait_kept(1)
        terminal.press(b"unfinished" + CTRL_C)
        assert terminal.exit_code() == 0
    (text,) = Session(tmp_path / "s").texts
    assert (text.text, text.speaker, text.how) == ("caf\ufffd \U0001f600", "bob", "dictated")


def test_the_terminal_is_as_before_after_a_plain_kill(tmp_path: Path, yes: Path) -> None:
    with logger(tmp_path / "s", yes) as terminal:
        terminal.wait_for("speaker:")
        terminal.line("kept")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.exit_code() == 0
        assert b"1 lines kept" in terminal.screen
    assert [t.text for t in Session(tmp_path / "s").texts] == ["kept"]


def test_a_pipe_gives_lines_that_are_timed_as_a_whole(tmp_path: Path, yes: Path) -> None:
    command = [*NVLLM, "capture", "text", str(tmp_path / "s"), "--yes", str(yes)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("Grüße\n\n".encode())
    process.stdin.flush()
    log = tmp_path / "s" / "session.jsonl"
    while not (log.exists() and b'"event":"text"' in log.read_bytes()):
        time.sleep(0.02)
    sent_s = time.monotonic()
    out, errors = process.communicate(b"and \xff the end", timeout=60)
    assert process.returncode == 0, errors
    assert out.count(b"kept: ") == 2
    session = Session(tmp_path / "s")
    assert [t.text for t in session.texts] == ["Grüße", "and \ufffd the end"]
    assert {(t.timing, t.how, t.char_times) for t in session.texts} == {("utterance", None, None)}
    assert session.start.monotonic_s is not None
    assert session.texts[1].t_end == pytest.approx(sent_s - session.start.monotonic_s, abs=0.1)


def test_without_a_yes_nothing_is_written(tmp_path: Path) -> None:
    with Terminal("capture", "text", tmp_path / "s") as terminal:
        terminal.wait_for("agree?")
        terminal.press(b"no\n")
        assert terminal.exit_code() == 1
        assert b"consent was not given" in terminal.screen
        assert b"Traceback" not in terminal.screen
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits another process by prlimit")
def test_a_full_disk_is_one_line_and_what_was_confirmed_stays(tmp_path: Path, yes: Path) -> None:
    import resource

    folder = tmp_path / "s"
    with logger(folder, yes) as terminal:
        terminal.wait_for("speaker:")
        terminal.line("there was room")
        # A limit on the size of files stands in for the disk's end: the write comes back short, then fails.
        limit = (folder / "session.jsonl").stat().st_size + 50
        resource.prlimit(terminal.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        terminal.press(b"there was none" + ENTER)
        assert terminal.exit_code() == 1
        assert terminal.kept == 1
        last = terminal.screen.decode().strip().splitlines()[-1]
        assert "nvllm: " in last
        assert "disk full" in last
        assert b"Traceback" not in terminal.screen
    assert [t.text for t in Session(folder).texts] == ["there was room"]
    assert (folder / "session.jsonl").read_bytes().endswith(b"\n")
    with logger(folder, yes) as terminal:
        terminal.wait_for("speaker:")
        terminal.line("room again")
    assert [t.text for t in Session(folder).texts] == ["there was room", "room again"]


def test_kills_lose_no_confirmed_line(tmp_path: Path, yes: Path) -> None:
    """`kill -9` at a random moment of fast typing, again and again into the same session."""
    folder, rng = tmp_path / "s", random.Random(1)
    confirmed = 0
    for run in range(FAULT_REPEATS):
        with logger(folder, yes) as terminal:
            terminal.wait_for("speaker:")
            killer = threading.Timer(rng.uniform(0.0, 0.4), terminal.kill)
            killer.start()
            for number in range(10_000):
                terminal.press(f"line {run} {number}".encode() + ENTER)
                time.sleep(rng.uniform(0.0, 0.01))
                if terminal.process.poll() is not None:
                    break
            killer.join()
            kept = terminal.kept
        lines = [t.text for t in Session(folder).texts if t.text.startswith(f"line {run} ")]
        assert lines == [f"line {run} {number}" for number in range(len(lines))]
        assert len(lines) >= kept
        confirmed += kept
    with logger(folder, yes) as terminal:
        terminal.wait_for("speaker:")
        terminal.line("the end")
    assert Session(folder).texts[-1].text == "the end"
    assert confirmed > 0


def test_two_loggers_at_once_never_mix_lines(tmp_path: Path, yes: Path) -> None:
    folder, count = tmp_path / "s", 15
    with logger(folder, yes, "--speaker", "ann") as ann:
        ann.wait_for("ann:")
        with logger(folder, yes, "--speaker", "bob") as bob:
            bob.wait_for("bob:")
            for i in range(count):
                for terminal in (ann, bob):  # longer than any buffer between them and the disk
                    terminal.press(PASTE_BEGIN + f"{i} ".encode() + b"long " * 400 + PASTE_END + ENTER)
            for terminal in (ann, bob):
                terminal.wait_kept(count)
                terminal.press(CTRL_D)
                assert terminal.exit_code() == 0
    session = Session(folder)
    for speaker in ("ann", "bob"):
        texts = [e.text for e in session.events if isinstance(e, Text) and e.speaker == speaker]
        assert texts == [f"{i} " + "long " * 400 for i in range(count)]
