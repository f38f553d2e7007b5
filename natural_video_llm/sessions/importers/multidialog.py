"""MultiDialog (IVLLab; acted dialogues of twelve people) → session folders.

    metadata/<part>/<part>_metadata_0000.jsonl …     or one metadata.jsonl; part: train, valid_freq, test_rare, …
    …/<conversation>/<conversation>_<number><actor>.wav and .mp4     one utterance each, anywhere below the folder

A line of the metadata has conv_id, utterance_id, from, value (the words) and the name of its sound file (file_name,
or original_full_path or audpath); its other fields, the emotion among them, are passed over. Nothing says how long
the pauses between utterances were: they are laid end to end, each as long as its video or sound. An actor is filmed
while speaking alone; what the other one says falls into a gap of the video.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.importers.takes import Clip, Material, Report, Take, import_takes, media_length_s

_SOUND_FIELDS = ("file_name", "original_full_path", "audpath")
_ACTOR = re.compile(r"_\d+([a-z])$")
_PARTS = ("train", "valid", "test")
# Two utterances of one actor may follow each other: a frame of the second is later than the last of the first.
_FRAME_S = 0.04


@dataclass(frozen=True)
class Line:
    """One utterance of the metadata and where it stands there."""

    where: str
    number: int
    speaker: str
    actor: str | None
    words: str
    stem: str


def is_multidialog(folder: Path) -> bool:
    return any(_is_metadata(path) for path in _metadata_files(folder))


def import_multidialog(folder: Path, out: Path, progress: Callable[[int, int], None], report: Report) -> None:
    """One session for each actor of a dialogue who has videos; what both say is in it.

    Raises:
        UserError: no metadata is there, or the disk is full.
    """
    files = [path for path in _metadata_files(folder) if _is_metadata(path)]
    if not files:
        raise UserError(f"{folder}: no metadata .jsonl with conv_id and value; put MultiDialog's metadata there")
    videos, sounds = ({path.stem: path for path in sorted(folder.rglob(kind))} for kind in ("*.mp4", "*.wav"))
    takes: list[Take] = []
    for path in files:
        part = next((part for part in _PARTS if path.name.startswith(part)), None)
        for conversation, lines in sorted(_read_metadata(path, report).items()):
            filmed = sorted({line.speaker for line in lines if line.stem in videos})
            if not filmed:
                report.skip(f"{path}: {conversation}", "no video of any utterance")
            takes += [_take(conversation, lines, speaker, videos, sounds, part) for speaker in filmed]
    import_takes(_each_once(takes), out, progress, report)


def _each_once(takes: list[Take]) -> list[Take]:
    """The combined metadata.jsonl repeats what stands in the parts' own files, which know their part."""
    by_id: dict[str, Take] = {}
    for take in takes:
        if take.session_id not in by_id or take.source_split:
            by_id[take.session_id] = take
    return list(by_id.values())


def _take(
    conversation: str,
    lines: list[Line],
    filmed: str,
    videos: dict[str, Path],
    sounds: dict[str, Path],
    part: str | None,
) -> Take:
    @contextmanager
    def read(report: Report) -> Iterator[Material | None]:
        yield _lay_out(lines, filmed, videos, sounds, report)

    actor = next((line.actor for line in lines if line.speaker == filmed), None)
    return Take(
        session_id=re.sub(r"[^A-Za-z0-9._-]+", "_", f"{conversation}_{actor or filmed}"),
        filmed_speaker=filmed,
        person=f"multidialog_{actor}" if actor else f"{conversation}_{filmed}",
        consent=f"imported from dialogue {conversation} of MultiDialog; consent lies with the makers of the data set",
        read=read,
        source_split=part,
    )


def _lay_out(
    lines: list[Line], filmed: str, videos: dict[str, Path], sounds: dict[str, Path], report: Report
) -> Material | None:
    """The utterances end to end."""
    now_s = 0.0
    clips, texts = [], []
    for line in lines:
        video = videos.get(line.stem)
        file = video or sounds.get(line.stem)
        length_s = media_length_s(file) if file else None
        if length_s is None:
            report.skip(line.where, "neither video nor sound says how long this utterance is, so the dialogue has gaps")
            return None
        if video is not None and line.speaker == filmed:
            clips.append(Clip(video, now_s))
        if line.words:
            texts.append(
                Text(speaker=line.speaker, text=line.words, t_start=now_s, t_end=now_s + length_s, timing="utterance")
            )
        now_s += length_s + _FRAME_S
    return Material(clips, texts)


def _metadata_files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*.jsonl") if "metadata" in path.name)


def _is_metadata(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = json.loads(file.readline())
        return "conv_id" in first and "value" in first
    except (OSError, ValueError, TypeError):
        return False


def _read_metadata(path: Path, report: Report) -> dict[str, list[Line]]:
    """The lines of each dialogue, in order."""
    dialogues: dict[str, dict[int, Line]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, content in enumerate(file, start=1):
                where = f"{path}: line {number}"
                found = _line(where, content)
                if isinstance(found, str):
                    report.skip(where, found)
                elif found is not None:
                    conversation, line = found
                    dialogues.setdefault(conversation, {})[line.number] = line
    except (OSError, UnicodeDecodeError):
        report.skip(path, "the metadata cannot be read to its end")
    return {name: [lines[number] for number in sorted(lines)] for name, lines in dialogues.items()}


def _line(where: str, content: str) -> tuple[str, Line] | str | None:
    if not content.strip():
        return None
    try:
        entry: dict[str, Any] = json.loads(content)
        conversation, number = str(entry["conv_id"]), int(entry["utterance_id"])
        speaker, words = str(entry["from"]), str(entry["value"]).strip()
        stem = Path(str(next(entry[name] for name in _SOUND_FIELDS if entry.get(name)))).stem
    except json.JSONDecodeError:
        return "no JSON"
    except (AttributeError, LookupError, StopIteration, TypeError, ValueError):
        return "no conv_id, utterance_id, from, value and name of a sound file"
    actor = _ACTOR.search(stem)
    return conversation, Line(where, number, speaker, actor[1] if actor else None, words, stem)
