"""Video segments → latents: a pure function of one segment, so that any number of workers can map it."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.claim import claim
from natural_video_llm.preprocessing.encoders import Encoded, Encoder, Execution, Frame, make_encoder
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


def encode_segment(video: Path, encoder: Encoder) -> tuple[Latents, int]:
    """Latents of one video file, the encoder's state starting afresh, and how many frames it has."""
    encoder.reset()
    parts: list[Encoded] = []
    frames = 0
    for chunk in _chunks(read_frames(video)):
        parts.append(encoder.encode(chunk))
        frames += len(chunk)
    found = Encoded.join(parts, encoder.latent_size)
    latents = Latents(
        found.latents,
        found.times,
        found.present,
        encoder.name,
        encoder.weights_sha256,
        encoder.units,
        crowded=int((found.faces > 1).sum()),
    )
    return latents, frames


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
    sessions: list[Session], encoder_name: str, workers: int, execution: Execution | None = None
) -> Iterator[ExtractedSegment]:
    """Encode every finished segment that has no latents yet, on `workers` processes; yields as they finish.

    A segment that another process is encoding at the moment is waited for, not encoded twice.

    Raises:
        UserError: the weights are unusable, a file that is there already came from other weights, a video
            cannot be read or a file not be written.
    """
    segments = [(session, segment) for session in sessions for segment in session.finished_segments]
    if not segments:
        return
    encoder = make_encoder(encoder_name, execution)
    jobs = []
    for session, segment in segments:
        target = latents_file(session, encoder.name, segment.file)
        video = session.path / segment.file
        if target.exists():
            yield _already_there(video, target, encoder.weights_sha256)
        else:
            jobs.append((video, target))
    cv2.setNumThreads(1)  # as in a worker
    taken = []
    if workers > 1 and len(jobs) > 1:
        for job, result in run_in_workers(_extract_in_worker, jobs, workers, start_worker, (encoder.name, execution)):
            if result is None:
                taken.append(job)
            else:
                yield result
    else:
        taken = jobs
    yield from _extract_and_wait(taken, encoder)


def _extract_and_wait(jobs: list[tuple[Path, Path]], encoder: Encoder) -> Iterator[ExtractedSegment]:
    """Do the jobs (video, target) in this process; those that others are at come last, once they are free."""
    while jobs:
        taken = []
        for video, target in jobs:
            result = extract_segment(video, target, encoder)
            if result is None:
                taken.append((video, target))
            else:
                yield result
        jobs = taken
        if jobs:
            time.sleep(LOOK_AGAIN_S)


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
    cv2.setNumThreads(1)  # the processes share the cores already
    _encoder = make_encoder(encoder_name, execution)


def _end_with_parent() -> None:
    """A worker whose parent was killed would else wait for work for ever, or hold a claim in its stead."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _extract_in_worker(video: Path, target: Path) -> tuple[tuple[Path, Path], ExtractedSegment | None]:
    return (video, target), extract_in_worker(video, target)


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
