"""A person's face over some seconds of a session, as one picture: what a judge or a rater is shown."""

import cv2
import numpy as np

from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.video import read_frames

_COLUMNS, _ROWS = 4, 2
FRAMES = _COLUMNS * _ROWS
_TILE_PX = 224
_MARGIN = 0.25
_JPEG_QUALITY = 85


def contact_sheet(session: Session, after_s: float, until_s: float, landmarker: FaceLandmarker) -> bytes | None:
    """A JPEG of `FRAMES` evenly spaced moments, in order from left to right and then down; None where no face is seen.

    All are cut to the same square, which holds the face in each of them and little of the room.

    Raises:
        UserError: the video cannot be read.
    """
    frames = frames_at(session, np.linspace(after_s, until_s, FRAMES))
    boxes = [box for box in (_face_box(rgb, landmarker) for rgb in frames) if box is not None]
    if not boxes:
        return None
    low, high = np.min([b[0] for b in boxes], axis=0), np.max([b[1] for b in boxes], axis=0)
    tiles = [_square(rgb, low, high) for rgb in frames]
    tiles += [np.zeros_like(tiles[0])] * (FRAMES - len(tiles))
    rows = [np.hstack(tiles[i : i + _COLUMNS]) for i in range(0, FRAMES, _COLUMNS)]
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def frames_at(session: Session, moments_s: np.ndarray) -> list[np.ndarray]:
    """For each moment the newest frame that was there, rgb [H, W, 3] uint8; moments before the first frame are left
    out."""
    starts = {e.file: e.t for e in session.segment_starts}
    frames: list[np.ndarray] = []
    newest: np.ndarray | None = None
    waiting = [float(moment) for moment in moments_s]
    for segment in session.finished_segments:
        if not waiting or segment.t < waiting[0] or starts.get(segment.file, 0.0) > waiting[-1]:
            continue
        for time_s, rgb in read_frames(session.path / segment.file, from_s=waiting[0]):
            while waiting and time_s > waiting[0]:
                waiting.pop(0)
                if newest is not None:
                    frames.append(newest)
            newest = rgb
            if not waiting:
                break
    # The video ended before the last moments did.
    return frames + ([newest] * len(waiting) if newest is not None else [])


def _face_box(rgb: np.ndarray, landmarker: FaceLandmarker) -> tuple[np.ndarray, np.ndarray] | None:
    landmarker.reset()  # frames lie too far apart to be followed
    face = landmarker(rgb)
    return None if face is None else (face.points[:, :2].min(0), face.points[:, :2].max(0))


def _square(rgb: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The square around the box from `low` to `high` (x, y in pixels) with a margin; black outside the picture."""
    side_px = max(1, round(float((high - low).max()) * (1 + 2 * _MARGIN)))
    left, top = (round(float(x)) for x in (low + high) / 2 - side_px / 2)
    height, width = rgb.shape[:2]
    right, bottom = left + side_px, top + side_px
    inside = rgb[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    borders = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    square = cv2.copyMakeBorder(inside, *borders, cv2.BORDER_CONSTANT)
    return cv2.resize(square, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_AREA)
