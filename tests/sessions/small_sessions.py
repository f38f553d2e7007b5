"""Small sessions made here: text, a video of two pictures a segment, and latents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from natural_video_llm.sessions import events
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import Latents, latents_file, save_latents
from natural_video_llm.sessions.video import SegmentWriter

CHAR = events.Text(
    speaker="ann",
    text="hé",
    t_start=0.1,
    t_end=0.4,
    timing="char",
    char_times=[0.2, 0.4],
    edits=[(0.1, 0, 0, "x"), (0.2, 0, 1, "h"), (0.4, 1, 0, "é")],
    how="typed",
)
WORDS = events.Text(
    speaker="bob",
    text="well, 你好",
    t_start=0.5,
    t_end=0.9,
    timing="word",
    word_times=[(0, 5, 0.5, 0.6), (6, 8, 0.7, 0.9)],
)
TEXTS = (CHAR, WORDS)


def make_session(
    path: Path, texts: Sequence[events.Event] = TEXTS, *, segments: int = 1, latents: Sequence[str] = (), **start: Any
) -> Session:
    """A session in the folder `path`, with latents of the encoders named (4 numbers a frame, half of them faces)."""
    fields = {
        "session_id": path.name,
        "started_utc": "2026-01-02T03:04:05.000+00:00",
        "filmed_speaker": "ann",
        "consent": "Ann said yes",
    }
    with SessionWriter(path, events.SessionStart.model_validate(fields | start)) as log:
        for number in range(segments):
            _write_segment(log, number)
        for text in texts:
            log.append(text)
        log.append(events.SessionEnd(t=float(segments)))
    session = Session(path)
    for encoder in latents:
        for number, segment in enumerate(session.finished_segments):
            save_latents(latents_file(session, encoder, segment.file), make_latents(encoder, number))
    return session


def _write_segment(log: SessionWriter, number: int) -> None:
    file = f"video/{number:06d}.mp4"
    log.append(events.VideoSegmentStart(t=float(number), file=file))
    writer = SegmentWriter(log.path / file, 32, 32)
    for time_s in (number, number + 0.5):
        writer.write(np.full((32, 32, 3), 40 * number, np.uint8), time_s)
    writer.close()
    log.append(events.VideoSegmentEnd(t=number + 0.5, file=file, frames=2))


def make_latents(encoder: str, number: int = 0, sha256: str = "ab" * 32) -> Latents:
    return Latents(
        latents=np.random.default_rng(number).normal(size=(2, 4)).astype(np.float16),
        times=np.array([number, number + 0.5]),
        present=np.array([True, False]),
        encoder=encoder,
        encoder_sha256=sha256,
        units="distances",
        crowded=number,
    )
