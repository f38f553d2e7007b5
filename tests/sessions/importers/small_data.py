"""Small clips and transcripts for the importers to read."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np

from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.video import SegmentWriter

# What stands in files that no importer may open: not even text.
GARBAGE = b"\xff\xfe\x00LABEL joy valence AU12\x80\x81"


def make_clip(path: Path, frames: int = 12, rate_hz: int = 10, start_s: float = 0.0) -> Path:
    """A video of `frames` pictures, each of another grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = SegmentWriter(path, 64, 48, rate_hz)
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 10 * number % 250, np.uint8), start_s + number / rate_hz)
    writer.close()
    return path


def make_sound(path: Path, seconds: float, rate_hz: int = 16_000) -> None:
    """A file of silence, .wav or .mp4, without a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le" if path.suffix == ".wav" else "aac", rate=rate_hz, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=round(seconds * rate_hz))
        frame.sample_rate = rate_hz
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def save(path: Path, content: str | bytes | list | dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, (list, dict)):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def words_of(text: Text) -> list[tuple[str, float, float]]:
    return [(text.text[start:end], early, late) for start, end, early, late in text.word_times or []]


def word(text: str, start: float, end: float, **more: Any) -> dict[str, Any]:
    return {"word": text, "start": start, "end": end, **more}


_watched: list[str] | None = None


def _watch(event: str, arguments: tuple) -> None:
    if _watched is not None and event == "open" and isinstance(arguments[0], str):
        _watched.append(arguments[0])


sys.addaudithook(_watch)  # can never be taken off again


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The paths that Python opens meanwhile."""
    global _watched
    _watched = found = []
    try:
        yield found
    finally:
        _watched = None


def told(report: Any) -> dict[str, int]:
    """What an import left out, by reason."""
    return dict(report.skipped)
