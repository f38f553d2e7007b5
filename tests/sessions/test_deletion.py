"""A deleted session is gone, whole, with all that was made of it."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from small_sessions import make_session

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.deletion import delete_session, made_of, reports_of, runs_trained_on, session_id_of
from natural_video_llm.sessions.folder import session_folders
from natural_video_llm.sessions.lock import role_lock


def test_everything_of_it_goes_and_nothing_else(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_session(tmp_path / name, latents=("face-geometry",))
    (tmp_path / "one" / "aligned_data.jsonl").write_text("{}\n")
    delete_session(tmp_path / "one")
    assert [p.name for p in tmp_path.iterdir()] == ["two"]
    assert (tmp_path / "two" / "latents" / "face-geometry" / "000000.safetensors").is_file()


def test_an_interrupted_deletion_leaves_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        make_session(tmp_path / name)

    remove = shutil.rmtree

    def stop(path: Any, ignore_errors: bool = False) -> None:
        if Path(path).exists():  # after the first file
            (Path(path) / "session.jsonl").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        delete_session(tmp_path / "one")
    monkeypatch.setattr(shutil, "rmtree", remove)
    assert [p.name for p in session_folders(tmp_path)] == ["three", "two"]
    assert (tmp_path / ".deleted-one" / "video").is_dir()
    delete_session(tmp_path / "two")
    assert [p.name for p in tmp_path.iterdir()] == ["three"]


def test_a_session_that_is_being_recorded_stays(tmp_path: Path) -> None:
    make_session(tmp_path / "one")
    with role_lock(tmp_path / "one", "video"), pytest.raises(UserError, match="recording"):
        delete_session(tmp_path / "one")
    assert (tmp_path / "one" / "session.jsonl").is_file()


def test_a_damaged_session_can_be_deleted(tmp_path: Path) -> None:
    make_session(tmp_path / "folder", session_id="inside")
    assert session_id_of(tmp_path / "folder") == "inside"
    (tmp_path / "folder" / "session.jsonl").write_text("damaged\n")
    assert session_id_of(tmp_path / "folder") == "folder"
    delete_session(tmp_path / "folder")
    with pytest.raises(UserError, match="no session here"):
        session_id_of(tmp_path / "folder")


def test_runs_that_used_it_are_found(tmp_path: Path) -> None:
    for name, record in (
        ("a", {"train": ["one", "two"], "test": ["three"]}),
        ("b/fold_0", {"train": ["two"], "test": ["one"]}),
        ("c", {"train": ["two"]}),
        ("d", ["of", "another", "program"]),
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    (tmp_path / "d" / "e").mkdir()
    (tmp_path / "d" / "e" / "run.json").write_text("{")
    assert runs_trained_on("one", tmp_path) == [(tmp_path / "a", "train"), (tmp_path / "b" / "fold_0", "test")]


def write_report(folder: Path, shown: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(f'<!DOCTYPE html><head><meta name="nvllm-sessions" content="{shown}"></head>')
    return page


def test_reports_that_show_it_are_found(tmp_path: Path) -> None:
    for name, shown in (("a", "one two"), ("b/c", "onerous"), ("d", ""), ("e", "two one")):
        write_report(tmp_path / name, shown)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "report.html").write_text("another program's, on one")
    found = [tmp_path / "a" / "report.html", tmp_path / "e" / "report.html"]
    assert sorted(reports_of("one", tmp_path)) == made_of("one", tmp_path) == found


def test_evaluations_that_keep_its_words_are_found(tmp_path: Path) -> None:
    (tmp_path / "eval.json").write_text(json.dumps({"timeline": [{"session_id": "one"}]}))
    (tmp_path / "token_gains.jsonl").write_text('{"session_id": "one"}\n{"session_id": "two"}\n')
    (tmp_path / "replies.jsonl").write_text('{"session_id":"one","reply":"Oh."}\n')
    (tmp_path / "judge_raw.jsonl").write_text('{"answer": "Her smile is met."}\n')
    (tmp_path / "ratings.jsonl").write_text('{"pair": "5e88", "choice": 1}\n')
    names = ("eval.json", "judge_raw.jsonl", "replies.jsonl", "token_gains.jsonl")
    assert made_of("one", tmp_path) == [tmp_path / name for name in names]
    assert made_of("two", tmp_path) == [tmp_path / "token_gains.jsonl"]
    assert made_of("on", tmp_path) == []


def test_all_that_was_made_of_it_goes_too(tmp_path: Path) -> None:
    make_session(tmp_path / "sessions" / "one")
    run = tmp_path / "runs" / "run"
    report = write_report(run, "two one")
    kept = write_report(run.parent / "other", "two")
    (run / "replies.jsonl").write_text('{"session_id": "one"}\n')
    (run / "sessions").mkdir()
    (run / "sessions" / "one").symlink_to(tmp_path / "sessions" / "one")
    (run / "sessions" / "two").symlink_to(tmp_path / "sessions" / "two")
    assert delete_session(tmp_path / "sessions" / "one", tmp_path / "runs") == [run / "replies.jsonl", report]
    assert sorted(path.name for path in run.rglob("*")) == ["sessions", "two"]
    assert kept.is_file()


def test_many_deletions_at_once_leave_nothing(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(8)]
    for name in names:
        make_session(tmp_path / "sessions" / name)
        write_report(tmp_path / "runs" / name, name)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: delete_session(tmp_path / "sessions" / name, tmp_path / "runs"), names))
    assert not list((tmp_path / "sessions").iterdir())
    assert not list((tmp_path / "runs").rglob("report.html"))


def test_a_deletion_that_fails_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_session(tmp_path / "one")
    report, unlink = write_report(tmp_path / "runs", "one"), Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path == report:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(UserError, match=r"report\.html cannot be deleted .*try again"):
        delete_session(tmp_path / "one", tmp_path / "runs")
    monkeypatch.undo()
    assert delete_session(tmp_path / "one", tmp_path / "runs") == [report]
    assert not (tmp_path / "one").exists()
