"""A deleted session is gone, whole, with all that was made of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_sessions import make_session

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.deletion import (
    delete_reports,
    delete_session,
    evaluations_of,
    runs_trained_on,
    session_id_of,
)
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


def test_reports_that_show_it_go(tmp_path: Path) -> None:
    for name, shown in (("a", "one two"), ("b/c", "onerous"), ("d", ""), ("e", "two one")):
        (tmp_path / name).mkdir(parents=True)
        page = f'<!DOCTYPE html><head><meta name="nvllm-sessions" content="{shown}"></head>'
        (tmp_path / name / "report.html").write_text(page)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "report.html").write_text("another program's, on one")
    assert delete_reports("one", tmp_path) == [tmp_path / "a" / "report.html", tmp_path / "e" / "report.html"]
    assert len(list(tmp_path.rglob("report.html"))) == 3


def test_evaluations_that_keep_its_words_are_named(tmp_path: Path) -> None:
    (tmp_path / "eval.json").write_text(json.dumps({"timeline": [{"session_id": "one"}]}))
    (tmp_path / "token_gains.jsonl").write_text('{"session_id": "one"}\n{"session_id": "two"}\n')
    (tmp_path / "replies.jsonl").write_text('{"session_id":"one","reply":"Oh."}\n')
    (tmp_path / "judge_raw.jsonl").write_text('{"answer": "Her smile is met."}\n')
    (tmp_path / "ratings.jsonl").write_text('{"pair": "5e88", "choice": 1}\n')
    names = ("eval.json", "judge_raw.jsonl", "replies.jsonl", "token_gains.jsonl")
    assert evaluations_of("one", tmp_path) == [tmp_path / name for name in names]
    assert evaluations_of("two", tmp_path) == [tmp_path / "token_gains.jsonl"]
    assert evaluations_of("on", tmp_path) == []
