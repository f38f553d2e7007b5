"""The default encoder: the shape of a face in the head's own frame, and the head's pose.

Shape and pose are parted by turning the points onto a reference head with Kabsch's method (1976, Acta
Crystallographica A32:922), using only points that expressions hardly move.
"""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.assets import face_landmarker_file, file_sha256
from natural_video_llm.preprocessing.encoders import Encoded, Frame
from natural_video_llm.preprocessing.encoders.face_landmarks import (
    LEFT_EYE_OUTER,
    POINTS,
    RIGHT_EYE_OUTER,
    FaceLandmarker,
    depth_stretch,
    face_angle,
)
from natural_video_llm.preprocessing.encoders.spec import EncoderSpec

REFERENCE_HEAD_FILE = Path(__file__).with_name("reference_head.json")

_SHAPE_SIZE = POINTS * 3
POSE_SIZE = 6
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
    """Pictures → one latent [1440] each.

    The first 1434 numbers are [478, 3] points in the head's own frame: x to the picture's right, y down, z
    away from the camera, origin in the centroid of the rigid points, unit the distance between the outer
    corners of the eyes. The last six are the pose: rotation vector in radians (3), the origin's place on the
    picture relative to its middle, x and y, in picture widths (2), natural logarithm of the unit in picture
    widths (1). Upright, which is no rotation, means the top of the forehead straight above the chin.

    Raises `UserError` where the weights are no usable model bundle.
    """

    latent_size = _SHAPE_SIZE + POSE_SIZE
    units = (
        "478 points x, y, z in the head's frame, in distances between the outer eye corners; head rotation "
        "vector in radians; head centre x, y from the picture's middle in picture widths; "
        "ln(eye distance / picture width)"
    )
    needs = "the face landmark model (4 MB, fetched once)"
    rate_hz: float | None = None
    window_s = 0.0

    def __init__(self, spec: EncoderSpec, threads: int = 1) -> None:
        self.name = str(spec)
        task_file = Path(spec.weights) if spec.weights else face_landmarker_file()
        self._landmarker = FaceLandmarker(task_file, threads)
        self.weights_sha256 = file_sha256(task_file)

    def reset(self) -> None:
        """Forgets the face that is being followed."""
        self._landmarker.reset()

    def encode(self, frames: Sequence[Frame]) -> Encoded:
        """One latent for each frame."""
        latents = np.zeros((len(frames), self.latent_size), np.float16)
        faces = np.zeros(len(frames), np.uint8)
        for i, (time_s, rgb) in enumerate(frames):
            face = self._landmarker(rgb, time_s)
            if face is not None:
                latents[i] = geometry_latent(face.points, rgb.shape[1], rgb.shape[0])
                faces[i] = min(face.faces, 255)
        return Encoded(latents, np.array([time_s for time_s, _ in frames], np.float64), faces)


def geometry_latent(points: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """The latent [1440] float16 of one face.

    Args:
        points: [478, 3], x and y in pixels of the picture, z times the picture's width, as MediaPipe's face
            landmarker has them; a browser may have found them.
        width_px, height_px: of the picture.

    Raises:
        ValueError: the points have another shape, are not finite, or lie all in one place.
    """
    points = np.array(points, np.float64)
    if points.shape != (POINTS, 3) or not np.isfinite(points).all() or width_px <= 0 or height_px <= 0:
        raise ValueError(f"a face must be [{POINTS}, 3] finite numbers on a picture, not {list(points.shape)}")
    head = _reference_head()
    rigid = head.rigid
    points[:, 2] /= depth_stretch(face_angle(points), width_px, height_px)
    centre = points[rigid].mean(axis=0)
    eye_distance_px = np.linalg.norm(points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER])
    if not 0 < eye_distance_px < 1e6:
        raise ValueError("a face must have its eyes in two places")
    rotation = rotation_between(head.points[rigid], points[rigid])
    shape = (points - centre) @ rotation / eye_distance_px
    place = (centre[:2] - (width_px / 2, height_px / 2)) / width_px
    turn = cv2.Rodrigues(rotation)[0].ravel()
    size = np.log(eye_distance_px / width_px)
    latent = np.concatenate([shape.ravel(), turn, place, [size]])
    if np.abs(latent).max() > np.finfo(np.float16).max:
        raise ValueError("a face must not be thousands of times as large as the distance between its eyes")
    return latent.astype(np.float16)


def head_points(latents: np.ndarray) -> np.ndarray:
    """Points [..., 478, 3] in the head's own frame out of latents [..., 1440]."""
    return latents[..., :_SHAPE_SIZE].reshape(*latents.shape[:-1], POINTS, 3)


def head_place(latents: np.ndarray) -> np.ndarray:
    """[..., 3] out of latents [..., 1440]: the head's place x, y from the picture's middle and the distance between the
    outer eye corners, all in picture widths."""
    x, y, log_size = np.moveaxis(latents[..., _SHAPE_SIZE + 3 :].astype(np.float64), -1, 0)
    return np.stack([x, y, np.exp(log_size)], axis=-1)


def mirror_latent(latents: np.ndarray) -> np.ndarray:
    """Latents [..., 1440] of the same faces seen in a mirror; twice gives the original back."""
    shape = head_points(latents)[..., _reference_head().mirror, :] * _POINT_SIGNS.astype(latents.dtype)
    pose = latents[..., _SHAPE_SIZE:] * _POSE_SIGNS.astype(latents.dtype)
    return np.concatenate([shape.reshape(*latents.shape[:-1], _SHAPE_SIZE), pose], axis=-1)


def rotation_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation R [3, 3] that makes R @ source[i] fit target[i] best, [N, 3] about their centroids."""
    # OpenCV, because NumPy's calls take several times as long on so small a matrix.
    _, u, vt = cv2.SVDecomp((source - source.mean(axis=0)).T @ (target - target.mean(axis=0)))
    # Without the sign a flat or mirrored set of points could be fitted by a reflection.
    handedness = math.copysign(1, cv2.determinant(u @ vt))
    return (u * (1, 1, handedness) @ vt).T


@functools.cache
def _reference_head() -> _ReferenceHead:
    stored = json.loads(REFERENCE_HEAD_FILE.read_text(encoding="utf-8"))
    return _ReferenceHead(
        points=np.array(stored["points"]), mirror=np.array(stored["mirror"]), rigid=np.array(stored["rigid"])
    )
