"""Consent, and a session that is begun or joined."""

import io
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from natural_video_llm.capture.consent import RECORDED, ask_consent
from natural_video_llm.capture.session_opening import open_session
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import SessionStart
from natural_video_llm.sessions.folder import Session, SessionWriter


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> Console:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return Console(file=io.StringIO(), width=60)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("text", ["yes\n", "y\n", " YES \n"])
def test_a_plain_yes_is_kept_with_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    console = answer(monkeypatch, text)
    consent = ask_consent(tmp_path / "one", RECORDED, None, console)
    for part in ("video", "text", str(tmp_path / "one"), "stays on this machine", "delete"):
        assert part in shown(console)
        assert part in consent


@pytest.mark.parametrize("text", ["", "\n", "no\n", "yes please\n", "yeah\n", "ja\n"])
def test_anything_else_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(UserError, match="consent was not given"):
        open_session(tmp_path / "one", None, None, None, answer(monkeypatch, text))
    assert list(tmp_path.iterdir()) == []


def test_a_consent_file_is_kept_word_for_word_and_nobody_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yes.txt").write_text("Ann agreed on paper, 3 May.\nSigned: Ann\n", encoding="utf-8")
    console = answer(monkeypatch, "")
    writer, _ = open_session(tmp_path / "one", "ann", "ann", tmp_path / "yes.txt", console)
    writer.close()
    assert shown(console) == ""
    start = Session(tmp_path / "one").start
    assert start.consent == "Ann agreed on paper, 3 May.\nSigned: Ann"
    assert (start.session_id, start.filmed_speaker, start.person) == ("one", "ann", "ann")
    assert start.recorded == ["video", "text"]


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe\xff"])
def test_a_consent_file_must_hold_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "yes.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"yes\.txt"):
        open_session(tmp_path / "one", None, None, tmp_path / "yes.txt", answer(monkeypatch, "yes\n"))
    assert not (tmp_path / "one").exists()


def test_the_second_recorder_joins_unasked_and_shares_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, first_clock = open_session(tmp_path / "one", "ann", None, None, answer(monkeypatch, "yes\n"))
    time.sleep(0.05)
    console = answer(monkeypatch, "")
    second, second_clock = open_session(tmp_path / "one", None, None, None, console)
    assert shown(console) == ""
    assert second.start.filmed_speaker == "ann"
    assert abs(first_clock.now_s() - second_clock.now_s()) < 0.01
    assert second_clock.now_s() >= 0.05
    first.close()
    second.close()


def test_who_is_filmed_must_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_session(tmp_path / "one", "ann", "ann-1", None, answer(monkeypatch, "yes\n"))[0].close()
    for speaker, person in (("bob", None), (None, "ann-2")):
        with pytest.raises(UserError, match="new folder"):
            open_session(tmp_path / "one", speaker, person, None, answer(monkeypatch, ""))
    open_session(tmp_path / "one", "ann", "ann-1", None, answer(monkeypatch, ""))[0].close()


def test_a_consent_that_does_not_cover_it_is_not_stretched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from natural_video_llm.sessions.clock import boot_id

    own = {"monotonic_s": time.monotonic(), "boot_id": boot_id(), "filmed_speaker": "a", "consent": "text only"}
    SessionWriter(tmp_path, SessionStart(session_id="one", started_utc="2026", recorded=["text"], **own)).close()
    with pytest.raises(UserError, match="does not cover video"):
        open_session(tmp_path, None, None, None, answer(monkeypatch, "yes\n"))


def test_names_that_are_no_session_ids_are_refused_before_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = answer(monkeypatch, "yes\n")
    with pytest.raises(UserError, match="session id"):
        open_session(tmp_path / "my session", None, None, None, console)
    assert shown(console) == ""
