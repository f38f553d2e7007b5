"""Two replicas on this machine: both take clients, and a drain ends no conversation."""

import importlib.util
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from live_server import Client, wait_until
from websockets.sync.client import connect

START_S = 120.0


@contextmanager
def ended_with(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A failure must not wait for a server that nobody ends."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def admitted(address: str, stack: ExitStack) -> Client:
    """A client with a conversation; a router that has not heard of the emptier replica yet may say it is full."""
    until = time.monotonic() + START_S
    while True:
        client = Client(stack.enter_context(connect(address)))
        if client.opening["type"] == "session.created":
            return client
        assert time.monotonic() < until, client.opening
        time.sleep(0.5)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra scale")
def test_two_replicas_share_the_clients_and_a_drain_ends_no_conversation(run: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "natural_video_llm", "serve", str(run), "--port", str(port)]
    with ended_with(
        subprocess.Popen([*command, "--ray", "--replicas", "2", "--sessions", "2"], stdout=subprocess.PIPE, text=True)
    ) as process:
        assert process.stdout is not None
        assert "serving" in process.stdout.readline()
        address = f"ws://127.0.0.1:{port}/v1/realtime"
        with ExitStack() as stack:
            # Two fit into one replica: three are in both.
            clients = [admitted(address, stack) for _ in range(3)]
            assert len({client.ask("Hello", max_output_tokens=4, seed=1) for client in clients}) == 1
            process.send_signal(signal.SIGINT)
            assert "draining" in process.stdout.readline()
            time.sleep(5)
            for client in clients:
                assert client.ask("Are you still there?", max_output_tokens=4)
            assert process.poll() is None
        wait_until(lambda: process.poll() is not None, START_S)
        assert process.returncode == 0
