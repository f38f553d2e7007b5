"""The default encoder: the shape of a face in the head's own frame, and the head's pose.

Shape and pose are parted by turning the points onto a reference head with Kabsch's method (1976, Acta
Crystallographica A32:922), using only points that expressions hardly move.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.preprocessing.encoders.face_landmarks import (
    LEFT_EYE_OUTER,
    POINTS,
    RIGHT_EYE_OUTER,
    FaceLandmarker,
)

REFERENCE_HEAD_FILE = Path(__file__).with_name("reference_head.json")

_SHAPE_SIZE = POINTS * 3
_POSE_SIZE = 6
# Rotation vector x, y, z, centre x, centre y, log size: a mirror keeps the nod, the height and the size.
_POSE_SIGNS = np.array([1, -1, -1, -1, 1, 1])
_POINT_SIGNS = np.array([-1, 1, 1])


@dataclass(frozen=True)
class _ReferenceHead:
    """points [478, 3] float64, mirror [478] and rigid [N] int64: see `make_reference_head`."""

    points: np.ndarray
    mirror: np.ndarray
    rigid: np.ndarray


class FaceGeometryEncoder:
    """Pictures, one after the other → one latent [1440] float16 each, or None where no face is seen.

    The first 1434 numbers are [478, 3] points in the head's own frame: x to the picture's right, y down, z
    away from the camera, origin in the centroid of the rigid points, unit the distance between the outer
    corners of the eyes. The last six are the pose: rotation vector in radians (3), the origin's place on the
    picture relative to its middle, x and y, in picture widths (2), natural logarithm of the unit in picture
    widths (1). Upright, which is no rotation, means the top of the forehead straight above the chin.

    The latents depend on nothing but the pictures since the last `reset()`.
    Raises `UserError` where `task_file` is no usable model bundle.
    """

    name = "face-geometry"
    latent_size = _SHAPE_SIZE + _POSE_SIZE
    units = (
        "478 points x, y, z in the head's frame, in distances between the outer eye corners; head rotation "
        "vector in radians; head centre x, y from the picture's middle in picture widths; "
        "ln(eye distance / picture width)"
    )

    def __init__(self, task_file: Path, threads: int = 1) -> None:
        self._landmarker = FaceLandmarker(task_file, threads)
        self._head = _reference_head()
        self.weights_sha256 = hashlib.sha256(Path(task_file).read_bytes()).hexdigest()

    def reset(self) -> None:
        """Forgets the face that is being followed."""
        self._landmarker.reset()

    def encode(self, rgb: np.ndarray, time_s: float) -> np.ndarray | None:
        """Latent [1440] float16 of the face in `rgb` [H, W, 3] uint8, or None; `time_s` changes nothing here.

        Raises `ValueError` where `rgb` is another kind of array.
        """
        face = self._landmarker(rgb)
        if face is None:
            return None
        height_px, width_px = rgb.shape[:2]
        points = face.points.astype(np.float64)
        rigid = self._head.rigid
        centre = points[rigid].mean(axis=0)
        eye_distance_px = np.linalg.norm(points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER])
        rotation = rotation_between(self._head.points[rigid], points[rigid])
        shape = (points - centre) @ rotation / eye_distance_px
        place = (centre[:2] - (width_px / 2, height_px / 2)) / width_px
        turn = cv2.Rodrigues(rotation)[0].ravel()
        size = np.log(eye_distance_px / width_px)
        return np.concatenate([shape.ravel(), turn, place, [size]]).astype(np.float16)


def head_points(latents: np.ndarray) -> np.ndarray:
    """Points [..., 478, 3] in the head's own frame out of latents [..., 1440]."""
    return latents[..., :_SHAPE_SIZE].reshape(*latents.shape[:-1], POINTS, 3)


def mirror_latent(latents: np.ndarray) -> np.ndarray:
    """Latents [..., 1440] of the same faces seen in a mirror; twice gives the original back."""
    shape = head_points(latents)[..., _reference_head().mirror, :] * _POINT_SIGNS.astype(latents.dtype)
    pose = latents[..., _SHAPE_SIZE:] * _POSE_SIGNS.astype(latents.dtype)
    return np.concatenate([shape.reshape(*latents.shape[:-1], _SHAPE_SIZE), pose], axis=-1)


def rotation_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation R [3, 3] that makes R @ source[i] fit target[i] best, [N, 3] about their centroids."""
    u, _, vt = np.linalg.svd((source - source.mean(axis=0)).T @ (target - target.mean(axis=0)))
    # Without the sign a flat or mirrored set of points could be fitted by a reflection.
    handedness = np.sign(np.linalg.det(u @ vt))
    return (u * (1, 1, handedness) @ vt).T


@functools.cache
def _reference_head() -> _ReferenceHead:
    stored = json.loads(REFERENCE_HEAD_FILE.read_text(encoding="utf-8"))
    return _ReferenceHead(
        points=np.array(stored["points"]), mirror=np.array(stored["mirror"]), rigid=np.array(stored["rigid"])
    )
