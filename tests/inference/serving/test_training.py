"""Training on recorded sessions through a real server, in real child processes; a model switched under way."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from live_server import LiveServer, serving, wait_until
from tiny_models import make_run

from natural_video_llm.inference.server import Service
from natural_video_llm.inference.training_jobs import TrainingJobs
from natural_video_llm.sessions.deletion import session_id_of
from natural_video_llm.sessions.folder import session_folders

RECIPE = "match_steps = 1\nsteps = 40\nsave_every = 1\nown_text_weight = 0.0\ntwin = false\nbatch_size = 2\n"
PATIENCE_S = 240.0


class Trainer:
    """A server that records and trains, and what its page asks of it."""

    def __init__(self, server: Any, record: Path):
        self.server, self.runs = server, record.parent / "runs"
        self.sessions = sorted(path.name for path in session_folders(record))

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content else {}
        request = urllib.request.Request(f"{self.server.http}/api/{path}", content, headers, method=method)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, json.loads(response.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def job(self) -> dict:
        return self.ask("GET", "training")[1]["job"]

    def wait(self, *standings: str) -> dict:
        wait_until(lambda: self.job()["standing"] in (*standings, "failed"), PATIENCE_S)
        return self.job()


@pytest.fixture(scope="module")
def trainer(run: Path, recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    folder = tmp_path_factory.mktemp("training")
    shutil.copytree(recorded, folder / "sessions")
    (folder / "recipe.toml").write_text(RECIPE)
    with serving(Service(run, record=folder / "sessions", recipe=folder / "recipe.toml")) as server:
        yield Trainer(server, folder / "sessions")


def test_a_run_is_stopped_goes_on_and_becomes_the_model_of_new_conversations(trainer: Trainer) -> None:
    status, state = trainer.ask("POST", "training", {"sessions": trainer.sessions, "hold_out": False})
    assert (status, state["job"]["standing"]) == (202, "running")
    run_id = state["job"]["run"]
    status, refusal = trainer.ask("POST", "training", {"sessions": trainer.sessions})
    assert (status, refusal["detail"].split(";")[0]) == (409, "a run is being trained already")
    while (job := trainer.job())["stage"] != "train" or not job["done"]:
        assert job["standing"] == "running", job["error"]
        time.sleep(0.2)
    assert trainer.ask("DELETE", f"runs/{run_id}")[0] == 409
    status, refusal = trainer.ask("DELETE", f"sessions/{trainer.sessions[0]}")
    assert (status, "being trained on" in refusal["detail"]) == (409, True)
    trainer.ask("DELETE", "training")
    assert trainer.wait("stopped", "done")["standing"] == "stopped"
    (listed,) = trainer.ask("GET", "runs")[1]["runs"]
    assert (listed["id"], listed["trained"], listed["can_go_on"]) == (run_id, False, True)
    # Another server, after this one was killed, would find the same.
    (found,) = TrainingJobs(trainer.runs, trainer.runs.parent / "sessions", "", "").list_runs()
    assert (found.id, found.can_go_on) == (run_id, True)
    assert trainer.ask("POST", "training", {"go_on": run_id})[0] == 202
    job = trainer.wait("done")
    assert job["standing"] == "done", job["error"]
    log = (trainer.runs / run_id / "logs/metrics/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in log if json.loads(line)["part"] == "model"]
    assert sorted(set(steps)) == steps, "no step was done twice"
    (listed,) = trainer.ask("GET", "runs")[1]["runs"]
    assert (listed["trained"], listed["can_go_on"], listed["held_out"]) == (True, False, 0)

    server, first = trainer.server, trainer.server.engine
    with server.connect() as before:
        assert trainer.ask("PUT", "model", {"run": run_id}) == (
            200,
            {"model": run_id, "run": run_id, "first_model": "tiny"},
        )
        with server.connect() as after:
            assert (before.opening["session"]["model"], after.opening["session"]["model"]) == ("tiny", run_id)
            assert before.ask("Hello", max_output_tokens=3)
            assert after.ask("Hello", max_output_tokens=3)
            with urllib.request.urlopen(f"{server.http}/v1/models") as answer:
                assert json.load(answer)["data"][0]["id"] == run_id
            assert trainer.ask("DELETE", f"runs/{run_id}")[0] == 409
            assert trainer.ask("PUT", "model", {"run": None})[1]["model"] == "tiny"
            assert after.ask("Still there?", max_output_tokens=3), "a conversation keeps its model"
    with server.connect() as later:
        assert later.opening["session"]["model"] == "tiny"
        assert later.ask("Hello", max_output_tokens=3)
    assert first.submit(lambda: 1).result() == 1
    assert trainer.ask("DELETE", f"runs/{run_id}")[0] == 204
    assert not list(trainer.runs.iterdir())


def test_a_killed_servers_training_ends_too_and_can_go_on(run: Path, recorded: Path, tmp_path: Path) -> None:
    record, recipe, log = tmp_path / "sessions", tmp_path / "recipe.toml", tmp_path / "log"
    shutil.copytree(recorded, record)
    recipe.write_text(RECIPE.replace("\nsteps = 40", "\nsteps = 4000"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "natural_video_llm", "serve", str(run), "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--record", str(record), "--recipe", str(recipe)], stdout=file, stderr=file
        )
    try:
        trainer = Trainer(SimpleNamespace(http=f"http://127.0.0.1:{port}"), record)
        wait_until(lambda: answers(f"{trainer.server.http}/readyz"), PATIENCE_S)
        assert trainer.ask("POST", "training", {"sessions": trainer.sessions, "hold_out": False})[0] == 202
        wait_until(lambda: trainer.job()["stage"] == "train" and trainer.job()["done"] > 2, PATIENCE_S)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, "it would go on training unseen, and meet the next server's"
    (found,) = TrainingJobs(trainer.runs, record, "", "").list_runs()
    assert (found.trained, found.can_go_on) == (False, True)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address):
            return True
    except OSError:
        return False


def test_what_cannot_be_trained_is_said_in_one_line(trainer: Trainer) -> None:
    status, one = trainer.ask("POST", "training", {"sessions": trainer.sessions[:1]})
    assert (status, one["detail"].split(":")[0]) == (409, "one session only")
    assert trainer.ask("POST", "training", {"sessions": []})[0] == 409
    assert trainer.ask("POST", "training", {"sessions": ["../sessions"]})[0] == 409
    assert trainer.ask("POST", "training", {"go_on": "none"})[0] == 409
    empty = trainer.runs.parent / "sessions" / "empty"
    empty.mkdir()
    start = (empty.parent / trainer.sessions[0] / "session.jsonl").read_text().splitlines()[0]
    (empty / "session.jsonl").write_text(f"{start}\n")
    trainer.ask("POST", "training", {"sessions": ["empty"], "hold_out": False})
    job = trainer.wait()
    assert "no finished video segment" in job["error"]
    assert trainer.ask("PUT", "model", {"run": job["run"]})[0] == 409
    assert trainer.ask("PUT", "model", {"run": "none"})[0] == 404
    link = trainer.runs / job["run"] / "sessions" / "empty"
    assert link.is_symlink()
    words = link.parent.parent / "replies.jsonl"
    words.write_text(json.dumps({"session_id": json.loads(start)["session_id"]}) + "\n")
    assert trainer.ask("DELETE", "sessions/empty") == (204, None)
    status, gone = trainer.ask("POST", "training", {"go_on": job["run"]})
    assert (status, gone["detail"].split(";")[0]) == (409, "there is no session 'empty' any more")
    assert not link.is_symlink()
    assert not words.exists()
    assert trainer.ask("GET", f"runs/{job['run']}/report")[0] == 404


def test_a_server_that_keeps_nothing_does_not_train(server: LiveServer, tmp_path: Path) -> None:
    trainer = Trainer.__new__(Trainer)
    trainer.server = server
    assert trainer.ask("GET", "training")[1] == {"possible": False, "job": None}
    assert trainer.ask("GET", "runs")[1] == {"runs": []}
    assert trainer.ask("POST", "training", {"sessions": ["x"]})[0] == 409


def test_a_run_of_elsewhere_can_be_talked_to(run: Path, tiny_llm: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "own", tiny_llm)
    (tmp_path / "runs" / "own" / "run.json").write_text('{"trained": true, "train": ["a"], "test": []}')
    with serving(Service(run, record=tmp_path / "sessions")) as server:
        trainer = Trainer.__new__(Trainer)
        trainer.server = server
        (listed,) = trainer.ask("GET", "runs")[1]["runs"]
        assert (listed["id"], listed["can_go_on"]) == ("own", False)
        assert trainer.ask("PUT", "model", {"run": "own"})[0] == 200


def test_one_of_several_servers_deletes_reports_too(run: Path, recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "sessions")
    session = session_folders(tmp_path / "sessions")[0]
    words = tmp_path / "runs" / "run" / "replies.jsonl"
    words.parent.mkdir(parents=True)
    words.write_text(json.dumps({"session_id": session_id_of(session)}) + "\n")
    with serving(Service(run, record=tmp_path / "sessions", alone=False)) as server:
        trainer = Trainer(server, tmp_path / "sessions")
        assert trainer.ask("GET", "training")[1]["possible"] is False
        assert trainer.ask("DELETE", f"sessions/{session.name}") == (204, None)
    assert not words.exists()
    assert not session.exists()
