"""Two replicas on this machine: both take clients, and a drain ends no conversation."""

import importlib.util
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_server import Client, wait_until
from websockets.sync.client import connect

START_S = 120.0


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra scale")
def test_two_replicas_share_the_clients_and_a_drain_ends_no_conversation(run: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "natural_video_llm", "serve", str(run), "--port", str(port)]
    with subprocess.Popen(
        [*command, "--ray", "--replicas", "2", "--sessions", "2"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "serving" in process.stdout.readline()
        address = f"ws://127.0.0.1:{port}/v1/realtime"
        with connect(address) as one, connect(address) as two, connect(address) as three:
            clients = [Client(link) for link in (one, two, three)]
            # Two fit into one replica: three are in both.
            assert [client.opening["type"] for client in clients] == ["session.created"] * 3
            assert len({client.ask("Hello", max_output_tokens=4, seed=1) for client in clients}) == 1
            process.send_signal(signal.SIGINT)
            assert "draining" in process.stdout.readline()
            time.sleep(5)
            for client in clients:
                assert client.ask("Are you still there?", max_output_tokens=4)
            assert process.poll() is None
        wait_until(lambda: process.poll() is not None, START_S)
        assert process.returncode == 0
