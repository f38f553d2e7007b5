"""Seamless Interaction (facebookresearch/seamless_interaction, CC BY-NC 4.0) → session folders.

Files are named V<site>_S<session>_I<interaction>_P<participant>. They come as the tar shards of the hub, unpacked or
not (`improvised/train/0000/0000.tar`, each with `.mp4`, `.wav`, `.json` and `.npz`), or as the tree of the bucket
(`improvised/train/video/*.mp4`, `improvised/train/metadata/transcript/*.jsonl`).

Of all this the videos and the transcripts alone are opened: never an array (`.npz`, `.npy`: among them action units
and emotion scores) nor an annotation (`annotations/`, 1P-IS, 1P-R, 3P-IS, 3P-R, 3P-V). The makers say that the time
stamps of about one interaction in ten are off, so each utterance is checked.
"""

import json
import math
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.importers.takes import Clip, Material, Report, Take, import_takes, media_length_s
from natural_video_llm.sessions.importers.transcripts import fault_in, spoken, timed_words

# The aligner's score of a word lies between 0 and 1; below this mean its times are guesswork.
_LEAST_SCORE = 0.2
# Both videos of an interaction are cut at the same two moments; where their lengths differ, so do their clocks.
_SAME_LENGTH_S = 0.5
_PARTS = ("train", "dev", "test")
_ID = re.compile(r"(?P<interaction>(?P<site>V\d+)_S\d+_I\d+)_(?P<participant>P\d+[A-Z]?)")
_LABEL_FOLDERS = {"annotations", "1P-IS", "1P-R", "3P-IS", "3P-R", "3P-V"}


@dataclass(frozen=True)
class Stored:
    """A file, or a member of a tar shard."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> Path:
        """Where it lies, the inside of the shard included."""
        return self.path if self.member is None else self.path.with_suffix("") / self.member

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path} ({self.member})"

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A path to open: of a shard's member a copy for as long as it is needed."""
        if self.member is None:
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / Path(self.member).name
            try:
                with tarfile.open(self.path, "r:") as shard, copy.open("wb") as file:
                    content = shard.extractfile(self.member)
                    assert content is not None  # only the names of files are taken down
                    shutil.copyfileobj(content, file)
            except (tarfile.TarError, OSError) as error:
                raise UserError(f"{self} cannot be taken out of its shard ({error}); download it again") from error
            yield copy


@dataclass
class Participation:
    """What there is of one participant in one interaction."""

    file_id: str
    video: Stored | None = None
    transcript: Stored | None = None

    def _part_of_id(self, name: str) -> str:
        match = _ID.fullmatch(self.file_id)
        assert match is not None
        return match[name]

    @property
    def interaction(self) -> str:
        return self._part_of_id("interaction")

    @property
    def participant(self) -> str:
        return self._part_of_id("participant")

    @property
    def person(self) -> str:
        return f"{self._part_of_id('site')}_{self.participant}"

    @property
    def part(self) -> str | None:
        """Of the data set, as the folders say."""
        found = self.video or self.transcript
        assert found is not None
        return next((part for part in reversed(found.name.parts) if part in _PARTS), None)


@dataclass
class _Words:
    """The utterances of one participant, and the length of the video that they were checked against."""

    texts: list[Text] = field(default_factory=list)
    video_s: float | None = None


def is_seamless(folder: Path) -> bool:
    try:
        return next(_stored(folder), None) is not None
    except UserError:
        return False


def import_seamless(folder: Path, out: Path, progress: Callable[[int, int], None], report: Report) -> None:
    """One session for each participant with a video; the partner's words are in it, on the same clock.

    Raises:
        UserError: nothing of the data set is there, or the disk is full.
    """
    found = _participations(_stored(folder))
    interactions: dict[str, list[Participation]] = {}
    for one in found.values():
        interactions.setdefault(one.interaction, []).append(one)
    for one in found.values():
        if one.video is None:
            report.skip(one.transcript, "no video of this participant")
    filmed = sorted((one for one in found.values() if one.video is not None), key=lambda one: one.file_id)
    if not filmed:
        raise UserError(f"{folder}: no video named V.._S.._I.._P...mp4; unpack or download the .mp4 files as well")

    @lru_cache(maxsize=8)  # an interaction's sessions follow each other and need the same transcripts
    def words(file_id: str) -> _Words:
        return _read_words(found[file_id], report)

    takes = [_take(one, interactions[one.interaction], words) for one in filmed]
    import_takes(takes, out, progress, report)


