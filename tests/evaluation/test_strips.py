"""Strips of a face hold the frames of their times, cut around the head."""

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from natural_video_llm.evaluation.reporting.strips import GEOMETRY, Span, face_strips
from natural_video_llm.preprocessing.encoders.face_geometry import FaceGeometryEncoder, head_place
from natural_video_llm.sessions import events
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import Latents, latents_file, save_latents
from natural_video_llm.sessions.video import SegmentWriter

RATE_HZ, LENGTH_S, WIDTH_PX, HEIGHT_PX = 10, 2.0, 160, 120


def grey_at(time_s: float) -> float:
    """Pictures grow brighter with time."""
    return 20 + 50 * time_s


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Two segments of two seconds each; a white square marks a place on every picture."""
    start = events.SessionStart(session_id="s", started_utc="2026-01-01T00:00:00Z", filmed_speaker="ann", consent="-")
    with SessionWriter(tmp_path, start) as writer:
        for number in range(2):
            file = f"video/{number:06d}.mp4"
            begin_s = number * LENGTH_S
            writer.append(events.VideoSegmentStart(t=begin_s, file=file))
            segment = SegmentWriter(tmp_path / file, WIDTH_PX, HEIGHT_PX)
            times = begin_s + np.arange(int(RATE_HZ * LENGTH_S)) / RATE_HZ
            for time_s in times:
                picture = np.full((HEIGHT_PX, WIDTH_PX, 3), round(grey_at(time_s)), np.uint8)
                picture[50:58, 120:128] = 255
                segment.write(picture, float(time_s))
            segment.close()
            writer.append(events.VideoSegmentEnd(t=float(times[-1]), file=file, frames=len(times)))
    return Session(tmp_path)


def cells(strip: str | None, frames: int) -> list[np.ndarray]:
    assert strip is not None
    content = base64.b64decode(strip.partition(",")[2])
    return np.split(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE), frames, axis=1)


def test_each_cell_is_the_newest_frame_at_its_time(session: Session) -> None:
    spans = [Span(1.0, 3.0, 4), Span(0.5, 1.5, 2)]  # over the end of a segment, and out of order
    for span, strip in zip(spans, face_strips(session, spans), strict=True):
        shown = [float(np.median(cell)) for cell in cells(strip, span.frames)]
        newest = [grey_at(np.floor(t * RATE_HZ + 1e-6) / RATE_HZ) for t in span.times]
        assert shown == pytest.approx(newest, abs=2.5)


def test_a_time_without_a_picture_is_left_blank(session: Session) -> None:
    first, _, last = cells(face_strips(session, [Span(3.5, 6.5, 3)])[0], 3)
    assert np.median(first) == pytest.approx(grey_at(3.9), abs=2.5)
    assert np.median(last) == 128
    assert face_strips(session, [Span(8.0, 9.0, 3)]) == [None]


def test_the_cut_follows_the_head(session: Session) -> None:
    whole = cells(face_strips(session, [Span(1.0, 2.0, 2)])[0], 2)[0]
    assert whole.shape == (72, 96), "the whole picture where nobody knows where the head is"
    latents = np.zeros((40, FaceGeometryEncoder.latent_size), np.float16)
    latents[:, -3:] = (124 - 80) / WIDTH_PX, (54 - 60) / WIDTH_PX, np.log(10 / WIDTH_PX)
    assert head_place(latents[0]) == pytest.approx([0.275, -0.0375, 0.0625], abs=1e-3)
    for number, part in enumerate(np.split(latents, 2)):
        times = number * LENGTH_S + np.arange(20) / RATE_HZ
        made = Latents(part, times, np.ones(20, bool), GEOMETRY, "0" * 64, "")
        save_latents(latents_file(session, GEOMETRY, f"video/{number:06d}.mp4"), made)
    cut = cells(face_strips(session, [Span(1.0, 2.0, 2)])[0], 2)[0]
    assert cut.shape == (72, 72)
    down, right = np.argwhere(cut > 200).mean(0)
    assert right == pytest.approx(36, abs=4), "the mark is in the middle"
    assert 24 < down < 36, "and a little above it"
