"""A portrait and the basic movements of its face, as displacement fields.

The portrait is NASA's of Eileen Collins (public domain, `skimage.data.astronaut`). A movement is a smooth
backward warp: a few facial points are moved by hand-set amounts, points that stay are pinned, and Gaussian
radial basis functions spread the displacement between them (Arad et al. 1994, "Image warping by radial basis
functions").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders.face_landmarks import (
    LEFT_EYE_OUTER,
    RIGHT_EYE_OUTER,
    FaceLandmarker,
)

MOVEMENTS = (
    "corners_out_up",
    "corners_down",
    "inner_brows_up",
    "brows_up",
    "brows_together",
    "lips_pressed",
    "jaw_down",
    "lids_down",
)

_CROP_PX = (35, 0, 415, 300)  # left, top, right, bottom in the astronaut's picture
_ZOOM = 2  # the texture is warped twice; twice the pixels keep it sharp
_FIELD_STEP_PX = 2

# Displacements in eye distances, x outwards from the middle of the face and y down, for a point of the right
# half of the face (the picture's left); its partner on the other half moves as in a mirror.
_PARTNER = {
    61: 291, 205: 425, 50: 280, 145: 374, 159: 386, 33: 263, 133: 362, 105: 334, 107: 336, 55: 285, 66: 296,
    63: 293, 70: 300, 52: 282, 37: 267, 84: 314, 40: 270, 91: 321, 172: 397, 136: 365, 176: 400, 234: 454,
    54: 284, 48: 278, 65: 295, 53: 283, 223: 443, 161: 388, 157: 384, 82: 312, 87: 317, 67: 297,
}  # fmt: skip
Shifts = Mapping[int, tuple[float, float]]
_BROW_PINS = (33, 133, 145, 6, 54, 10, 67, 48)
_MOUTH_PINS = (33, 133, 145, 6, 1, 48, 172, 152, 234)

_SHIFTS: dict[str, Shifts] = {
    "corners_out_up": {
        61: (0.085, -0.085), 205: (0.035, -0.06), 50: (0.01, -0.035), 145: (0.0, -0.012), 0: (0, -0.01),
        17: (0, 0.0), 40: (0.035, -0.02), 91: (0.04, -0.02),
    },
    "corners_down": {
        61: (-0.01, 0.085), 205: (0.0, 0.02), 0: (0, -0.015), 13: (0, -0.01), 17: (0, -0.04),
        40: (0.0, 0.015), 91: (0.0, 0.02),
    },
    "inner_brows_up": {
        107: (-0.02, -0.125), 55: (-0.02, -0.115), 66: (0, -0.055), 65: (0, -0.05), 105: (0, -0.01),
        70: (0, 0.02), 157: (0, -0.01), 159: (0, 0),
    },
    "brows_up": {
        107: (0, -0.12), 55: (0, -0.105), 66: (0, -0.13), 105: (0, -0.135), 63: (0, -0.13), 70: (0, -0.10),
        65: (0, -0.115), 52: (0, -0.12), 53: (0, -0.11), 223: (0, -0.06), 159: (0, -0.018), 161: (0, -0.01),
        157: (0, -0.01),
    },
    "brows_together": {
        107: (-0.075, 0.085), 55: (-0.08, 0.085), 66: (-0.065, 0.085), 65: (-0.07, 0.08),
        105: (-0.035, 0.065), 52: (-0.04, 0.065), 63: (-0.015, 0.04), 70: (0, 0.01),
        159: (0, 0.014), 145: (0, -0.008),
    },
    "lips_pressed": {
        61: (-0.025, 0.01), 0: (0, 0.025), 37: (0, 0.02), 13: (0, 0.012), 14: (0, -0.012), 17: (0, -0.04),
        84: (0, -0.035), 40: (-0.01, 0.012), 91: (-0.01, -0.015),
    },
    "jaw_down": {
        14: (0, 0.075), 17: (0, 0.085), 87: (0, 0.07), 84: (0, 0.08), 91: (0, 0.045), 61: (-0.012, 0.02),
        152: (0, 0.09), 176: (0, 0.085), 136: (0, 0.06), 172: (0, 0.04), 13: (0, -0.004), 0: (0, -0.004),
    },
}  # fmt: skip
_SPREAD = {"lips_pressed": 0.13, "jaw_down": 0.24, "brows_up": 0.15}
_USUAL_SPREAD = 0.2

# The portrait smiles broadly with parted lips; at rest the corners are level and the lips nearly closed.
_SMILE_TAKEN_AWAY = 0.8
_LIPS_CLOSED: Shifts = {
    13: (0, 0.035), 82: (0, 0.03), 14: (0, -0.042), 87: (0, -0.038), 17: (0, -0.03), 84: (0, -0.026),
    0: (0, 0.005), 61: (0, 0.055), 40: (0, 0.02), 91: (0, 0.015),
}  # fmt: skip


@dataclass(frozen=True)
class Portrait:
    """The face at rest, and how it can move.

    texture: [H, W, 3] uint8 RGB.
    points: [478, 3] facial points at rest in texture pixels (z in the same scale, smaller is nearer).
    eye_px: distance between the outer eye corners in texture pixels.
    box_px: left, top, right, bottom of the part of the texture that the movements reach.
    fields: [movement, h, w, 2] float32 backward displacements (x, y) in texture pixels, on every second pixel
        of the box: a movement of weight w shows at p what the texture holds at p + w * field(p).
    """

    texture: np.ndarray
    points: np.ndarray
    eye_px: float
    box_px: tuple[int, int, int, int]
    fields: np.ndarray


def load_portrait(task_file: Path) -> Portrait:
    """The portrait at rest with its movements; facial points are found by the net in `task_file`.

    Raises:
        UserError: `task_file` is no face model, or it finds no face in the portrait.
    """
    left, top, right, bottom = _CROP_PX
    crop = astronaut()[top:bottom, left:right]
    smiling = cv2.resize(crop, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_LANCZOS4)
    landmarker = FaceLandmarker(task_file)
    points = _find_points(landmarker, smiling)

    whole = pixel_grid((0, 0, smiling.shape[1], smiling.shape[0]), 1)
    to_rest = -_SMILE_TAKEN_AWAY * _shift_field(whole, points, _SHIFTS["corners_out_up"], _USUAL_SPREAD)
    to_rest += _shift_field(whole, points, _LIPS_CLOSED, 0.12)
    texture = warp(smiling, whole + to_rest)

    points = _find_points(landmarker, texture)
    eye_px = eye_distance(points)
    low, high = points[:, :2].min(axis=0) - 0.35 * eye_px, points[:, :2].max(axis=0) + 0.35 * eye_px
    # Even sides, so that the fields on every second pixel cover the box exactly.
    x0, y0, x1, y1 = (2 * round(float(edge) / 2) for edge in (*low, *high))
    box = (max(x0, 0), max(y0, 0), min(x1, texture.shape[1]), min(y1, texture.shape[0]))
    return Portrait(texture, points, eye_px, box, _movement_fields(points, box))


def eye_distance(points: np.ndarray) -> float:
    """Distance between the outer eye corners of points [478, 3], in their unit."""
    return float(np.linalg.norm(points[LEFT_EYE_OUTER, :2] - points[RIGHT_EYE_OUTER, :2]))


def warp(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """What `picture` shows at the positions `where` [h, w, 2] float32 (x, y), mirrored beyond its edge."""
    return cv2.remap(  # type: ignore[call-overload]
        picture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def pixel_grid(box: tuple[int, int, int, int], step: int) -> np.ndarray:
    """[h, w, 2] float32 positions (x, y) of the centres of step x step blocks of pixels of the box."""
    x0, y0, x1, y1 = box
    middle = (step - 1) / 2
    x, y = np.arange(x0, x1, step) + middle, np.arange(y0, y1, step) + middle
    return np.stack(np.meshgrid(x, y), axis=-1).astype(np.float32)


def spread(grid: np.ndarray, centres: np.ndarray, values: np.ndarray, spread_px: float) -> np.ndarray:
    """Gaussian radial basis functions through `values` [n, d] at `centres` [n, 2], read on `grid` [h, w, 2].

    Returns [h, w, d] float32; it decays to 0 far from all centres.
    """

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=-1) / (2 * spread_px**2))

    # A small ridge: centres that nearly coincide must not blow the weights up.
    weights = np.linalg.solve(kernel(centres, centres) + 0.02 * np.eye(len(centres)), values)
    flat = np.zeros((grid.shape[0] * grid.shape[1], values.shape[1]))
    for centre, weight in zip(centres, weights, strict=True):
        flat += kernel(grid.reshape(-1, 2).astype(np.float64), centre[None]) * weight
    return flat.reshape(*grid.shape[:2], -1).astype(np.float32)


def _find_points(landmarker: FaceLandmarker, rgb: np.ndarray) -> np.ndarray:
    landmarker.reset()
    for _ in range(2):  # the region that is looked at settles over a few frames
        landmarker(rgb)
    face = landmarker(rgb)
    if face is None:
        raise UserError("the face model finds no face in the portrait; fetch face_landmarker.task again")
    return face.points.astype(np.float64)


def _movement_fields(points: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    grid = pixel_grid(box, _FIELD_STEP_PX)
    # Fading out towards the edge of the box hides the seam with the rest of the texture.
    h, w = grid.shape[:2]
    fade_y, fade_x = (np.clip(6 * np.minimum(u, 1 - u), 0, 1) for u in (np.linspace(0, 1, h), np.linspace(0, 1, w)))
    fade = (fade_y[:, None] * fade_x)[..., None].astype(np.float32)
    fields = [
        fade * (
            _lid_field(grid, points)
            if name == "lids_down"
            else _shift_field(grid, points, _SHIFTS[name], _SPREAD.get(name, _USUAL_SPREAD))
        )
        for name in MOVEMENTS
    ]  # fmt: skip
    return np.ascontiguousarray(np.stack(fields))


def _shift_field(grid: np.ndarray, points: np.ndarray, shifts: Shifts, spread_eyes: float) -> np.ndarray:
    """Backward field that moves the points of `shifts` and leaves the pinned ones where they are."""
    eye_px = eye_distance(points)
    across = (points[LEFT_EYE_OUTER, :2] - points[RIGHT_EYE_OUTER, :2]) / eye_px
    axes = np.array([across, [-across[1], across[0]]])
    moved: dict[int, np.ndarray] = {}
    for point, (outwards, down) in shifts.items():
        moved[point] = np.array([-outwards, down]) @ axes * eye_px
        if point in _PARTNER:
            moved[_PARTNER[point]] = np.array([outwards, down]) @ axes * eye_px
    brows = any(point in shifts for point in (107, 55))
    for pin in _BROW_PINS if brows else _MOUTH_PINS:
        for point in {pin, _PARTNER.get(pin, pin)}:
            moved.setdefault(point, np.zeros(2))
    values = np.array(list(moved.values()))
    # A backward warp is asked where things come from: at the place where a point will be, not where it was.
    centres = points[list(moved), :2] + 0.7 * values
    return spread(grid, centres, -values, spread_eyes * eye_px)


_RIGHT_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133))
_LEFT_LIDS = ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263))


def _lid_field(grid: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Upper lids down to the lower ones: the skin below the brow stretches, the open eye is squeezed away."""
    field = np.zeros_like(grid)
    eye_px = eye_distance(points)
    x, y = grid[..., 0], grid[..., 1]
    for upper, lower in (_RIGHT_LIDS, _LEFT_LIDS):
        above, below = (np.interp(x, points[lid, 0], points[lid, 1]) for lid in (list(upper), list(lower)))
        corners = points[[upper[0], upper[-1]], 0]
        opening = np.where((x > corners[0]) & (x < corners[1]), np.maximum(below - above, 0), 0)
        rise = np.clip((y - (above - 0.2 * eye_px)) / (below - above + 0.2 * eye_px), 0, 1)
        fall = np.clip(1 - (y - below) / (0.04 * eye_px), 0, 1)
        field[..., 1] -= opening * rise**2 * (3 - 2 * rise) * fall
    return field
