"""CANDOR (BetterUp; under the CANDOR Corpus License) → session folders.

    <conversation>/
    ├── processed/<user>.mp4 …, channel_map.json ({"L": user, "R": user})
    ├── transcription/transcript_cliffhanger.csv, transcript_audiophile.csv, transcript_backbiter.csv
    ├── transcription/transcribe_output.json      the recogniser's own output, where words have times
    └── survey.csv, audio_video_features.csv, metadata.json, raw/     never opened

A turn has turn_id, speaker (a user), start, stop (seconds into the processed media) and utterance; its other columns
are passed over. The words of a turn are timed by the recogniser's items of that speaker's channel between start and
stop, where these are the very words of the turn; else the turn is timed as a whole.
"""

import csv
import json
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.importers.takes import Clip, Material, Report, Take, import_takes, media_length_s
from natural_video_llm.sessions.importers.transcripts import Word, fault_in, spoken

# The first that is there: whole sentences, then turns cut at every change of speaker, then turns without backchannels.
_TRANSCRIPTS = ("transcript_cliffhanger.csv", "transcript_audiophile.csv", "transcript_backbiter.csv")
_COLUMNS = ("speaker", "start", "stop", "utterance")
_CHANNELS = {"ch_0": "L", "ch_1": "R"}
# Turns are cut at the words' own times, written with two to three digits.
_ROUNDING_S = 0.02


def is_candor(folder: Path) -> bool:
    return bool(_conversations(folder))


def import_candor(folder: Path, out: Path, progress: Callable[[int, int], None], report: Report) -> None:
    """One session for each user with a processed video; what both said is in it.

    Raises:
        UserError: no conversation is there, or the disk is full.
    """
    conversations = _conversations(folder)
    if not conversations:
        raise UserError(f"{folder}: no conversation with transcription/{_TRANSCRIPTS[0]}; unpack the corpus there")

    @lru_cache(maxsize=2)  # a conversation's two sessions follow each other
    def turns(conversation: Path) -> list[Text]:
        return _read_turns(conversation, report)

    takes = []
    for conversation in conversations:
        users = _users(conversation)
        filmed = [user for user in users if (conversation / "processed" / f"{user}.mp4").is_file()]
        if not filmed:
            report.skip(conversation, "no processed video of either user")
        takes += [_take(conversation, user, turns) for user in filmed]
    import_takes(takes, out, progress, report)


def _conversations(folder: Path) -> list[Path]:
    found = {path.parent.parent for name in _TRANSCRIPTS for path in folder.rglob(f"transcription/{name}")}
    return sorted(found)


def _take(conversation: Path, user: str, turns: Callable[[Path], list[Text]]) -> Take:
    video = conversation / "processed" / f"{user}.mp4"

    @contextmanager
    def read(report: Report) -> Iterator[Material | None]:
        texts = turns(conversation)
        if media_length_s(video) is None:
            report.skip(video, "the video cannot be read")
        elif not texts:
            report.skip(video, "nobody's words are there")
        else:
            yield Material([Clip(video)], texts)
            return
        yield None

    return Take(
        session_id=re.sub(r"[^A-Za-z0-9._-]+", "_", f"{conversation.name}_{user}"),
        filmed_speaker=user,
        person=user,
        consent=(
            f"imported from conversation {conversation.name} of CANDOR (CANDOR Corpus License); "
            "consent lies with the makers of the corpus"
        ),
        read=read,
    )


def _users(conversation: Path) -> list[str]:
    """The two who talk, by the channel map or, without it, by their videos."""
    try:
        users = list(_channel_map(conversation).values())
    except (OSError, ValueError, AttributeError):
        users = [path.stem for path in (conversation / "processed").glob("*.mp4") if path.stem != conversation.name]
    return sorted(users)


def _channel_map(conversation: Path) -> dict[str, str]:
    text = (conversation / "processed" / "channel_map.json").read_text(encoding="utf-8-sig")
    return {str(channel): str(user) for channel, user in json.loads(text).items()}


def _read_turns(conversation: Path, report: Report) -> list[Text]:
    folder = conversation / "transcription"
    path = next(folder / name for name in _TRANSCRIPTS if (folder / name).is_file())
    lengths = [media_length_s(conversation / "processed" / f"{user}.mp4") for user in _users(conversation)]
    length_s = max((length for length in lengths if length is not None), default=math.inf)
    words = _recognised_words(conversation, report)
    texts = []
    for where, row in _rows(path, report):
        turn = _turn(row)
        if isinstance(turn, Text):
            turn = _with_word_times(turn, words.get(turn.speaker, []))
            fault = fault_in(turn, length_s)
            if fault is None:
                texts.append(turn)
                continue
            turn = fault
        report.skip(where, turn)
    return texts


def _rows(path: Path, report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    """(its place, the four columns) of each turn."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            missing = [column for column in _COLUMNS if column not in header]
            if missing:
                report.skip(f"{path}: line 1", f"no column {missing[0]}")
                return
            places = {column: header.index(column) for column in _COLUMNS}
            for row in rows:
                if row:
                    where = f"{path}: line {rows.line_num}"
                    yield where, {c: row[i] if i < len(row) else "" for c, i in places.items()}
    except (OSError, UnicodeDecodeError, csv.Error):
        report.skip(path, "the transcript cannot be read to its end")


def _turn(row: dict[str, str]) -> Text | str:
    try:
        start_s, stop_s = float(row["start"]), float(row["stop"])
    except ValueError:
        return "start or stop is no number"
    said, speaker = row["utterance"].strip(), row["speaker"].strip()
    if not 0 <= start_s <= stop_s < math.inf:
        return "ends before it starts or has no real time"
    if not said or not speaker:
        return "no words" if speaker else "no speaker"
    return Text(speaker=speaker, text=said, t_start=start_s, t_end=stop_s, timing="utterance")


def _recognised_words(conversation: Path, report: Report) -> dict[str, list[Word]]:
    """The words of each user in order of time, where the recogniser kept the channels apart."""
    path = conversation / "transcription" / "transcribe_output.json"
    if not path.is_file():
        return {}
    try:
        users = _channel_map(conversation)
        channels = json.loads(path.read_text(encoding="utf-8-sig"))["results"]["channel_labels"]["channels"]
        return {
            users[_CHANNELS[channel["channel_label"]]]: sorted(_items(channel["items"]), key=lambda w: w.t_start)
            for channel in channels
        }
    except (OSError, LookupError, TypeError, ValueError, AttributeError):
        report.skip(path, "no words with times by channel, so turns are timed as a whole")
        return {}


def _items(items: list[dict[str, Any]]) -> Iterator[Word]:
    for item in items:
        if item["type"] == "pronunciation":  # marks have no time
            word = Word(str(item["alternatives"][0]["content"]), float(item["start_time"]), float(item["end_time"]))
            if word.has_real_times:
                yield word


def _with_word_times(turn: Text, words: list[Word]) -> Text:
    """The turn with its words' times, where the recognised words between its start and stop are its own."""
    first = bisect_left(words, turn.t_start - _ROUNDING_S, key=lambda word: word.t_start)
    heard = []
    for word in words[first:]:
        if word.t_end > turn.t_end + _ROUNDING_S:
            break
        heard.append(word)
    said = turn.text.split()
    if not heard or [_bare(word) for word in said] != [_bare(word.text) for word in heard]:
        return turn
    return spoken([Word(text, word.t_start, word.t_end) for text, word in zip(said, heard, strict=True)], turn.speaker)


def _bare(word: str) -> str:
    return re.sub(r"[^\w']", "", word.casefold())
