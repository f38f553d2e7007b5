"""Strips of a face, cut from a session's video."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders.face_geometry import head_place
from natural_video_llm.sessions.events import VideoSegmentStart
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import Latents, load_session_latents
from natural_video_llm.sessions.video import read_frames

GEOMETRY = "face-geometry"
_THUMB_PX = 72
_WEBP_QUALITY = 62
_STALE_S = 0.5
# A head with hair and chin, in distances between the outer eye corners.
_BOX_SIDE = 3.4
# The centroid of the points that place a head lies this much above the middle of hair and chin.
_BOX_DOWN = 0.15


@dataclass(frozen=True)
class Span:
    """A stretch of a session, in seconds since its start, that is shown in `frames` pictures."""

    start_s: float
    end_s: float
    frames: int

    @property
    def times(self) -> np.ndarray:
        """[frames], the middles of equal parts: a strip of them lies on a time axis."""
        return self.start_s + (np.arange(self.frames) + 0.5) * (self.end_s - self.start_s) / self.frames


def face_strips(session: Session, spans: Sequence[Span]) -> list[str | None]:
    """For each span a picture of its frames side by side, as a data URI; None where the video has none of them.

    A frame is the newest one at its time. The cut follows the head from strip to strip where the session has latents of
    face geometry, and stays put within a strip; else whole pictures are shown.
    """
    place = _places(session)
    boxes = [_box(place, span) for span in spans]
    wanted = sorted((time_s, i, k) for i, span in enumerate(spans) for k, time_s in enumerate(span.times))
    found: list[dict[int, np.ndarray]] = [{} for _ in spans]
    for (_, i, k), frame in zip(wanted, _newest(session, [time_s for time_s, _, _ in wanted]), strict=True):
        if frame is not None:
            found[i][k] = _thumb(frame, boxes[i])
    return [_strip(thumbs, span.frames) for thumbs, span in zip(found, spans, strict=True)]


def _newest(session: Session, times: Sequence[float]) -> Iterator[np.ndarray | None]:
    """The newest frame at each of the rising `times`, None where it is more than half a second old."""
    frames = _frames(session, times)
    upcoming = next(frames, None)
    newest: tuple[float, np.ndarray] | None = None
    for time_s in times:
        while upcoming is not None and upcoming[0] <= time_s:
            newest, upcoming = upcoming, next(frames, None)
        yield newest[1] if newest is not None and time_s - newest[0] <= _STALE_S else None


def _frames(session: Session, times: Sequence[float]) -> Iterator[tuple[float, np.ndarray]]:
    """Frames of those segments alone in which one of `times` lies; a file that is gone has none."""
    starts = {e.file: e.t for e in session.events if isinstance(e, VideoSegmentStart)}
    wanted = np.array(times)
    for segment in sorted(session.finished_segments, key=lambda s: s.t):
        start_s = starts.get(segment.file, 0.0)
        if not np.any((wanted >= start_s) & (wanted <= segment.t + _STALE_S)):
            continue
        try:
            yield from read_frames(session.path / segment.file)
        except UserError:
            continue


def _places(session: Session) -> tuple[np.ndarray, np.ndarray] | None:
    """Times [frames] and head places [frames, 3] of the frames with a face."""
    try:
        latents: Latents = load_session_latents(session, GEOMETRY)
    except UserError:
        return None
    return latents.times[latents.present], head_place(latents.latents[latents.present])


def _box(place: tuple[np.ndarray, np.ndarray] | None, span: Span) -> np.ndarray | None:
    """x, y, eye distance in the middle of what they are during the span; None where no face was there."""
    if place is None:
        return None
    inside = (place[0] >= span.start_s) & (place[0] <= span.end_s)
    return np.median(place[1][inside], axis=0) if inside.any() else None


def _thumb(rgb: np.ndarray, box: np.ndarray | None) -> np.ndarray:
    """[72, W, 3]: a square around the head, or the whole picture."""
    height, width = rgb.shape[:2]
    if box is None:
        size = (max(1, round(width * _THUMB_PX / height)), _THUMB_PX)
        return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    x, y, eyes = box * width
    side = max(2.0, min(_BOX_SIDE * eyes, width, height))
    left = int(np.clip(width / 2 + x - side / 2, 0, width - side))
    top = int(np.clip(height / 2 + y + _BOX_DOWN * eyes - side / 2, 0, height - side))
    cut = rgb[top : top + int(side), left : left + int(side)]
    return cv2.resize(cut, (_THUMB_PX, _THUMB_PX), interpolation=cv2.INTER_AREA)


def _strip(thumbs: dict[int, np.ndarray], frames: int) -> str | None:
    if not thumbs:
        return None
    width = max(thumb.shape[1] for thumb in thumbs.values())
    strip = np.full((_THUMB_PX, frames * width, 3), 128, np.uint8)
    for place, thumb in thumbs.items():
        strip[:, place * width : place * width + thumb.shape[1]] = thumb
    done, content = cv2.imencode(".webp", strip[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY])
    return f"data:image/webp;base64,{base64.b64encode(content.tobytes()).decode()}" if done else None
