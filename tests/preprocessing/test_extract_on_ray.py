"""Extraction on Ray, with real clusters on this machine: the same bytes, whatever fails or is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from extracting import ENCODER, ENVIRONMENT, Extracting, assert_gone, claimed, files, finished
from test_extract_again import assert_all_but_two, break_two

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.extract_on_ray import segments_on_ray
from natural_video_llm.preprocessing.options import Execution

pytest.importorskip("ray", reason="needs the extra scale")

AUTHORISED = {
    **ENVIRONMENT,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
}


def ray_workers(keeper: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in keeper.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.name().startswith("ray::Map"):
                found.append(process)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, psutil.Process]]:
    """The address of a cluster that another process keeps, with two places to work."""
    code = """
import ray, sys, tempfile
with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False,
             _node_ip_address="127.0.0.1", _temp_dir=folder)
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    ray.shutdown()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=AUTHORISED
    ) as keeper:
        assert keeper.stdout is not None
        address = keeper.stdout.readline().strip()
        assert address
        process = psutil.Process(keeper.pid)
        started = process.children(recursive=True)
        yield address, process
        keeper.communicate(timeout=60)
    assert_gone(started)


def test_whatever_is_killed_the_files_are_those_of_one_process(
    extracted: Path, sessions: Path, cluster: tuple[str, psutil.Process]
) -> None:
    """One run is killed, one stopped; the last one loses a worker and meets two broken segments."""
    whole = files(extracted)
    broken, short = break_two(sessions)
    address, keeper = cluster
    run = Extracting(sessions, "--ray", address, environment=AUTHORISED)
    run.wait_for(lambda: claimed(sessions))
    workers = ray_workers(keeper)
    assert workers
    run.kill()
    assert_gone(workers)
    assert finished(sessions).items() <= whole.items()

    folders = set(Path("/tmp").glob("nvllm-ray-*"))
    for claim in sessions.glob("*/latents/*/.*"):
        claim.unlink()
    run = Extracting(sessions, "--ray", "local", "--workers", "1")
    run.wait_for(lambda: claimed(sessions))
    started = psutil.Process(run.process.pid).children(recursive=True)
    assert len(ray_workers(psutil.Process(run.process.pid))) == 1
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
    code = run.process.wait(timeout=60)
    run.end()
    assert (code, run.errors) == (130, ["nvllm: stopped"]), run.lines
    assert_gone(started)

    there = {path: path.stat().st_mtime_ns for path in sessions.glob("*/latents/*/[0-9]*")}
    run = Extracting(sessions, "--ray", "local", "--workers", "2")
    run.wait_for(lambda: len(run.lines) > len(there))
    ray_workers(psutil.Process(run.process.pid))[0].kill()
    assert_all_but_two(run, sessions, whole, broken, short)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    done = len(whole) - 2
    assert [line["done"] for line in run.lines if "done" in line] == list(range(1, done + 1))
    assert set(Path("/tmp").glob("nvllm-ray-*")) == folders


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "--ray 127.0.0.1:1: nothing answers there"),
        ("ray://127.0.0.1:1", "run this on a machine of the cluster"),
        ("somewhere", "check the address"),
    ],
)
def test_an_address_of_no_use_is_told(address: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with pytest.raises(UserError, match=told), segments_on_ray(address, make_encoder(ENCODER), Execution(), None):
        pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    encoder = make_encoder(ENCODER)
    with pytest.raises(UserError, match=r"\[scale\]"), segments_on_ray("local", encoder, Execution(), None):
        pass


def test_watching_on_ray_is_refused(sessions: Path) -> None:
    run = Extracting(sessions, "--ray", "local", "--watch")
    assert run.process.wait(timeout=60) == 1
    run.end()
    assert len(run.errors) == 1
    assert "leave --ray out" in run.errors[0]
