"""Video segments → latents: a pure function of one segment, so that any number of workers can map it."""

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.claim import claim
from natural_video_llm.preprocessing.encoders import Encoded, Encoder, Frame, latents_of, make_encoder
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import Latents, latents_file, load_latents, save_latents
from natural_video_llm.sessions.video import read_frames
from natural_video_llm.workers import run_in_workers

# How soon a segment that another process is at is looked at again.
LOOK_AGAIN_S = 1.0

_CHUNK_FRAMES = 32
_CHUNK_BYTES = 64_000_000


@dataclass(frozen=True)
class ExtractedSegment:
    """What became of one segment: `seen` of its `latents` show a face, in `crowded` of them several were in view; it
    took `took_s` seconds."""

    video: Path
    latents: int
    seen: int
    crowded: int
    already_there: bool
    took_s: float = 0.0


@dataclass(frozen=True)
class FailedSegment:
    """A segment without latents, and why, in one line."""

    video: Path
    why: str


class FailedSegmentsError(UserError):
    """Some segments failed, one line each; all others have their latents."""

    def __init__(self, failed: list[FailedSegment]):
        self.failed = failed
        end = f"{len(failed)} segment{'s' if len(failed) > 1 else ''} failed, all others are done; mend and run again"
        super().__init__("\n".join([*(segment.why for segment in failed), end]))


# Video, file for its latents, frames that it should play.
Job = tuple[Path, Path, int]
# None where another process is at it.
Outcome = ExtractedSegment | FailedSegment | None
RunJobs = Callable[[list[Job]], Iterable[tuple[Job, Outcome]]]


def encode_segment(
    video: Path, encoder: Encoder, change: Callable[[np.ndarray], np.ndarray] = lambda rgb: rgb
) -> tuple[Latents, int]:
    """Latents of one video file, the encoder's state starting afresh, and how many frames it has.

    Args:
        change: what is done to each picture [H, W, 3] uint8 before the encoder sees it.

    Raises:
        UserError: the video cannot be read or has no frame.
    """
    encoder.reset()
    parts: list[Encoded] = []
    frames = 0
    for chunk in _chunks((time_s, change(rgb)) for time_s, rgb in read_frames(video)):
        parts.append(encoder.encode(chunk))
        frames += len(chunk)
    if not frames:
        raise UserError(f"{video}: not one frame plays; copy or record it again")
    return latents_of(encoder, parts), frames


