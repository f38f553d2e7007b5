"""478 points of the largest face in a picture, tracked from frame to frame.

Two small nets out of MediaPipe's `face_landmarker.task` bundle do the work: the BlazeFace short-range
detector (Bazarevsky et al. 2019, arXiv:1907.05047) finds a face, the attention mesh (Grishchenko et al. 2020,
arXiv:2006.10962) puts points on it. As there, the detector runs only while no face is being followed, and the mesh
looks where MediaPipe's would: what its FaceLandmarker finds in a browser can take the place of what is found here.
"""

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from natural_video_llm.errors import UserError

POINTS = 478
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263

_DETECTOR_FILE = "face_detector.tflite"
_MESH_FILE = "face_landmarks_detector.tflite"
_DETECTOR_SIDE_PX = 128
_MESH_SIDE_PX = 256
_MIN_SCORE = 0.5
_MAX_OVERLAP = 0.3
_REGION_SCALE = 1.5
_COUNT_EVERY_S = 1.0
# What the detector sees [128, 128, 3] uint8, pixels of the picture for one of its own, where its corner lies there.
_Square = tuple[np.ndarray, float, np.ndarray]


@dataclass(frozen=True)
class FaceObservation:
    """One face in one picture.

    points: [478, 3] float32, x and y in pixels of the whole picture, z in the same scale (smaller is nearer) times
        `depth_stretch`, as MediaPipe has it.
    score: how sure the mesh net is that there is a face, 0 to 1.
    faces: how many faces there were when the whole picture was last looked at, at least one.
    """

    points: np.ndarray
    score: float
    faces: int


@dataclass(frozen=True)
class _Region:
    """A square on the picture, turned by `angle` radians (clockwise on the screen)."""

    centre_px: np.ndarray
    side_px: float
    angle: float

    def to_picture(self) -> np.ndarray:
        """[2, 3] affine map from the mesh net's crop to the picture."""
        step = self.side_px / _MESH_SIDE_PX
        axes = step * _turn(self.angle)
        corner = self.centre_px - axes @ np.full(2, _MESH_SIDE_PX / 2)
        return np.column_stack([axes, corner])


