"""Video segments → latents: a pure function of one segment, so that any number of workers can map it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoder, make_encoder
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import Latents, latents_file, load_latents, save_latents
from natural_video_llm.sessions.video import read_frames
from natural_video_llm.workers import run_in_workers


@dataclass(frozen=True)
class ExtractedSegment:
    """What became of one segment; `faces` of its `frames` showed a face."""

    video: Path
    frames: int
    faces: int
    already_there: bool


def encode_segment(video: Path, encoder: Encoder) -> Latents:
    """Latents of one video file, the encoder's state starting afresh."""
    encoder.reset()
    rows: list[np.ndarray | None] = []
    times: list[float] = []
    for time_s, rgb in read_frames(video):
        rows.append(encoder.encode(rgb, time_s))
        times.append(time_s)
    latents = np.zeros((len(rows), encoder.latent_size), np.float16)
    for i, row in enumerate(rows):
        if row is not None:
            latents[i] = row
    present = np.array([row is not None for row in rows], bool)
    return Latents(latents, np.array(times), present, encoder.name, encoder.weights_sha256, encoder.units)


def extract(sessions: list[Session], encoder_name: str, weights: Path, workers: int) -> Iterator[ExtractedSegment]:
    """Encode every finished segment that has no latents yet, on `workers` processes; yields as they finish.

    Raises:
        UserError: the weights are unusable, a file that is there already came from other weights, a video
            cannot be read or a file not be written.
    """
    segments = [(session, segment) for session in sessions for segment in session.finished_segments]
    if not segments:
        return
    encoder = make_encoder(encoder_name, weights)
    jobs = []
    for session, segment in segments:
        target = latents_file(session, encoder_name, segment.file)
        video = session.path / segment.file
        if not target.exists():
            jobs.append((video, target))
            continue
        there = load_latents(target)
        _check_weights(target, there, encoder.weights_sha256)
        yield ExtractedSegment(video, len(there.times), int(there.present.sum()), already_there=True)
    if workers <= 1 or len(jobs) <= 1:
        cv2.setNumThreads(1)  # as in a worker
        for video, target in jobs:
            yield _extract_one(video, target, encoder)
        return
    yield from run_in_workers(_extract_in_worker, jobs, workers, _start_worker, (encoder_name, weights))


_encoder: Encoder | None = None


def _start_worker(encoder_name: str, weights: Path) -> None:
    global _encoder
    cv2.setNumThreads(1)  # the processes share the cores already
    _encoder = make_encoder(encoder_name, weights)


def _extract_in_worker(video: Path, target: Path) -> ExtractedSegment:
    assert _encoder is not None
    return _extract_one(video, target, _encoder)


def _extract_one(video: Path, target: Path, encoder: Encoder) -> ExtractedSegment:
    latents = encode_segment(video, encoder)
    save_latents(target, latents)
    return ExtractedSegment(video, len(latents.times), int(latents.present.sum()), already_there=False)


def _check_weights(path: Path, latents: Latents, sha256: str) -> None:
    if latents.encoder_sha256 != sha256:
        raise UserError(
            f"{path}: made with weights {latents.encoder_sha256[:12]}, not {sha256[:12]}; delete {path.parent} first"
        )