def _chunks(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Frames by the dozen, cut in the same places each time; few where they are large."""
    chunk: list[Frame] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == _CHUNK_FRAMES or len(chunk) * frame[1].nbytes >= _CHUNK_BYTES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def extract(
    sessions: list[Session],
    encoder_name: str,
    workers: int | None = None,
    execution: Execution | None = None,
    ray_address: str | None = None,
) -> Generator[ExtractedSegment, None, None]:
    """Encode every finished segment that has no latents yet; yields them as they finish.

    A segment that another process is encoding at the moment is waited for, not encoded twice. One that fails does
    not stop the others.

    Args:
        sessions: whose segments.
        encoder_name: as `make_encoder` takes it.
        workers: processes, each with an encoder of its own; as many as there are cores by default.
        execution: how the encoder runs.
        ray_address: the Ray cluster that does it, see `extract_on_ray`; by default this machine does.

    Raises:
        FailedSegmentsError: at the end, where segments failed: a video cannot be read, a file not be written.
        UserError: the weights are unusable, a file that is there already came from other weights, a worker was
            killed, the cluster cannot be used.
    """
    segments = [(session, segment) for session in sessions for segment in session.finished_segments]
    if not segments:
        return
    encoder = make_encoder(encoder_name, execution)
    jobs = []
    for session, segment in segments:
        target = latents_file(session, encoder.name, segment.file)
        video = session.path / segment.file
        if target.exists() and (there := _readable(target)) is not None:
            check_weights(target, there, encoder.weights_sha256)
            yield _extracted(video, there, already_there=True)
        else:
            jobs.append((video, target, segment.frames))
    if jobs and ray_address is not None:
        from natural_video_llm.preprocessing.extract_on_ray import TRIES, segments_on_ray

        with segments_on_ray(ray_address, encoder, execution or Execution(), workers) as on_ray:
            yield from _all_done(jobs, repeat(on_ray), TRIES)
    else:
        workers = os.cpu_count() or 1 if workers is None else workers
        yield from _all_done(jobs, _passes_here(encoder, execution, workers), tries=1)


def _readable(target: Path) -> Latents | None:
    try:
        return load_latents(target)
    except UserError:
        return None  # a job of its own, which tells it when all others are done


def _all_done(jobs: list[Job], passes: Iterator[RunJobs], tries: int) -> Iterator[ExtractedSegment]:
    """Do the jobs in as many passes as it takes: those that failed or that other processes are at come again.

    Raises FailedSegmentsError at the end for those that failed `tries` times.
    """
    failures: Counter[Job] = Counter()
    failed = []
    while jobs:
        again = []
        for job, outcome in next(passes)(jobs):
            if isinstance(outcome, ExtractedSegment):
                yield outcome
                continue
            if outcome is not None:
                failures[job] += 1
                if failures[job] >= tries:
                    failed.append(outcome)
                    continue
            again.append(job)
        jobs = again
        if jobs:
            time.sleep(LOOK_AGAIN_S)
    if failed:
        raise FailedSegmentsError(sorted(failed, key=lambda segment: segment.video))


def _passes_here(encoder: Encoder, execution: Execution | None, workers: int) -> Iterator[RunJobs]:
    """Workers do all that they can; what is left is done in this process."""
    cv2.setNumThreads(1)  # as in a worker
    if workers > 1:
        yield partial(_in_workers, encoder, execution, workers)
    while True:
        yield partial(_in_this_process, encoder)


def _in_workers(
    encoder: Encoder, execution: Execution | None, workers: int, jobs: list[Job]
) -> Iterator[tuple[Job, Outcome]]:
    if len(jobs) == 1:
        yield from _in_this_process(encoder, jobs)
        return
    try:
        yield from run_in_workers(_try_in_worker, jobs, workers, start_worker, (encoder.name, execution))
    except BrokenProcessPool as error:
        raise UserError("a worker was killed (out of memory?); run again with fewer --workers") from error


def _in_this_process(encoder: Encoder, jobs: list[Job]) -> Iterator[tuple[Job, Outcome]]:
    for job in jobs:
        yield job, try_segment(job, encoder)


def try_segment(job: Job, encoder: Encoder) -> Outcome:
    """`extract_segment`, its errors caught."""
    try:
        return extract_segment(job[0], job[1], encoder, job[2])
    except Exception as error:
        return FailedSegment(job[0], in_one_line(job[0], error))


def in_one_line(video: Path, error: BaseException) -> str:
    """What went wrong with a video, for a person."""
    return str(error) if isinstance(error, UserError) else f"{video}: {type(error).__name__}: {error}"


def extract_segment(video: Path, target: Path, encoder: Encoder, frames: int = 0) -> ExtractedSegment | None:
    """Latents of `video` into `target`, whole or not at all; None where another process is at it.

    Raises:
        UserError: the video cannot be read or plays fewer than `frames` frames, `target` cannot be written or is
            there already, made with other weights.
    """
    started_s = time.monotonic()
    _check_still_there(video)
    with claim(target) as is_ours:
        if not is_ours:
            return None
        if target.exists():
            return _already_there(video, target, encoder.weights_sha256)
        latents, played = encode_segment(video, encoder)
        if played < frames:
            raise UserError(f"{video}: plays {played} of its {frames} frames; copy or record it again")
        _check_still_there(video)
        save_latents(target, latents)
    took_s = time.monotonic() - started_s
    return _extracted(video, latents, already_there=False, took_s=took_s)


def _check_still_there(video: Path) -> None:
    # Claiming and saving make folders: they must not bring back a session that its person has just deleted.
    if not video.is_file():
        raise UserError(f"{video}: no readable video (the file is missing); record or copy it again")


_encoder: Encoder | None = None


def start_worker(encoder_name: str, execution: Execution | None) -> None:
    """Make a process ready for `extract_in_worker`; it ends when its parent does."""
    global _encoder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The processes share the cores already. PyTorch reads the variable when a neural encoder first loads it.
    cv2.setNumThreads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _encoder = make_encoder(encoder_name, execution)


def _end_with_parent() -> None:
    """A worker whose parent was killed would else wait for work for ever, or hold a claim in its stead."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _try_in_worker(video: Path, target: Path, frames: int) -> tuple[Job, Outcome]:
    assert _encoder is not None
    job = (video, target, frames)
    return job, try_segment(job, _encoder)


def extract_in_worker(video: Path, target: Path, frames: int = 0) -> ExtractedSegment | None:
    """`extract_segment` with the encoder that `start_worker` made for this process."""
    assert _encoder is not None
    return extract_segment(video, target, _encoder, frames)


def _already_there(video: Path, target: Path, sha256: str) -> ExtractedSegment:
    there = load_latents(target)
    check_weights(target, there, sha256)
    return _extracted(video, there, already_there=True)


def _extracted(video: Path, latents: Latents, already_there: bool, took_s: float = 0.0) -> ExtractedSegment:
    seen = int(latents.present.sum())
    return ExtractedSegment(video, len(latents.times), seen, latents.crowded, already_there, took_s)


def check_weights(path: Path, latents: Latents, sha256: str) -> None:
    """Raise UserError where the latents in the file `path` came from other weights."""
    if latents.encoder_sha256 != sha256:
        raise UserError(
            f"{path}: made with weights {latents.encoder_sha256[:12]}, not {sha256[:12]}; delete {path.parent} first"
        )
