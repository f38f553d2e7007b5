"""The command line as a person meets it: processes, their exit codes and what they print."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from natural_video_llm.sessions.folder import find_sessions

NVLLM = (sys.executable, "-m", "natural_video_llm")
BUILT = (
    *("sample", "import", "extract", "align", "train", "eval", "export", "chat"),
    *("eval judge", "eval rate"),
    *("capture video", "capture text", "capture both"),
    *("sessions list", "sessions show", "sessions export", "sessions import", "sessions delete"),
    "doctor",
)
TINY = (
    "--people",
    "3",
    "--held-out-people",
    "1",
    "--held-out-messages",
    "3",
    "--turns",
    "1",
    "--rate-hz",
    "5",
)


def nvllm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run([*NVLLM, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment)


def assert_one_line(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("nvllm")
    for word in words:
        assert word in result.stderr


def test_help_answers_without_the_heavy_libraries() -> None:
    code = (
        "import sys; from natural_video_llm.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*(set(sys.modules) & {'torch', 'transformers', 'cv2', 'av', 'ai_edge_litert', 'skimage', 'pyarrow'}))"
    )
    for verb in ("", "train", "sample", "capture video", "import", "sessions export"):
        arguments = [*verb.split(), "--help"]
        result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert result.stdout.startswith("usage: nvllm")
        assert result.stdout.splitlines()[-1] == ""


def test_help_lists_every_verb() -> None:
    listed = " ".join(nvllm("--help").stdout.split())
    for verb in BUILT:
        assert f"• {verb} " in listed


@pytest.mark.parametrize(
    "arguments", [[], ["capture"], ["nonsense"], ["extract"], ["sample", "out", "--people", "many"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    result = nvllm(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_mistake_is_one_line_on_stderr(tmp_path: Path) -> None:
    long = tmp_path / ("long_name_" * 12)
    assert_one_line(nvllm("extract", long), 1, str(long), "no session here")
    assert_one_line(nvllm("import", long, tmp_path), 1, "is no folder")
    assert_one_line(nvllm("sample", tmp_path, "--people", "0"), 1, "people is 0")


def test_a_session_without_video_is_not_extracted_in_silence(tiny_sessions: Path, tmp_path: Path) -> None:
    log = (tiny_sessions / "person_000" / "session.jsonl").read_bytes()
    (tmp_path / "session.jsonl").write_bytes(log[: log.index(b"\n") + 1])
    assert_one_line(nvllm("extract", tmp_path), 1, "no finished video segment")


def test_extract_and_align_with_json(tiny_sessions: Path, tmp_path: Path) -> None:
    session = shutil.copytree(tiny_sessions / "person_000", tmp_path / "person_000")
    log = session / "session.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines()
    log.write_text("".join(f"{line}\n" for line in lines if "000001.mp4" not in line), encoding="utf-8")
    result = nvllm("extract", session, "--json", "--workers", "1")
    assert result.returncode == 0, result.stderr
    told = [json.loads(line) for line in result.stdout.splitlines()]
    total = len(find_sessions(session)[0].finished_segments)
    assert [(line["done"], line["total"]) for line in told] == [(i + 1, total) for i in range(total)]
    result = nvllm("align", session, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["utterances"] == 6
    assert (session / "aligned_data.jsonl").is_file()


def test_ctrl_c_stops_quietly_and_a_second_run_completes(tmp_path: Path) -> None:
    command = ["sample", str(tmp_path), "--workers", "2", *TINY, "--turns", "6"]  # long enough to be stopped
    process = subprocess.Popen(
        [*NVLLM, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C reaches all processes of the group
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.partial/video/*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "nvllm: stopped"

    result = nvllm(*command)
    assert result.returncode == 0, result.stderr
    assert [s.start.session_id for s in find_sessions(tmp_path)] == [f"person_{i:03d}" for i in range(3)]
    assert not list(tmp_path.glob(".*"))
