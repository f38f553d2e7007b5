"""`nvllm eval judge` as a person meets it: what is asked before anything is sent, and why it may not be."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from judge_servers import Bad, fair, judge_server
from judged_replies import make_replies, make_run

pytest.importorskip("openai", reason="the judge extra is not installed")

# Nobody is there, by RFC 5737; nothing is sent in these tests.
ELSEWHERE = "http://192.0.2.1:9/v1#m"
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "NVLLM_JUDGE_API_KEY")


def judge(run: Path, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in KEYS}
    command = [sys.executable, "-m", "natural_video_llm", "eval", "judge", str(run), *arguments]
    return subprocess.run(command, input=said, capture_output=True, text=True, check=False, env=environment)


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = [line for line in result.stderr.splitlines() if not line.startswith("INFO: Created TensorFlow Lite")]
    assert (result.returncode, len(lines)) == (1, 1), result.stderr
    for word in words:
        assert word in result.stderr


def test_a_server_on_this_machine_is_asked_without_a_question(tmp_path: Path) -> None:
    run = make_run(tmp_path, make_replies(people=1, messages=1))
    with judge_server(fair) as server:
        done = judge(run, f"{server.url}#m", "--send", "text")
    assert done.returncode == 0, done.stderr
    assert "7 calls" in done.stdout
    assert "which is this machine: nothing leaves it" in done.stdout
    for words in ("coherence", "true over none", "read the words alone", "verdicts that changed with the order: 0%"):
        assert words in done.stdout
    result = json.loads((run / "judge.json").read_text())
    assert set(result) >= {"judge", "saw_faces", "coherence", "tone", "pairs", "ties_by_order", "length_effect"}
    assert set(result) >= {"cost_usd", "calls", "agreement_with_person"}


def test_without_a_key_or_a_price(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert_one_line(judge(run, "openai:m", "--price", "1", "2"), "no key for openai:m", "OPENAI_API_KEY")
    assert_one_line(judge(run, "anthropic:m"), "--price IN OUT")
    assert not (run / "judge.json").exists()


@pytest.mark.parametrize("said", ["", "no\n", "maybe\n"])
def test_nothing_leaves_this_machine_without_a_plain_yes(
    tiny_sessions: Path, tmp_path: Path, said: str, face_task_file: Path
) -> None:
    replies = [
        reply.model_copy(update={"session_id": "person_000", "begins_s": 3.0, "span_s": (0.5, 4.0)})
        for reply in make_replies(people=1, messages=1)
    ]
    run = make_run(tmp_path, replies)
    (run / "run.json").write_text(json.dumps({"options": {"sessions": str(tiny_sessions)}}))
    done = judge(run, ELSEWHERE, "--price", "1", "2", said=said)
    assert_one_line(done, "nothing was sent", "--send faces")
    for words in ("192.0.2.1", "1 pictures of the faces of 1 people", "about 0.0", "must have agreed"):
        assert words in done.stdout
    assert (run / "judge_raw.jsonl").read_bytes() == b""


def test_an_estimate_above_the_cap_is_refused_before_the_first_call(tmp_path: Path) -> None:
    done = judge(make_run(tmp_path), ELSEWHERE, "--price", "100", "400", "--send", "text", "--max-cost-usd", "0.5")
    assert_one_line(done, "42 calls would cost about", "cap of 0.5")


def test_a_judge_that_never_answers_is_one_line(tmp_path: Path) -> None:
    with judge_server(lambda *_: Bad(404, '{"error": {"message": "no such model"}}')) as server:
        done = judge(make_run(tmp_path), f"{server.url}#m", "--send", "text")
    assert_one_line(done, "HTTP 404", "check the model's name")
    assert not (tmp_path / "judge.json").exists()


@pytest.fixture
def transformers_server(tiny_llm: Path, tmp_path: Path) -> Iterator[str]:
    """transformers' own server with a tiny random LLM; yields its address with the model's name."""
    for library in ("fastapi", "uvicorn"):
        pytest.importorskip(library, reason="transformers' server needs fastapi and uvicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(tiny_llm)]
    with (tmp_path / "serve.log").open("w") as log:
        server = subprocess.Popen([*command, "--port", str(port), "--device", "cpu"], stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + 120
        while time.monotonic() < deadline_s:
            assert server.poll() is None, (tmp_path / "serve.log").read_text()
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://localhost:{port}/health")
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://localhost:{port}/v1#{tiny_llm}"
    finally:
        server.terminate()
        server.wait(20)


def test_a_real_server_whose_model_babbles(transformers_server: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_replies(people=1, messages=1, faces=("true", "none")))
    done = judge(run, transformers_server, "--send", "text", "--max-tokens", "8")
    assert_one_line(done, "no answer could be used (4 times nonsense)", "take another judge")
    kept = [json.loads(line) for line in (run / "judge_raw.jsonl").read_text().splitlines()]
    assert len(kept) == 8, "two ratings and one pair in both orders, each asked once more"
    assert all(entry["tokens_in"] > 100 and entry["tokens_out"] > 0 for entry in kept)
