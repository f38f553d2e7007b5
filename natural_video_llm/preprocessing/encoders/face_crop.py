"""One face cut out of each picture: followed, turned upright, steady, with a margin, always of the same size."""

import math
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.preprocessing.encoders import Frame
from natural_video_llm.preprocessing.encoders.face_landmarks import (
    LEFT_EYE_OUTER,
    RIGHT_EYE_OUTER,
    FaceLandmarker,
    FaceObservation,
)

# From the top of the forehead to the chin a face measures about 1.8 of this unit, 2.2 with the mouth wide open.
SIDE_EYE_DISTANCES = 2.8
SMOOTHING_S = 0.25

_FOREHEAD, _CHIN = 10, 152
_FORGET_S = 0.5
# A face that moves fast may be this far from the middle (in sides, twice), from its size (ln) and from upright
# (radians), and no further.
_MAX_LAG = np.array([0.15, 0.15, 0.15, 0.2])


class FaceCropper:
    """Pictures with their times → the face on a square.

    The square is centred on the mean of the face's points and measures `SIDE_EYE_DISTANCES` three-dimensional
    distances between the outer eye corners, so that neither turning the head nor opening the mouth changes its size.
    Place, size and angle follow the face with a lag of `SMOOTHING_S` seconds, at any frame rate. What lies outside the
    picture is black.

    Args:
        task_file: the bundle of `FaceLandmarker`.
        side_px: of the square.
        whole_frame: the whole picture on the square, with black bars, in the face's place; for control experiments.

    Raises `UserError` where `task_file` is no usable bundle.
    """

    def __init__(self, task_file: Path, side_px: int, whole_frame: bool = False) -> None:
        self.side_px, self.whole_frame = side_px, whole_frame
        self._landmarker = FaceLandmarker(task_file)
        self.reset()

    def reset(self) -> None:
        """Forgets the face that is being followed."""
        self._landmarker.reset()
        self._place = _SteadyPlace()

    def crop(self, frame: Frame) -> tuple[np.ndarray | None, int]:
        """[side_px, side_px, 3] uint8 and how many faces there are; None and 0 where there is no face.

        Whether there is one does not depend on `whole_frame`.

        Raises:
            ValueError: the picture is no [H, W, 3] uint8.
        """
        time_s, rgb = frame
        face = self._landmarker(rgb, time_s)
        if face is None:
            return None, 0
        place = self._place.follow(time_s, _place_of(face))
        square = _letterboxed(rgb, self.side_px) if self.whole_frame else _cut(rgb, place, self.side_px)
        return square, face.faces


class _SteadyPlace:
    """Smooths a face's place, [centre x, centre y, ln side, angle] in pixels and radians, over time.

    A first-order lag, solved exactly for a place that moves evenly between two frames: what comes out at a given
    moment does not depend on how many frames there were until then.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._last_s = 0.0
        self._lag = np.zeros(4)

    def follow(self, time_s: float, place: np.ndarray) -> np.ndarray:
        """The smoothed place at `time_s`, where `place` has been observed."""
        if self._last is None or not 0 <= time_s - self._last_s < _FORGET_S:
            self._lag = np.zeros(4)
        else:
            step_s = max(time_s - self._last_s, 1e-6)
            moved = place - self._last
            moved[3] = math.remainder(moved[3], 2 * math.pi)
            kept = math.exp(-step_s / SMOOTHING_S)
            lag = moved * (SMOOTHING_S / step_s) * (1 - kept) + self._lag * kept
            side_px = math.exp(place[2])
            limit = _MAX_LAG * (side_px, side_px, 1, 1)
            self._lag = np.clip(lag, -limit, limit)
        self._last, self._last_s = place, time_s
        return place - self._lag


def _place_of(face: FaceObservation) -> np.ndarray:
    points = face.points.astype(np.float64)
    across = points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]
    down = points[_CHIN] - points[_FOREHEAD]
    # Both lines tell how the head is tilted; in profile the eyes lie behind each other, and the longer line decides.
    angle = math.atan2(across[1] - down[0], across[0] + down[1])
    side_px = SIDE_EYE_DISTANCES * max(float(np.linalg.norm(across)), 1.0)
    return np.array([*points[:, :2].mean(axis=0), math.log(side_px), angle])


def _cut(rgb: np.ndarray, place: np.ndarray, side_px: int) -> np.ndarray:
    """The square at `place`, turned upright."""
    scale = math.exp(place[2]) / side_px
    axes = scale * np.array([[math.cos(place[3]), -math.sin(place[3])], [math.sin(place[3]), math.cos(place[3])]])
    corner = place[:2] - axes @ np.full(2, (side_px - 1) / 2)
    if scale > 1:  # a linear look-up that skips pixels would flicker
        rgb, corner, axes = _shrunk(rgb, corner, axes, side_px, scale)
    to_picture = np.column_stack([axes, corner])
    return cv2.warpAffine(rgb, to_picture, (side_px, side_px), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _shrunk(
    rgb: np.ndarray, corner: np.ndarray, axes: np.ndarray, side_px: int, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of the picture that the square covers, `scale` times smaller by averaging, and the square on it."""
    corners = corner + np.array([(0, 0), (0, side_px), (side_px, 0), (side_px, side_px)]) @ axes.T
    size = np.array([rgb.shape[1], rgb.shape[0]])
    low = np.clip(np.floor(corners.min(axis=0)) - 2, 0, size - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 2, low + 1, size).astype(int)
    part = rgb[low[1] : high[1], low[0] : high[0]]
    small_size = np.maximum(1, np.round((high - low) / scale)).astype(int)
    ratio = small_size / (high - low)
    small = cv2.resize(part, (int(small_size[0]), int(small_size[1])), interpolation=cv2.INTER_AREA)
    # Pixel centres: where x lies in the part, (x + 0.5) * ratio - 0.5 lies in the small one.
    return small, (corner - low + 0.5) * ratio - 0.5, axes * ratio[:, None]


def _letterboxed(rgb: np.ndarray, side_px: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    scale = side_px / max(height, width)
    small_size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(rgb, small_size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.zeros((side_px, side_px, 3), np.uint8)
    top, left = (side_px - small.shape[0]) // 2, (side_px - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square