class FaceLandmarker:
    """Finds and follows one face, the largest one where there are several; counts them every second.

    A face narrower than about a ninth of the longer side of the picture is not found, but is followed.

    Raises `UserError` where `task_file` is no bundle with the two nets.
    """

    def __init__(self, task_file: Path, threads: int = 1) -> None:
        nets = _load_nets(task_file, threads)
        self._detector, self._mesh = nets[_DETECTOR_FILE], nets[_MESH_FILE]
        self._anchors = _anchors()
        self._crop = np.empty((_MESH_SIDE_PX, _MESH_SIDE_PX, 3), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forgets the face that is being followed."""
        self._track: _Region | None = None
        self._faces = 0
        self._counted_s = -math.inf

    def __call__(self, rgb: np.ndarray, time_s: float = 0.0) -> FaceObservation | None:
        """The face in `rgb` [H, W, 3] uint8 taken at `time_s` (which only decides when faces are counted), or None.

        Raises `ValueError` for any other kind of array.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
            raise ValueError(f"a picture must be [H, W, 3] uint8, not {list(rgb.shape)} {rgb.dtype}")
        rgb = np.ascontiguousarray(rgb)
        points, score = self._observe(rgb, self._track)
        if points is None or not 0 <= time_s - self._counted_s < _COUNT_EVERY_S:
            regions = self._detect(rgb, _averaged)
            self._faces, self._counted_s = self._count(rgb, regions), time_s
            if points is None and regions:
                points, score = self._observe_first(rgb, regions[0])
        self._track = None if points is None else _region_of(points)
        return None if points is None else FaceObservation(points, score, max(1, self._faces))

    def _observe(self, rgb: np.ndarray, region: _Region | None) -> tuple[np.ndarray | None, float]:
        """Points [478, 3] of the face in `region` and the score; no points where the net sees no face."""
        if region is None:
            return None, 0.0
        to_picture = region.to_picture()
        crop = _cut_out(rgb, to_picture, _MESH_SIDE_PX, cv2.BORDER_REPLICATE)
        np.multiply(crop, np.float32(1 / 255), out=self._crop)
        raw_points, raw_presence = self._mesh(self._crop)[:2]
        score = 1 / (1 + math.exp(-max(raw_presence.item(), -100.0)))
        if score < _MIN_SCORE:
            return None, score
        points = raw_points.reshape(POINTS, 3).astype(np.float64)
        points[:, :2] = points[:, :2] @ to_picture[:, :2].T + to_picture[:, 2]
        points[:, 2] *= region.side_px / _MESH_SIDE_PX * depth_stretch(region.angle, *rgb.shape[1::-1])
        return points.astype(np.float32), score

    def _count(self, rgb: np.ndarray, regions: list[_Region]) -> int:
        """Of several detections those in which the mesh sees a face too: the ring of a collar may pass for one."""
        if len(regions) < 2:
            return len(regions)
        return sum(self._observe(rgb, region)[0] is not None for region in regions)

    def _observe_first(self, rgb: np.ndarray, found: _Region) -> tuple[np.ndarray | None, float]:
        """As `_observe`, of a face that is in `found`, but looking where MediaPipe's detector would have found it.

        That one looks up single pixels, and so takes noise for faces and misses small ones: it may say where a face is,
        not whether. A picture that it would have to enlarge it gets half a pixel wrong.
        """
        seen = self._observe(rgb, found)
        if seen[0] is None or max(rgb.shape[:2]) < _DETECTOR_SIDE_PX:
            return seen
        near = found.side_px / 4
        for region in self._detect(rgb, _sampled):
            if np.linalg.norm(region.centre_px - found.centre_px) < near:
                again = self._observe(rgb, region)
                return seen if again[0] is None else again
        return seen

    def _detect(self, rgb: np.ndarray, shrink: Callable[[np.ndarray], _Square]) -> list[_Region]:
        """Regions that may hold a face, the largest first."""
        square, scale, corner_px = shrink(rgb)
        raw_boxes, raw_scores = self._detector(square / np.float32(127.5) - 1)
        boxes = raw_boxes.reshape(-1, 8, 2).astype(np.float64)
        boxes[:, [0, 2, 3, 4, 5, 6, 7]] += self._anchors[:, None]
        faces = _distinct(boxes, _sigmoid(raw_scores.reshape(-1)))
        faces.sort(key=lambda face: -float(np.prod(face[1])))
        return [
            _Region(
                centre_px=centre * scale + corner_px,
                side_px=_REGION_SCALE * float(size.max()) * scale,
                angle=_angle(right_eye, left_eye),
            )
            for centre, size, right_eye, left_eye, *_ in faces
        ]


class _Net:
    """One TFLite net held in memory: input [H, W, C] float32 → its outputs in file order."""

    def __init__(self, content: bytes, threads: int) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, picture[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output) for output in self._outputs]


def _load_nets(task_file: Path, threads: int) -> dict[str, _Net]:
    remedy = "delete it and fetch it again, or give the path of MediaPipe's face_landmarker.task"
    try:
        with zipfile.ZipFile(task_file) as bundle:
            missing = {_DETECTOR_FILE, _MESH_FILE} - set(bundle.namelist())
            if missing:
                raise UserError(f"{task_file}: the bundle lacks {', '.join(sorted(missing))}; {remedy}")
            return {name: _Net(bundle.read(name), threads) for name in (_DETECTOR_FILE, _MESH_FILE)}
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise UserError(f"{task_file}: not a readable face model bundle ({error}); {remedy}") from error


def _averaged(rgb: np.ndarray) -> _Square:
    """The picture as the detector sees it, each pixel the average of those that it stands for."""
    height, width = rgb.shape[:2]
    scale = max(height, width) / _DETECTOR_SIDE_PX
    small = cv2.resize(rgb, (max(1, round(width / scale)), max(1, round(height / scale))), interpolation=cv2.INTER_AREA)
    top, left = (_DETECTOR_SIDE_PX - small.shape[0]) // 2, (_DETECTOR_SIDE_PX - small.shape[1]) // 2
    square = np.zeros((_DETECTOR_SIDE_PX, _DETECTOR_SIDE_PX, 3), np.uint8)
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square, scale, -scale * np.array([left, top])


