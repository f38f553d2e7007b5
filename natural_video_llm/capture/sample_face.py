"""One of many different faces, all out of one portrait, rendered frame by frame."""

from collections.abc import Iterator

import cv2
import numpy as np

from natural_video_llm.capture.motion import SWAY
from natural_video_llm.capture.portrait import MOVEMENTS, Portrait, pixel_grid, spread, warp

WIDTH_PX, HEIGHT_PX = 320, 240

_SHAPE_STEP_PX = 4
_SWAY_STEP_PX = 4
_NOISE_BORDER_PX = 32


class SampleFace:
    """A person made from the portrait: the same `seed` gives the same one.

    Shape, light, colours, place in the picture, camera noise and blur, pose of the head, expressiveness, the
    face at rest and the liveliness of the head are the person's own.
    """

    def __init__(self, portrait: Portrait, seed: int | np.random.SeedSequence) -> None:
        rng = np.random.default_rng(seed)
        x0, y0, x1, y1 = portrait.box_px
        self._box = (slice(y0, y1), slice(x0, x1))
        self._box_grid = pixel_grid(portrait.box_px, 1)
        self._fields = portrait.fields.reshape(len(MOVEMENTS), -1)
        self._fields_shape = portrait.fields.shape[1:]
        self._gain, self._rest = _draw_expressiveness(rng)
        self._liveliness = rng.uniform(0.5, 1.5)
        self._texture = _relight(rng, portrait)
        self._moved = self._texture.copy()
        self._map = self._place(rng, portrait)
        self._sway_fields = _sway_fields(portrait, self._map)
        self._noise = _draw_noise(rng)

    def render(self, weights: np.ndarray, sway: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Frames [240, 320, 3] uint8 RGB, one for each row.

        Args:
            weights: [T, movement] weights of the portrait's movements.
            sway: [T, sway] of the head, in the units of `motion.SWAY`.
            rng: where in the sheet of camera noise each frame looks.
        """
        weights = (self._rest + self._gain * weights).astype(np.float32)
        sway = (self._liveliness * sway).astype(np.float32)
        for weight, lean in zip(weights, sway, strict=True):
            yield self._frame(weight, lean, rng)

    def _frame(self, weight: np.ndarray, lean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows, columns = self._box
        size = (columns.stop - columns.start, rows.stop - rows.start)
        shift = cv2.resize((weight @ self._fields).reshape(self._fields_shape), size)
        cv2.add(shift, self._box_grid, dst=shift)
        self._moved[rows, columns] = warp(self._texture, shift)
        coarse = (HEIGHT_PX // _SWAY_STEP_PX, WIDTH_PX // _SWAY_STEP_PX, 2)
        where = cv2.resize((lean @ self._sway_fields).reshape(coarse), (WIDTH_PX, HEIGHT_PX))
        cv2.add(where, self._map, dst=where)
        frame = warp(self._moved, where)
        y, x = rng.integers(0, _NOISE_BORDER_PX, 2)
        noise = self._noise[y : y + HEIGHT_PX, x : x + WIDTH_PX]
        return cv2.add(frame, noise, dst=frame, dtype=cv2.CV_8U)

    def _place(self, rng: np.random.Generator, portrait: Portrait) -> np.ndarray:
        """[H, W, 2] float32: which texture pixel each pixel of the picture shows while the head is still."""
        face = portrait.points[:, :2]
        height_px = np.ptp(face[:, 1])
        zoom = height_px / (HEIGHT_PX * rng.uniform(0.45, 0.55))
        middle = face.mean(axis=0)
        place = np.array([WIDTH_PX / 2, HEIGHT_PX * 0.52]) + rng.uniform(-1, 1, 2) * (28, 12)
        angle, shear = rng.normal(0, 0.045), rng.normal(0, 0.03)
        turn = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]])
        if rng.random() < 0.5:
            turn[:, 0] *= -1  # seen in a mirror
        grid = pixel_grid((0, 0, WIDTH_PX, HEIGHT_PX), 1)
        flat = ((grid - place) @ turn.T * zoom + middle).astype(np.float32)

        h, w = self._texture.shape[:2]
        shape = _draw_shape(rng, portrait, pixel_grid((0, 0, w, h), _SHAPE_STEP_PX))
        reach = (flat - (_SHAPE_STEP_PX - 1) / 2) / _SHAPE_STEP_PX
        return flat + warp(shape, reach.astype(np.float32))


def _draw_expressiveness(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gain and resting weight [movement] of a person; talking and blinks are not part of expressiveness."""
    gain = rng.uniform(0.85, 1.25) * rng.uniform(0.9, 1.1, len(MOVEMENTS))
    rest = rng.normal(0, 0.1, len(MOVEMENTS))
    for name, own_gain in (("jaw_down", rng.uniform(0.5, 1.0)), ("lids_down", 1.0)):
        gain[MOVEMENTS.index(name)] = own_gain
        rest[MOVEMENTS.index(name)] = 0.0
    return gain, rest


def _draw_shape(rng: np.random.Generator, portrait: Portrait, grid: np.ndarray) -> np.ndarray:
    """[h, w, 2] float32 backward displacement that turns the portrait's face into another person's.

    Known proportions first (x away from and y along the middle line, in eye distances), then smooth noise.
    """
    points, eye_px = portrait.points[:, :2], portrait.eye_px
    middle = points.mean(axis=0)
    u = (points - middle) / eye_px  # about -0.65..0.65 across and -0.9..0.9 down
    side = np.tanh(u[:, 0] / 0.15)

    def near(point: int, reach: float) -> np.ndarray:
        return np.exp(-((u - u[point]) ** 2).sum(axis=1) / (2 * reach**2))

    def near_both(right: int, left: int, reach: float) -> np.ndarray:
        return near(right, reach) + near(left, reach)

    def size(sd: float) -> float:
        return float(np.clip(rng.normal(0, sd), -1.8 * sd, 1.8 * sd))

    jaw, upper = np.clip(u[:, 1] - 0.2, 0, None), np.clip(-u[:, 1] - 0.3, 0, None)
    dx = size(0.07) * u[:, 0] + size(0.11) * jaw * u[:, 0] / 0.4 + size(0.12) * upper * u[:, 0]
    dy = size(0.07) * u[:, 1] + size(0.09) * jaw
    dx += side * size(0.03) * near_both(159, 386, 0.22)  # distance of the eyes
    dx += size(0.1) * u[:, 0] * near(13, 0.3) + side * size(0.025) * near(1, 0.15)  # mouth and nose width
    dy += size(0.035) * near_both(105, 334, 0.2) + size(0.03) * near(1, 0.18) + size(0.03) * near(13, 0.25)
    dy += size(0.012) * side * (near(105, 0.2) - near(334, 0.2))
    for lid, sign in ((159, -1), (386, -1), (145, 1), (374, 1)):
        dy += sign * size(0.009) * near(lid, 0.08)
    dx, dy = dx + size(0.025) * u[:, 1], dy + size(0.025) * u[:, 0]

    moves = eye_px * np.stack([dx, dy], axis=1)
    controls = np.r_[0:468:6]
    field = spread(grid, points[controls] + moves[controls], -moves[controls], 0.28 * eye_px)
    lumps = np.stack([rng.uniform(-0.8, 0.8, 14), rng.uniform(-1.0, 1.0, 14)], axis=1) * eye_px + middle
    return field + spread(grid, lumps, rng.normal(0, 0.016 * eye_px, (14, 2)), 0.3 * eye_px)


def _relight(rng: np.random.Generator, portrait: Portrait) -> np.ndarray:
    """The texture in another light and through another camera."""
    rgb = portrait.texture.astype(np.float32) / 255
    h, w = rgb.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    towards = (x - portrait.points[1, 0], y - portrait.points[1, 1])
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5)
    slope = (np.cos(angle) * towards[0] + np.sin(angle) * towards[1]) / (2 * portrait.eye_px)
    light = 1 + strength * np.tanh(slope)
    rgb = rgb * light[..., None] * rng.uniform(0.75, 1.05) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    grey = rgb.mean(axis=2, keepdims=True)
    rgb = np.clip(grey + rng.uniform(0.5, 1.3) * (rgb - grey), 0, 1) ** rng.uniform(0.75, 1.6)
    blur = rng.uniform(0.6, 2.0)
    return np.ascontiguousarray((255 * cv2.GaussianBlur(rgb, (0, 0), blur)).round().astype(np.uint8))


