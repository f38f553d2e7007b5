"""What every importer shares: one person filmed in one conversation becomes one session folder.

A conversation of two people with two videos becomes two sessions on the same clock: in each of them one of the two is
filmed, and what both say is there. So the answers to a filmed person can be learned from either side.
"""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import av

from natural_video_llm.disk import write_error
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.clock import utc_now
from natural_video_llm.sessions.events import (
    SessionEnd,
    SessionStart,
    Text,
    VideoGap,
    VideoSegmentEnd,
    VideoSegmentStart,
)
from natural_video_llm.sessions.folder import Session, SessionWriter, check_session_id, read_start
from natural_video_llm.sessions.video import SegmentWriter, read_frames

_SEGMENT_S = 10.0

# What a data set calls its parts, and the side of the split that each of them stands on.
_SPLITS: dict[str, Literal["train", "test"]] = {"train": "train", "dev": "test", "valid": "test", "test": "test"}


@dataclass
class Report:
    """Counts of an import; whatever is left out is told on stderr at once, with its place and the reason.

    `broken` are the lines, told at the end, of a person's own clips that are left out until they are mended.
    """

    imported: int = 0
    kept: int = 0
    utterances: int = 0
    timed_words: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def skip(self, where: object, reason: str) -> None:
        self.skipped[reason] += 1
        print(f"{where}: {reason}; skipped", file=sys.stderr)

    def add(self, texts: Sequence[Text]) -> None:
        """Count a session with these utterances."""
        self.imported += 1
        self.utterances += len(texts)
        self.timed_words += sum(len(text.word_times or []) for text in texts)

    def lines(self) -> list[str]:
        """The counts for people, one a line."""
        there = f", {self.kept} there already" if self.kept else ""
        done = f"{self.imported} sessions{there}: {self.utterances} utterances, {self.timed_words} timed words"
        skipped = [f"skipped {count}: {reason}" for reason, count in self.skipped.most_common()]
        return [done, *skipped, *[f"skipped {len(self.broken)}: broken"] * bool(self.broken)]


class BrokenClipsError(UserError):
    """Some clips are broken, one line each; all others are imported, as the report says."""

    def __init__(self, report: Report):
        self.report = report
        super().__init__("\n".join(report.broken))


@dataclass(frozen=True)
class Clip:
    """A video of the filmed person whose first frame was taken `start_s` seconds into the conversation."""

    video: Path
    start_s: float = 0.0


@dataclass(frozen=True)
class Material:
    clips: Sequence[Clip]
    texts: Sequence[Text]


@dataclass(frozen=True)
class Take:
    """One session to be: who is filmed in it, and how to read it.

    `read` gives None, and tells the report why, where there is nothing to make a session of. `source_split` is the
    part of the data set that it belongs to (train, dev, valid, test). A data set names its sessions once and for all;
    `own_clip` is a person's own file, whose name says little.
    """

    session_id: str
    filmed_speaker: str
    person: str
    consent: str
    read: Callable[[Report], AbstractContextManager[Material | None]]
    source_split: str | None = None
    own_clip: bool = False


class BrokenVideoError(UserError):
    """A video of which nothing can be seen."""


def import_takes(takes: Sequence[Take], out: Path, progress: Callable[[int, int], None], report: Report) -> None:
    """One session folder in `out` for each take; those that are there already are kept as they are.

    Raises:
        UserError: another session of that name is there already, or the disk is full.
    """
    splits = _splits(takes)
    for take in takes:
        check_session_id(take.session_id)
    for done, (take, split) in enumerate(zip(takes, splits, strict=True), start=1):
        target = out / take.session_id
        if (target / "session.jsonl").exists():
            report.kept += _is_same(take, target, report)
        else:
            _import_take(take, split, target, report)
        progress(done, len(takes))


def _import_take(take: Take, split: Literal["train", "test"] | None, target: Path, report: Report) -> None:
    with take.read(report) as material:
        if material is None:
            return
        try:
            _write_session(target, _start(take, split), material)
        except BrokenVideoError as error:
            if take.own_clip:
                report.broken.append(str(error))
            else:
                report.skip(material.clips[0].video, "the video cannot be read")
        else:
            report.add(material.texts)


