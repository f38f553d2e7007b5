"""Clips with word timings → session folders."""

import html
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.clock import utc_now
from natural_video_llm.sessions.events import (
    SessionEnd,
    SessionStart,
    Text,
    VideoSegmentEnd,
    VideoSegmentStart,
)
from natural_video_llm.sessions.folder import SessionWriter
from natural_video_llm.sessions.video import SegmentWriter, read_frames

VIDEO_SUFFIXES = (".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".webm", ".avi", ".m4v")
_SEGMENT_S = 10.0
_ALIGN_UNITS_PER_S = 25_000  # GRID counts in samples of its 25 kHz sound
_SILENCE = {"sil", "sp"}


@dataclass(frozen=True)
class Word:
    text: str
    t_start: float
    t_end: float


def import_clips(folder: Path, out: Path, person: str, progress: Callable[[int, int], None]) -> None:
    """One session folder for each video in `folder` with a transcript of the same name.

    Other videos are left out. Finished sessions in `out` are kept as they are.

    Raises:
        UserError: no such clip, two of one name, or a damaged transcript (file and line are named).
    """
    clips = [(v, t) for v in sorted(_videos(folder)) for t in [_transcript_of(v)] if t is not None]
    if not clips:
        known = ", ".join(READERS)
        raise UserError(f"{folder}: no video with a transcript of the same name beside it ({known})")
    by_id: dict[str, Path] = {}
    for video, _ in clips:
        other = by_id.setdefault(_session_id(video), video)
        if other != video:
            raise UserError(f"{other} and {video} would both become session {_session_id(video)}; rename one of them")
    for done, (video, transcript) in enumerate(clips, start=1):
        session_id = _session_id(video)
        target = out / session_id
        if not (target / "session.jsonl").exists():
            _import_clip(video, READERS[transcript.suffix.lower()](transcript), target, session_id, person)
        progress(done, len(clips))


def _session_id(video: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", video.stem)


def _videos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the folder that holds the clips")
    return [p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.name[0] != "."]


def _transcript_of(video: Path) -> Path | None:
    return next((p for suffix in READERS if (p := video.with_suffix(suffix)).is_file()), None)


def _import_clip(video: Path, utterances: list[Text], target: Path, session_id: str, person: str) -> None:
    """Write beside, then rename: a session is there whole or not at all."""
    beside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    start = SessionStart(
        session_id=session_id,
        started_utc=utc_now(),
        filmed_speaker="speaker",
        person=person,
        consent=f"imported from {video.name}; consent lies with the source of the clip",
    )
    with SessionWriter(beside, start) as writer:
        end_s = 0.0
        for event in _copy_video(video, beside):
            writer.append(event)
            end_s = event.t
        for utterance in utterances:
            writer.append(utterance)
        writer.append(SessionEnd(t=max([end_s, *(u.t_end for u in utterances)])))
    beside.rename(target)


def _copy_video(video: Path, session: Path) -> list[VideoSegmentStart | VideoSegmentEnd]:
    """Re-encode into segments of 10 s; times count from the clip's first frame, as transcripts do."""
    events: list[VideoSegmentStart | VideoSegmentEnd] = []
    writer: SegmentWriter | None = None
    first_s: float | None = None
    opened_s = last_s = -1.0
    for time_s, rgb in read_frames(video):
        first_s = time_s if first_s is None else first_s
        now_s = time_s - first_s
        if now_s <= last_s:
            continue
        height_px, width_px = (side // 2 * 2 for side in rgb.shape[:2])
        if writer is None or now_s - opened_s >= _SEGMENT_S:
            if writer is not None:
                events.append(_close(writer, events[-1].file, last_s))
            file, opened_s = f"video/{len(events) // 2:06d}.mp4", now_s
            writer = SegmentWriter(session / file, width_px, height_px, 25)
            events.append(VideoSegmentStart(t=now_s, file=file))
        writer.write(rgb[:height_px, :width_px], now_s)
        last_s = now_s
    if writer is None:
        raise UserError(f"{video}: not a single frame could be decoded; copy the clip again")
    events.append(_close(writer, events[-1].file, last_s))
    return events


def _close(writer: SegmentWriter, file: str, last_s: float) -> VideoSegmentEnd:
    writer.close()
    return VideoSegmentEnd(t=last_s, file=file, frames=writer.frames)


def read_align(path: Path) -> list[Text]:
    """GRID's `.align`: `start end word` a line, in 1/25,000 s; `sil` and `sp` are silence."""
    words = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            start, end, word = line.split()
            t_start, t_end = (int(time) / _ALIGN_UNITS_PER_S for time in (start, end))
            if not 0 <= t_start <= t_end:
                raise ValueError
        except ValueError:
            raise UserError(f"{path}: line {number} is not `start end word`; mend or remove it") from None
        if word not in _SILENCE:
            words.append(Word(word, t_start, t_end))
    return _utterances(path, [words])


def read_word_json(path: Path) -> list[Text]:
    """JSON as Whisper tools write it: `segments[]`, each with `words[]`, or flat `words[]`, or a list.

    A word has `word` (or `text`), `start` and `end` in seconds; one without times is timed by its
    neighbours. A segment without words becomes an utterance that is timed as a whole.
    """
    try:
        data = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno} is no JSON ({error.msg}); write the file again") from error
    try:
        return [text for segment in _json_segments(data) for text in _json_segment(path, segment)]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no words with start and end ({error!r}); export it with word time stamps") from error


def _json_segments(data: Any) -> list[dict]:
    if isinstance(data, dict):
        return data["segments"] if "segments" in data and not data.get("words") else [data]
    return data if all("words" in entry for entry in data) else [{"words": data}]


def _json_segment(path: Path, segment: dict) -> list[Text]:
    if segment.get("words") or "text" not in segment:
        return _utterances(path, [_json_words(segment["words"])])
    words = _utterances(path, [_json_words([segment])])
    return [text.model_copy(update={"timing": "utterance", "word_times": None}) for text in words]


def _json_words(entries: list[dict]) -> list[Word]:
    """Aligners leave out the times of figures and the like: such words fill the gap that they lie in."""
    timed = [(float(entry["start"]), float(entry["end"])) if "start" in entry else None for entry in entries]
    words = []
    for i, (entry, times) in enumerate(zip(entries, timed, strict=True)):
        if times is None:
            earlier = [t_end for _, t_end in filter(None, timed[:i])]
            later = [t_start for t_start, _ in filter(None, timed[i + 1 :])]
            t_start = earlier[-1] if earlier else later[0]
            times = t_start, max(t_start, later[0] if later else t_start)
        words.append(Word(str(entry["word"] if "word" in entry else entry["text"]).strip(), *times))
    return words


_CUE_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{3})")
_CUE = re.compile(rf"\s*({_CUE_TIME.pattern})\s+-->\s+({_CUE_TIME.pattern})")
_INLINE_TIME = re.compile(rf"<({_CUE_TIME.pattern})>")


def read_cues(path: Path) -> list[Text]:
    """VTT and SRT: one utterance a cue; VTT's `<00:00:01.500>` marks inside a cue give the words' times."""
    utterances: list[Text] = []
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*_text(path).splitlines(), ""], start=1):
        if line.strip():
            block.append((number, line))
            continue
        utterances += _cue(path, block)
        block = []
    return utterances