def _take(filmed: Participation, interaction: list[Participation], words: Callable[[str], _Words]) -> Take:
    @contextmanager
    def read(report: Report) -> Iterator[Material | None]:
        own = words(filmed.file_id)
        texts = list(own.texts)
        for partner in interaction:
            if partner is filmed:
                continue
            other = words(partner.file_id)
            if other.video_s and own.video_s and abs(other.video_s - own.video_s) > _SAME_LENGTH_S:
                report.skip(filmed.video, "the partner's video has another length, so its words another clock")
            else:
                texts += [t for t in other.texts if own.video_s is None or fault_in(t, own.video_s) is None]
        assert filmed.video is not None
        if own.video_s is None:
            report.skip(filmed.video, "the video cannot be read")
        elif not texts:
            report.skip(filmed.video, "nobody's words are there")
        else:
            with filmed.video.on_disk() as video:
                yield Material([Clip(video)], texts)
            return
        yield None

    assert filmed.video is not None
    return Take(
        session_id=filmed.file_id,
        filmed_speaker=filmed.participant,
        person=filmed.person,
        consent=(
            f"imported from {filmed.file_id} of Seamless Interaction (CC BY-NC 4.0); "
            "consent lies with the makers of the data set"
        ),
        read=read,
        source_split=filmed.part,
    )


def _stored(folder: Path) -> Iterator[Stored]:
    """The videos and transcripts below `folder`, by name."""
    folder = folder.resolve()  # the part of the data set may be the name of a folder above
    for path in sorted(folder.rglob("V*_S*_I*_P*")):
        if path.is_file() and _is_ours(path.relative_to(folder)):
            yield Stored(path)
    for path in sorted(folder.rglob("*.tar")):
        try:
            with tarfile.open(path, "r:") as shard:
                names = [member.name for member in shard.getmembers() if member.isfile()]
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"{path} is no readable tar shard ({error}); download it again") from error
        yield from (Stored(path, name) for name in names if _is_ours(Path(name)))


def _is_ours(path: Path) -> bool:
    if not _ID.fullmatch(path.stem) or _LABEL_FOLDERS & set(path.parts):
        return False
    return path.suffix in (".mp4", ".json") or (path.suffix == ".jsonl" and path.parent.name == "transcript")


def _participations(stored: Iterable[Stored]) -> dict[str, Participation]:
    found: dict[str, Participation] = {}
    for one in stored:
        file_id = one.name.stem
        entry = found.setdefault(file_id, Participation(file_id))
        if one.name.suffix == ".mp4":
            entry.video = entry.video or one
        else:
            entry.transcript = entry.transcript or one
    return found


def _read_words(one: Participation, report: Report) -> _Words:
    words = _Words()
    if one.video is not None:
        with one.video.on_disk() as video:
            words.video_s = media_length_s(video)
    if one.transcript is None:
        return words
    last_s = 0.0
    for where, entry in _entries(one.transcript, report):
        text = utterance_of(entry, one.participant)
        if isinstance(text, Text):
            fault = fault_in(text, math.inf if words.video_s is None else words.video_s)
            if fault is None and text.t_start < last_s:
                fault = "begins before the utterance before it"
            if fault is None:
                words.texts.append(text)
                last_s = text.t_start
                continue
            text = fault
        report.skip(where, text)
    return words


def _entries(transcript: Stored, report: Report) -> Iterator[tuple[str, Any]]:
    """(its place, utterance as it stands there): the entries of a `.json`, the lines of a `.jsonl`."""
    try:
        with transcript.on_disk() as path:
            content = path.read_text(encoding="utf-8-sig")
        if transcript.name.suffix == ".json":
            # The annotations may lie in the same file; this key alone is looked at.
            utterances = json.loads(content).get("metadata:transcript") or []
            yield from ((f"{transcript}: utterance {i}", one) for i, one in enumerate(utterances, start=1))
            return
    except json.JSONDecodeError as error:
        report.skip(f"{transcript}: line {error.lineno}", "no JSON")
        return
    except (OSError, UnicodeDecodeError, AttributeError, TypeError):
        report.skip(transcript, "no readable transcript")
        return
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{transcript}: line {number}"
        try:
            yield where, json.loads(line)
        except json.JSONDecodeError:
            report.skip(where, "no JSON")


def utterance_of(entry: Any, speaker: str) -> Text | str:
    """The utterance that an entry of a transcript stands for, or what is wrong with it."""
    try:
        if entry.get("words"):
            words = [word for word in timed_words(entry["words"]) if word.text]
            scores = [float(w["score"]) for w in entry["words"] if w.get("score") is not None]
            if scores and fmean(scores) < _LEAST_SCORE:
                return f"the aligner's mean score is below {_LEAST_SCORE}"
            if not all(word.has_real_times for word in words):
                return "a word ends before it starts or has no real time"
            return spoken(words, speaker) if words else "no words"
        said = str(entry["transcript"]).strip()
        start_s, end_s = float(entry["start"]), float(entry["end"])
    except (AttributeError, LookupError, TypeError, ValueError):
        return "no utterance with times"
    if not 0 <= start_s <= end_s < math.inf:
        return "ends before it starts or has no real time"
    return Text(speaker=speaker, text=said, t_start=start_s, t_end=end_s, timing="utterance") if said else "no words"
