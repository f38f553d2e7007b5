"""Extraction on many machines: Ray Data maps the same function over segments (https://docs.ray.io, extra `scale`).

What travels is paths and counts. Each worker reads the video and writes the latents itself, claimed and written beside
their place as on one machine: every machine must see the session folders at the same path, on storage that keeps file
locks (flock), and have this package, with the same encoder weights, installed.

A cluster that is started here ends with this process. Its ports take orders only from whoever knows its token, drawn
anew each time and kept in memory. Ray's usage reports to its makers are off; those of a cluster that runs already are
its keeper's choice.
"""

import logging
import os
import pickle
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoder, make_encoder
from natural_video_llm.preprocessing.extract_video_latents import FailedSegment, Job, Outcome, RunJobs, try_segment
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.ray_cluster import cluster_here, no_ray, prepare_ray, short_folder, stderr_into

LOCAL = "local"
# How often a segment is tried that fails, or whose worker dies.
TRIES = 3

_ANSWER_S = 10
# Each block is a task; more would be a burden on whoever hands them out.
_MOST_BLOCKS = 10_000


@contextmanager
def segments_on_ray(address: str, encoder: Encoder, execution: Execution, workers: int | None) -> Iterator[RunJobs]:
    """Connects to the cluster at `address`, or starts one here for `local`; yields what runs jobs on it.

    Args:
        encoder: whose name and weights the workers' encoders have.
        execution: with a CUDA device, each worker has a GPU of its own, else it works on a CPU.
        workers: encoders at a time, in the whole cluster; as many as it has CPUs (or GPUs) by default.

    Raises:
        UserError: Ray is not installed, the address does not answer, the cluster has no place for a worker.
    """
    ray = _import_ray(address)
    if address != LOCAL:
        _check_it_answers(address)
    with tempfile.TemporaryDirectory(prefix="nvllm-ray-", dir=short_folder(), ignore_cleanup_errors=True) as logs:
        try:
            _connect(ray, address, workers, logs)
            on_gpu = (execution.device or "cpu").startswith("cuda")
            places = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 0))
            if not places:
                raise UserError(f"--ray {address}: the cluster has no {'GPU' if on_gpu else 'CPU'} to work on")
            there = Execution("cuda" if on_gpu else "cpu", execution.dtype, execution.onnx)
            size = min(workers or places, places)
            make_with = (encoder.name, there, encoder.weights_sha256)
            yield lambda jobs: _mapped(ray, address, jobs, make_with, size, on_gpu)
        finally:
            ray.shutdown()


def _import_ray(address: str) -> Any:
    prepare_ray(own_cluster=address == LOCAL)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise no_ray(f"--ray {address}", error) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ray


def _check_it_answers(address: str) -> None:
    if address.startswith("ray://"):
        raise UserError(f"--ray {address}: Ray Data cannot work from outside; run this on a machine of the cluster")
    # Ray itself waits for minutes.
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"--ray {address}: nothing answers there ({error}); check the address") from error


def _connect(ray: Any, address: str, workers: int | None, logs: str) -> None:
    started_here = cluster_here(workers or os.cpu_count() or 1, logs)
    try:
        with stderr_into(Path(logs) / "stderr"):
            # "local" is never a cluster that runs already, which RAY_ADDRESS may name.
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **(started_here if address == LOCAL else {}),
            )
    except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
        hint = "check the address; a cluster with a token, Ray's default, needs RAY_AUTH_MODE=token"
        raise UserError(f"--ray {address}: {_last_line(error)}; {hint}") from error


class _SegmentWorker:
    """One process of the cluster, with an encoder of its own."""

    def __init__(self, encoder_name: str, execution: Execution, sha256: str):
        import ray

        # Ray sends the segment at which a worker was killed to its successor, over and over.
        self._after_a_killed_one = ray.get_runtime_context().was_current_actor_reconstructed
        cv2.setNumThreads(1)
        self._encoder = make_encoder(encoder_name, execution, sha256)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        video = Path(row["video"])
        if self._after_a_killed_one:
            self._after_a_killed_one = False
            outcome: Outcome = FailedSegment(video, f"{video}: its worker was killed; run again with fewer --workers")
        else:
            outcome = try_segment((video, Path(row["target"]), row["frames"]), self._encoder)
        return {"number": row["number"], "outcome": pickle.dumps(outcome)}


def _mapped(
    ray: Any, address: str, jobs: list[Job], make_with: tuple[Any, ...], size: int, on_gpu: bool
) -> Iterator[tuple[Job, Outcome]]:
    """Each job with its outcome, as they finish."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1  # a segment may take long
    rows = [
        {"number": number, "video": os.path.abspath(video), "target": os.path.abspath(target), "frames": frames}
        for number, (video, target, frames) in enumerate(jobs)
    ]
    outcomes = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).map(
        _SegmentWorker,
        fn_constructor_args=make_with,
        # None waits behind another while a worker is idle.
        compute=ray.data.ActorPoolStrategy(size=min(size, len(rows)), max_tasks_in_flight_per_actor=1),
        num_cpus=1,
        num_gpus=1 if on_gpu else 0,
    )
    try:
        for row in outcomes.iter_rows():
            yield jobs[row["number"]], pickle.loads(row["outcome"])
    except ray.exceptions.RayError as error:
        raise UserError(f"--ray {address}: {_last_line(error)}") from error


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix(f"{UserError.__module__}.{UserError.__name__}: ") if lines else type(error).__name__
