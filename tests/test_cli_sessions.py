"""`nvllm import` and `nvllm sessions …` as a person meets them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from natural_video_llm import cli
from natural_video_llm.sessions import folder, summary
from natural_video_llm.sessions.folder import Session, session_folders
from natural_video_llm.sessions.video import SegmentWriter

NVLLM = (sys.executable, "-c", "from natural_video_llm.cli import main; main()")


def nvllm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    """Exit code and what was printed, of the verb run in this process (a process each would take its seconds)."""
    monkeypatch.setattr(sys, "argv", ["nvllm", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.out + printed.err


@pytest.fixture
def sessions(tiny_sessions: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_sessions, tmp_path / "in")


def test_list_and_show(sessions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, table = nvllm(capsys, monkeypatch, "sessions", "list", sessions)
    assert code == 0
    assert "person_001" in table
    assert "no latents" in table
    minutes, seconds = divmod(round(summary.length_s(Session(sessions / "person_001"))), 60)
    assert f" {minutes}:{seconds:02d} " in table
    code, lines = nvllm(capsys, monkeypatch, "sessions", "list", sessions, "--json")
    assert [json.loads(line)["session_id"] for line in lines.splitlines()] == ["person_000", "person_001", "person_002"]
    session = Session(sessions / "person_000")
    code, shown = nvllm(capsys, monkeypatch, "sessions", "show", session.path)
    assert code == 0
    assert all(text.text in shown for text in session.texts)
    code, events = nvllm(capsys, monkeypatch, "sessions", "show", session.path, "--json")
    assert events.encode() == (session.path / "session.jsonl").read_bytes()
    code, error = nvllm(capsys, monkeypatch, "sessions", "show", sessions)
    assert (code, error.count("\n")) == (1, 1)


def test_export_and_import(
    sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = nvllm(capsys, monkeypatch, "sessions", "export", sessions, tmp_path / "out", "--video", "--latents")
    assert code == 0
    assert "3 sessions of 3 people, 18 utterances" in said
    _, said = nvllm(capsys, monkeypatch, "sessions", "export", sessions / "person_000", tmp_path / "one")
    assert "of 1 person, " in said
    assert "of 1 person, " in (tmp_path / "one" / "README.md").read_text()
    code, said = nvllm(capsys, monkeypatch, "import", tmp_path / "out", tmp_path / "back")
    assert code == 0
    assert "parquet (found by its files" in said
    for path in session_folders(sessions):
        assert Session(tmp_path / "back" / path.name).events == Session(path).events
    code, said = nvllm(capsys, monkeypatch, "sessions", "import", tmp_path / "out", tmp_path / "back", "--json")
    assert json.loads(said.splitlines()[-1])["kept"] == 3
    code, said = nvllm(capsys, monkeypatch, "sessions", "export", sessions, tmp_path / "x", "--latents", "nonsense")
    assert (code, said.count("\n")) == (1, 1)
    assert "unknown encoder" in said


def test_an_import_with_a_broken_clip_tells_both_what_was_made_and_what_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        writer = SegmentWriter(tmp_path / f"{name}.mp4", 64, 48)
        for number in range(10):
            writer.write(np.zeros((48, 64, 3), np.uint8), number / 10)
        writer.close()
    (tmp_path / "a.align").write_text("0 10000 hi\n")
    (tmp_path / "b.align").write_text("0 10000\n")
    code, said = nvllm(capsys, monkeypatch, "import", tmp_path, tmp_path / "out", "--person", "ann")
    assert code == 1
    assert "1 sessions: 1 utterances, 1 timed words\nskipped 1: broken\n" in said
    assert f"nvllm: {tmp_path / 'b.align'}: line 1 is not" in said
    code, said = nvllm(capsys, monkeypatch, "import", tmp_path, tmp_path / "out", "--person", "ann", "--json")
    assert code == 1
    assert json.loads(said.splitlines()[-2])["kept"] == 1


def test_delete_asks(sessions: Path, tmp_path: Path) -> None:
    doomed = sessions / "person_001"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"train": ["person_001"], "test": []}')
    words = tmp_path / "run" / "replies.jsonl"
    words.write_text('{"session_id": "person_001"}\n')
    command = [*NVLLM, "sessions", "delete", str(doomed), "--runs", str(tmp_path)]
    no = subprocess.run(command, input="no\n", capture_output=True, text=True, check=False)
    assert no.returncode == 1
    assert "is kept" in no.stderr
    assert doomed.is_dir()
    nothing = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert nothing.returncode == 1
    yes = subprocess.run(command, input="yes\n", capture_output=True, text=True, check=False)
    assert yes.returncode == 0, yes.stderr
    assert f"{tmp_path / 'run'} used it for training" in yes.stdout
    assert f"deleted: {words} (it held something of the session)" in yes.stdout
    assert not words.exists()
    assert [p.name for p in session_folders(sessions)] == ["person_000", "person_002"]


def test_a_mistyped_folder_of_runs_deletes_nothing(
    sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed, runs = sessions / "person_001", tmp_path / "rnus"
    code, said = nvllm(capsys, monkeypatch, "sessions", "delete", doomed, "--yes", "--runs", runs)
    assert (code, said.count("\n")) == (1, 1)
    assert f"--runs {runs} is no folder" in said
    assert doomed.is_dir()


def test_a_file_that_cannot_be_opened_is_one_line_and_a_bug_is_none(
    sessions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(error: OSError) -> Callable[..., None]:
        def fail(path: Path) -> None:
            raise error

        return fail

    monkeypatch.setattr(folder, "session_folders", raising(PermissionError(13, "Permission denied", str(sessions))))
    code, said = nvllm(capsys, monkeypatch, "sessions", "list", sessions)
    assert (code, said) == (1, f"nvllm: {sessions}: Permission denied; mend that, then run again\n")
    monkeypatch.setattr(folder, "session_folders", raising(OSError("of no file")))
    with pytest.raises(OSError, match="of no file"):
        nvllm(capsys, monkeypatch, "sessions", "list", sessions)


@pytest.mark.parametrize(
    "option", ["--seed=-1", f"--seed={2**63}", "--temperature=nan", "--temperature=-1", "--temperature=3"]
)
def test_numbers_that_a_conversation_cannot_take(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = nvllm(capsys, monkeypatch, "chat", tmp_path, option)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"nvllm: {option.partition('=')[0]} is ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("extract", "SESSIONS", "--workers", "-2"), "--workers is -2"),
        (("extract", "SESSIONS", "--workers", "0", "--watch"), "--workers is 0"),
        (("extract", "SESSIONS", "--dtype", "float8"), "unknown precision 'float8'"),
        (("extract", "SESSIONS", "--device", "nonsense"), "unknown device 'nonsense'"),
        (("align", "SESSIONS", "--window-s", "-1"), "--window-s is -1"),
        (("align", "SESSIONS", "--window-s", "0"), "--window-s is 0"),
        (("serve", "--sessions", "0"), "--sessions is 0"),
        (("serve", "--session-minutes", "-1"), "--session-minutes is -1"),
        (("serve", "--replicas", "0"), "--replicas is 0"),
        (("serve", "--recipe", "RECIPE"), "stepps is no option of nvllm train"),
        (("serve", "--recipe", "nowhere.toml"), "nowhere.toml cannot be read"),
    ],
)
def test_what_a_verb_cannot_take_is_told_before_it_begins(
    arguments: tuple[str, ...],
    words: str,
    sessions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("stepps = 7\n")
    places = {"SESSIONS": sessions, "RECIPE": recipe}
    code, said = nvllm(capsys, monkeypatch, *(places.get(argument, argument) for argument in arguments))
    (line,) = (line for line in said.splitlines() if line.startswith("nvllm: "))
    assert code == 1
    assert words in line


def test_a_pipe_that_closes_is_no_traceback(sessions: Path) -> None:
    command = [*NVLLM, "sessions", "show", str(sessions / "person_000"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
