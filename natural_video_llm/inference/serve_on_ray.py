"""The server with several replicas, under Ray Serve (https://docs.ray.io, extra `scale`).

Each replica is a process with its own engine and its own sessions. A WebSocket stays with the replica that it has
reached; a replica that is taken away first waits until its last conversation has ended.
"""

import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from natural_video_llm.checkpoint import load_run
from natural_video_llm.console import console
from natural_video_llm.errors import UserError
from natural_video_llm.inference.server import Service, announce, create_app, open_port, prepare_recordings
from natural_video_llm.ray_cluster import cluster_here, no_ray, prepare_ray, short_folder, stderr_into
from natural_video_llm.stop_signals import on_stop_signals

APP = "nvllm"


def serve_on_ray(service: Service, host: str, port: int, replicas: int) -> None:
    """Serve until Ctrl-C, which lets the conversations end; a second one ends them.

    Raises:
        UserError: Ray is not installed, no such run, the port is in use, or `replicas` is no number of them.
    """
    if replicas < 1:
        raise UserError(f"--replicas {replicas}: at least one is needed")
    open_port(host, port).close()
    prepare_recordings(service.record)
    load_run(service.run)  # a mistake is told here and now, not by a replica over and over
    asked, stopping = threading.Event(), False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            raise KeyboardInterrupt
        stopping = True
        asked.set()

    with served(service, host, port, replicas) as serve, on_stop_signals(stop):
        announce(host, port, service)
        asked.wait()
        console.print("draining: conversations go on to their end; Ctrl-C again ends them", highlight=False)
        serve.delete(APP)


@contextmanager
def served(service: Service, host: str, port: int, replicas: int) -> Iterator[Any]:
    """Ray Serve with the app running; yields the module `ray.serve`.

    Raises:
        UserError: Ray is not installed, or the app does not start.
    """
    prepare_ray(own_cluster=True)
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise no_ray("--ray", error) from error
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="nvllm-ray-", dir=short_folder(), ignore_cleanup_errors=True) as logs:
        try:
            with stderr_into(Path(logs) / "stderr"):
                options = cluster_here(replicas + 1, logs)
                ray.init("local", log_to_driver=False, logging_level=logging.CRITICAL, **options)
                serve.start(
                    http_options={"host": host, "port": port, "location": "HeadOnly"},
                    logging_config={"log_level": "CRITICAL", "enable_access_log": False},
                )
                deploy(serve, service, replicas)
            yield serve
        except (RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
            raise UserError(f"--ray: the replicas do not start ({str(error).strip().splitlines()[-1]})") from error
        finally:
            serve.shutdown()
            ray.shutdown()


def deploy(serve: Any, service: Service, replicas: int) -> None:
    """Run the app with so many replicas; those that are too many end when their conversations have."""

    def build() -> Any:
        from natural_video_llm.inference.engine import Engine

        return create_app(replace(service, alone=False), Engine.load(service.run, service.execution, service.weights))

    limits = service.limits
    deployment = serve.deployment(
        serve.ingress(build)(),
        name=APP,
        num_replicas=replicas,
        # A full replica says so itself, as one without Ray does.
        max_ongoing_requests=16 * limits.sessions + 64,
        graceful_shutdown_timeout_s=limits.session_s,
        graceful_shutdown_wait_loop_s=1.0,
        ray_actor_options={"num_cpus": 1},
    )
    serve.run(deployment.bind(), name=APP, route_prefix="/", blocking=False)
