"""Two replicas on this machine: each client keeps to its own, and a replica that goes waits for its conversations."""

import socket
import threading
import time
from pathlib import Path

import pytest
from live_server import Client
from websockets.sync.client import connect

from natural_video_llm.inference.serve_on_ray import APP, deploy, served
from natural_video_llm.inference.server import Service
from natural_video_llm.inference.serving.limits import Limits

pytest.importorskip("ray.serve", reason="needs the extra scale")


def test_two_replicas_share_the_clients_and_a_drain_ends_no_conversation(run: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = Service(run, limits=Limits(sessions=2, session_s=60))
    address = f"ws://127.0.0.1:{port}/v1/realtime"
    with served(service, "127.0.0.1", port, 2) as serve:
        with connect(address) as one, connect(address) as two, connect(address) as three:
            clients = [Client(link) for link in (one, two, three)]
            # Two fit into one replica: three are in both.
            assert [client.opening["type"] for client in clients] == ["session.created"] * 3
            replies = [client.ask("Hello", max_output_tokens=4, seed=1) for client in clients]
            assert len(set(replies)) == 1
            fewer = threading.Thread(target=deploy, args=(serve, service, 1))
            fewer.start()
            time.sleep(5)
            for client in clients:
                assert client.ask("Are you still there?", max_output_tokens=4)
        fewer.join(timeout=60)
        replicas = serve.status().applications[APP].deployments[APP].replica_states
        assert sum(replicas.values()) == 1