def _sway_fields(portrait: Portrait, still: np.ndarray) -> np.ndarray:
    """[sway, pixels * 2] float32: how the map `still` changes with each kind of sway, on every fourth pixel.

    The head moves, the room does not: everything fades with the distance from the face. Yaw and pitch shift
    each point by its depth.
    """
    coarse = cv2.resize(
        still,
        (still.shape[1] // _SWAY_STEP_PX, still.shape[0] // _SWAY_STEP_PX),
        interpolation=cv2.INTER_AREA,
    )
    points, eye_px = portrait.points, portrait.eye_px
    away = coarse - points[:, :2].mean(axis=0).astype(np.float32)
    fade = np.exp(-(((away / eye_px) ** 2 / (1.1**2, 1.3**2)).sum(axis=2) ** 1.5))
    chosen = np.r_[0:468:6]
    depth = spread(coarse, points[chosen, :2], -points[chosen, 2:] + 0.4 * eye_px, 0.35 * eye_px)[..., 0]
    zero = np.zeros_like(depth)
    moves = {
        "right": (zero + eye_px, zero),
        "down": (zero, zero + eye_px),
        "roll": (-away[..., 1], away[..., 0]),
        "yaw": (depth, zero),
        "pitch": (zero, depth),
    }
    fields = [-fade[..., None] * np.stack(moves[name], axis=-1) for name in SWAY]
    return np.ascontiguousarray(np.stack(fields), dtype=np.float32).reshape(len(SWAY), -1)


def _draw_noise(rng: np.random.Generator) -> np.ndarray:
    """A sheet of camera noise, int16 RGB, larger than the picture; each frame looks at another part of it."""
    shape = (HEIGHT_PX + _NOISE_BORDER_PX, WIDTH_PX + _NOISE_BORDER_PX)
    grain = rng.uniform(0.3, 1.8)
    grey, colour = rng.normal(0, grain, (*shape, 1)), rng.normal(0, grain / 2, (*shape, 3))
    return (grey + colour).round().astype(np.int16)
