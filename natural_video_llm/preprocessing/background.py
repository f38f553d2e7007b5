"""Latents of video with the face painted over: what is left for an encoder to see is the background.

What a model gains from these it gains from the room, the light or the shoulders, not from the face.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoder, Frame, make_encoder
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.preprocessing.extract_video_latents import encode_segment
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import background_file, load_latents, save_latents
from natural_video_llm.sessions.video import read_frames
from natural_video_llm.workers import run_in_workers

# The points end at the brows' upper edge and the chin; forehead, ears and hair move with the face.
_MARGIN = 0.35
_GREY = 128

# Video, file for its latents.
_Job = tuple[Path, Path]


def extract_backgrounds(
    sessions: Sequence[Session], encoder_name: str, sha256: str, workers: int, report: Callable[[int, int], None]
) -> None:
    """Encode every finished segment with the face painted over, unless that has been done with the same weights.

    Args:
        encoder_name, sha256: the encoder that the run was trained with, and its weights.
        report: told how many of how many segments are done.

    Raises:
        UserError: a video or the weights are not to be had.
    """
    jobs: list[_Job] = []
    for session in sessions:
        for segment in session.finished_segments:
            target = background_file(session, encoder_name, segment.file)
            if not (target.exists() and load_latents(target).encoder_sha256 == sha256):
                jobs.append((session.path / segment.file, target))
    if not jobs:
        return
    if workers > 1 and len(jobs) > 1:
        prepare = _start_worker, (encoder_name, sha256)
        for number, _ in enumerate(run_in_workers(_encode_in_worker, jobs, workers, *prepare), start=1):
            report(number, len(jobs))
        return
    encoder, landmarker = _tools(encoder_name, sha256)
    for number, job in enumerate(jobs, start=1):
        encode_background(*job, encoder, landmarker)
        report(number, len(jobs))


def encode_background(video: Path, target: Path, encoder: Encoder, landmarker: FaceLandmarker) -> None:
    """Latents of `video` without its face into `target`.

    Raises:
        UserError: the video cannot be read, `target` cannot be written.
    """
    if not video.is_file():
        raise UserError(f"{video}: no readable video (the file is missing); copy it back")
    landmarker.reset()
    region = face_region(read_frames(video), landmarker)
    latents, _ = encode_segment(video, encoder, partial(painted_over, region=region))
    save_latents(target, latents)


def face_region(frames: Iterable[Frame], landmarker: FaceLandmarker) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) px of a rectangle in which the face is in all of the frames, with a margin; None where
    no face is found.

    One rectangle for all of the segment: one that moved with the head would tell how the head moves, and a frame in
    which the face is not found would show it.
    """
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for time_s, rgb in frames:
        face = landmarker(rgb, time_s)
        if face is not None:
            points = face.points[:, :2]
            margin_px = _MARGIN * np.ptp(points, axis=0).max()
            low, high = np.minimum(low, points.min(0) - margin_px), np.maximum(high, points.max(0) + margin_px)
    if not np.isfinite(low).all():
        return None
    left, top = np.maximum(np.floor(low), 0).astype(int)
    right, bottom = np.ceil(high).astype(int)
    return int(left), int(top), int(right), int(bottom)


def painted_over(rgb: np.ndarray, region: tuple[int, int, int, int] | None) -> np.ndarray:
    """A copy of the picture [H, W, 3] uint8 with grey in place of `region`."""
    painted = rgb.copy()
    if region is not None:
        left, top, right, bottom = region
        painted[top:bottom, left:right] = _GREY
    return painted


_in_worker: tuple[Encoder, FaceLandmarker] | None = None


def _tools(encoder_name: str, sha256: str) -> tuple[Encoder, FaceLandmarker]:
    return make_encoder(encoder_name, sha256=sha256), FaceLandmarker(face_landmarker_file())


def _start_worker(encoder_name: str, sha256: str) -> None:
    global _in_worker
    cv2.setNumThreads(1)  # the processes share the cores already
    _in_worker = _tools(encoder_name, sha256)


def _encode_in_worker(video: Path, target: Path) -> None:
    assert _in_worker is not None
    encode_background(video, target, *_in_worker)