def _is_same(take: Take, target: Path, report: Report) -> bool:
    """Whether the session that is there has the words of this take; tells the report where it has not.

    Raises:
        UserError: it films another person or comes from elsewhere.
    """
    there = read_start(target)
    if there.person != take.person:
        raise UserError(f"{target} is there already and films {there.person}, not {take.person}; choose another OUT")
    if there.consent != take.consent:
        raise UserError(f"{target} is there already and comes from elsewhere; choose another OUT")
    if not take.own_clip:
        return True
    with take.read(report) as material:
        if material is None:
            return False
        same = _in_order(material.texts) == _in_order(Session(target).texts)
        if not same:
            clip = material.clips[0].video
            report.broken.append(
                f"{target} is there already with other words than {clip}; choose another OUT, or rename it"
            )
        return same


def _in_order(texts: Sequence[Text]) -> list[Text]:
    return sorted(texts, key=lambda text: (text.t_start, text.t_end, text.text))


def _splits(takes: Sequence[Take]) -> list[Literal["train", "test"] | None]:
    """The side of the split of each take; none at all where the data set's own division parts a person."""
    sides = [_SPLITS.get(take.source_split or "") for take in takes]
    both = {t.person for t, side in zip(takes, sides, strict=True) if side == "train"} & {
        t.person for t, side in zip(takes, sides, strict=True) if side == "test"
    }
    if not both:
        return sides
    print(
        f"{min(both)} and {len(both) - 1} more are in training and test data alike; "
        "the data set's own split is not taken over",
        file=sys.stderr,
    )
    return [None] * len(takes)


def _start(take: Take, split: Literal["train", "test"] | None) -> SessionStart:
    fields = {
        "session_id": take.session_id,
        "started_utc": utc_now(),
        "filmed_speaker": take.filmed_speaker,
        "person": take.person,
        "consent": take.consent,
        "split": split,
    }
    source = {"source_split": take.source_split} if take.source_split else {}
    return SessionStart.model_validate(fields | source)


def _write_session(target: Path, start: SessionStart, material: Material) -> None:
    """Write beside, then rename: a session is there whole or not at all."""
    beside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with SessionWriter(beside, start) as writer:
            end_s = 0.0
            for event in _copy_clips(material.clips, beside):
                writer.append(event)
                end_s = event.t
            for text in _in_order(material.texts):
                writer.append(text)
            writer.append(SessionEnd(t=max([end_s, *(text.t_end for text in material.texts)])))
        beside.rename(target)
    except BrokenVideoError:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    except OSError as error:
        raise write_error(target, error) from error


def _copy_clips(clips: Sequence[Clip], session: Path) -> Iterator[VideoSegmentStart | VideoSegmentEnd | VideoGap]:
    segments, last_s = 0, None
    for clip in clips:
        if last_s is not None:
            yield VideoGap(t=last_s, t_end=clip.start_s, reason="the source has no video of this person here")
        for event in _copy_video(clip, session, segments):
            segments += isinstance(event, VideoSegmentEnd)
            last_s = event.t
            yield event


def _copy_video(clip: Clip, session: Path, first_number: int) -> Iterator[VideoSegmentStart | VideoSegmentEnd]:
    """Re-encode into segments of 10 s; times count from the clip's first frame, as transcripts do."""
    number = first_number
    writer: SegmentWriter | None = None
    first_s: float | None = None
    opened_s, last_s, file = -1.0, -1.0, ""
    try:
        for time_s, rgb in read_frames(clip.video):
            first_s = time_s if first_s is None else first_s
            now_s = clip.start_s + time_s - first_s
            if now_s <= last_s:
                continue
            height_px, width_px = (side // 2 * 2 for side in rgb.shape[:2])
            if writer is None or now_s - opened_s >= _SEGMENT_S:
                if writer is not None:
                    yield _close(writer, file, last_s)
                file, opened_s, number = f"video/{number:06d}.mp4", now_s, number + 1
                writer = SegmentWriter(session / file, width_px, height_px, 25)
                yield VideoSegmentStart(t=now_s, file=file)
            writer.write(rgb[:height_px, :width_px], now_s)
            last_s = now_s
    except UserError as error:
        raise BrokenVideoError(str(error)) from error
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    if writer is None:
        raise BrokenVideoError(f"{clip.video}: not a single frame could be decoded; copy the clip again")
    yield _close(writer, file, last_s)


def _close(writer: SegmentWriter, file: str, last_s: float) -> VideoSegmentEnd:
    writer.close()
    return VideoSegmentEnd(t=last_s, file=file, frames=writer.frames)


def media_length_s(path: Path) -> float | None:
    """How long a video or sound file says that it plays; None where it cannot be read."""
    try:
        with av.open(str(path)) as container:
            return container.duration / av.time_base if container.duration else None
    except (av.FFmpegError, OSError):
        return None