def _cue(path: Path, block: list[tuple[int, str]]) -> list[Text]:
    timing = next((i for i, (_, line) in enumerate(block) if "-->" in line), None)
    if timing is None:
        return []  # WEBVTT's header, a NOTE or a STYLE
    number, line = block[timing]
    match = _CUE.match(line)
    if match is None:
        raise UserError(f"{path}: line {number} is no `start --> end` in hours, minutes and seconds; mend it")
    start, end = (_cue_seconds(t) for t in line.split("-->")[:2])
    raw = " ".join(text.strip() for _, text in block[timing + 1 :])
    marks = [start, *(_cue_seconds(m.group(1)) for m in _INLINE_TIME.finditer(raw)), end]
    if marks != sorted(marks):
        raise UserError(f"{path}: line {number}: the times of this cue do not rise; mend them")
    pieces = _INLINE_TIME.split(raw)[:: 1 + _INLINE_TIME.groups]
    texts = [html.unescape(re.sub(r"<[^>]*>", "", piece)).strip() for piece in pieces]
    if len(pieces) > 1:
        words = [Word(text, *times) for text, times in zip(texts, pairwise(marks), strict=True)]
        return _utterances(path, [words])
    if not texts[0]:
        return []
    return [Text(speaker="speaker", text=texts[0], t_start=start, t_end=end, timing="utterance")]


def _cue_seconds(text: str) -> float:
    match = _CUE_TIME.search(text)
    assert match is not None
    hours, minutes, seconds, millis = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + millis / 1000


def _utterances(path: Path, groups: list[list[Word]]) -> list[Text]:
    found = []
    for words in groups:
        words = [w for w in words if w.text]
        if not words:
            continue
        spans, text = [], ""
        for word in words:
            text += " " if text else ""
            spans.append((len(text), len(text) + len(word.text), word.t_start, word.t_end))
            text += word.text
        bad = next((w for w in words if not 0 <= w.t_start <= w.t_end < math.inf), None)
        if bad is not None:
            raise UserError(f"{path}: the word {bad.text!r} ends before it starts or has no real time; mend its times")
        t_start, t_end = min(w.t_start for w in words), max(w.t_end for w in words)
        found.append(Text(speaker="speaker", text=text, t_start=t_start, t_end=t_end, timing="word", word_times=spans))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({error}); save it as UTF-8") from error


READERS: dict[str, Callable[[Path], list[Text]]] = {
    ".align": read_align,
    ".json": read_word_json,
    ".vtt": read_cues,
    ".srt": read_cues,
}