def _sampled(rgb: np.ndarray) -> _Square:
    """The picture as MediaPipe's detector sees it, each pixel interpolated between four."""
    corner_px = (np.array(rgb.shape[1::-1]) - max(rgb.shape[:2])) / 2
    scale = max(rgb.shape[:2]) / _DETECTOR_SIDE_PX
    to_picture = np.column_stack([scale * np.eye(2), corner_px])
    return _cut_out(rgb, to_picture, _DETECTOR_SIDE_PX, cv2.BORDER_CONSTANT), scale, corner_px


def _anchors() -> np.ndarray:
    """[896, 2] centres (x, y) in detector pixels: two in each cell of a 16x16 grid, six of 8x8."""
    grids = []
    for cells, repeats in ((16, 2), (8, 6)):
        centres = (np.arange(cells) + 0.5) * (_DETECTOR_SIDE_PX / cells)
        x, y = np.meshgrid(centres, centres)
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), repeats, axis=0))
    return np.concatenate(grids)


def _distinct(boxes: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Faces [8, 2] (centre, size, six key points) that hardly overlap.

    Boxes that overlap the best one are averaged by score, which keeps the face steadier than dropping them
    (the blending of the BlazeFace paper).
    """
    keep = scores >= _MIN_SCORE
    boxes, scores = boxes[keep], scores[keep]
    faces = []
    while len(boxes):
        same = _overlap(boxes[scores.argmax()], boxes) > _MAX_OVERLAP
        same[scores.argmax()] = True
        faces.append(np.average(boxes[same], axis=0, weights=scores[same]))
        boxes, scores = boxes[~same], scores[~same]
    return faces


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with each of `boxes` [N, 8, 2] → [N]."""
    low = np.maximum(box[0] - box[1] / 2, boxes[:, 0] - boxes[:, 1] / 2)
    high = np.minimum(box[0] + box[1] / 2, boxes[:, 0] + boxes[:, 1] / 2)
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(box[1]) + np.prod(boxes[:, 1], axis=1) - shared
    return shared / np.maximum(union, 1e-9)


def _cut_out(rgb: np.ndarray, to_picture: np.ndarray, side_px: int, border: int) -> np.ndarray:
    """[side_px, side_px, 3] uint8: what `to_picture` [2, 3] maps to; `border` is OpenCV's, beyond the picture's edge.

    Interpolates at steps of 1/32 px, as warps did before OpenCV 4.11 and do in MediaPipe.
    """
    steps = np.arange(side_px, dtype=np.float32)
    x, y = (np.add.outer(down * steps + start, across * steps) for across, down, start in to_picture.astype(np.float32))
    where, fractions = cv2.convertMaps(x, y, cv2.CV_16SC2)
    return cv2.remap(rgb, where, fractions, cv2.INTER_LINEAR, borderMode=border)


def _region_of(points: np.ndarray) -> _Region:
    """Where to look in the next frame: the square around the points, then turned with the eyes, and then some."""
    flat = points[:, :2].astype(np.float64)
    low, high = flat.min(axis=0), flat.max(axis=0)
    return _Region(
        centre_px=(low + high) / 2,
        side_px=_REGION_SCALE * float((high - low).max()),
        angle=face_angle(flat),
    )


def face_angle(points: np.ndarray) -> float:
    """How far the line through the eyes of points [478, 2 or 3] is turned, in radians, clockwise on the screen."""
    return _angle(points[RIGHT_EYE_OUTER], points[LEFT_EYE_OUTER])


def depth_stretch(angle: float, width_px: int, height_px: int) -> float:
    """How much too deep MediaPipe takes a face that it follows at that angle.

    It measures depth by an edge of the turned region, of which it takes the part across in picture widths and the part
    down in picture heights (its LandmarkProjectionCalculator).
    """
    return math.hypot(math.cos(angle), math.sin(angle) * width_px / height_px)


def _turn(angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _angle(right_eye: np.ndarray, left_eye: np.ndarray) -> float:
    across = left_eye - right_eye
    return math.atan2(across[1], across[0])


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -100, 100)))
