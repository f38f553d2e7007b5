"""Transcripts with times → utterances."""

import html
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import Text

_ALIGN_UNITS_PER_S = 25_000  # GRID counts in samples of its 25 kHz sound
_SILENCE = {"sil", "sp"}
# How far a transcript may reach past the end of its video: a sound track is often a little longer.
_OVERHANG_S = 0.5


@dataclass(frozen=True)
class Word:
    text: str
    t_start: float
    t_end: float

    @property
    def has_real_times(self) -> bool:
        return 0 <= self.t_start <= self.t_end < math.inf


def spoken(words: Sequence[Word], speaker: str) -> Text:
    """One utterance of timed words, of which there is at least one, none empty and each with real times."""
    spans, text = [], ""
    for word in words:
        text += " " if text else ""
        spans.append((len(text), len(text) + len(word.text), word.t_start, word.t_end))
        text += word.text
    t_start, t_end = min(w.t_start for w in words), max(w.t_end for w in words)
    return Text(speaker=speaker, text=text, t_start=t_start, t_end=t_end, timing="word", word_times=spans)


def fault_in(text: Text, length_s: float) -> str | None:
    """What is wrong with the times of an utterance in a video of `length_s` seconds, None where nothing is."""
    starts = [start for _, _, start, _ in text.word_times or []]
    if starts != sorted(starts):
        return "the words are out of order"
    if text.t_end > length_s + _OVERHANG_S:
        return "ends after the video"
    return None


def read_align(path: Path) -> list[Text]:
    """GRID's `.align`: `start end word` a line, in 1/25,000 s; `sil` and `sp` are silence."""
    words = []
    for number, line in enumerate(read_utf8(path).splitlines(), start=1):
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
        data = json.loads(read_utf8(path))
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
        return _utterances(path, [timed_words(segment["words"])])
    words = _utterances(path, [timed_words([segment])])
    return [text.model_copy(update={"timing": "utterance", "word_times": None}) for text in words]


def timed_words(entries: list[dict]) -> list[Word]:
    """The words of a list of {`word` or `text`, `start`, `end`}, as aligners write it.

    They leave out the times of figures and the like: such words fill the gap that they lie in.

    Raises:
        AttributeError, LookupError, TypeError, ValueError: it is no such list.
    """
    timed = [
        (float(entry["start"]), float(entry["end"])) if entry.get("start") is not None else None for entry in entries
    ]
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
    for number, line in enumerate([*read_utf8(path).splitlines(), ""], start=1):
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
        bad = next((w for w in words if not w.has_real_times), None)
        if bad is not None:
            raise UserError(f"{path}: the word {bad.text!r} ends before it starts or has no real time; mend its times")
        if words:
            found.append(spoken(words, "speaker"))
    return found


def read_utf8(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); mend its rights or copy it again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({error}); save it as UTF-8") from error


READERS: dict[str, Callable[[Path], list[Text]]] = {
    ".align": read_align,
    ".json": read_word_json,
    ".vtt": read_cues,
    ".srt": read_cues,
}
