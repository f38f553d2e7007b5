"""A portrait brought to life: sessions of many people without a camera, for trying the whole pipeline.

People, faces, messages and times are drawn from one seed. What a person's face does while a message is typed
decides which of its replies follows; that choice is written nowhere but in the picture and the reply itself.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.capture.motion import TurnDraw, draw_turn, play
from natural_video_llm.capture.portrait import Portrait, load_portrait
from natural_video_llm.capture.sample_corpus import load_corpus
from natural_video_llm.capture.sample_face import HEIGHT_PX, WIDTH_PX, SampleFace
from natural_video_llm.capture.sample_plan import (
    GAP_S,
    PersonPlan,
    Turn,
    plan_candidates,
    plan_frames,
    plan_people,
    plan_turns,
)
from natural_video_llm.disk import write_error
from natural_video_llm.errors import UserError, need_between
from natural_video_llm.sessions.candidates import FILE_NAME, read_candidates, write_candidates
from natural_video_llm.sessions.events import (
    Event,
    SessionEnd,
    SessionStart,
    VideoSegmentEnd,
    VideoSegmentStart,
)
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.video import SegmentWriter
from natural_video_llm.workers import run_in_workers

__all__ = ["SampleFace", "write_sample_sessions"]

CONSENT = "generated from a public-domain portrait; nobody was filmed"
SEGMENT_S = 10.0


def write_sample_sessions(
    out: Path,
    task_file: Path,
    *,
    people: int = 24,
    held_out_people: int = 6,
    held_out_messages: int = 30,
    turns: int = 30,
    rate_hz: float = 15,
    seed: int = 0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write one session folder for each person into `out`, and `candidates.jsonl` beside them.

    Finished sessions are kept, so an interrupted run can be called again. The same arguments give the same
    `session.jsonl`, byte for byte.

    Args:
        out: folder for the sessions `person_000` ...; made where it is missing.
        task_file: MediaPipe's `face_landmarker.task`, which finds the facial points of the portrait.
        people: how many persons in all; the last of them are marked "test".
        held_out_people: how many of them are met only in tests.
        held_out_messages: how many messages only those say; they say no others.
        turns: messages a person; a held-out person has at most `held_out_messages`.
        rate_hz: frames a second.
        seed: of everything that is drawn.
        workers: processes; with 1 everything runs in this one.
        progress: told (finished people, all people) at the start and after each.

    Raises:
        UserError: a value is out of range, `out` cannot be written, or holds sessions made with other values.
    """
    corpus = load_corpus()
    _check(people, held_out_people, held_out_messages, turns, rate_hz, seed, workers, len(corpus))
    plan_seed, candidates_seed, people_seed = np.random.SeedSequence(seed).spawn(3)
    plans = plan_people(corpus, np.random.default_rng(plan_seed), people, held_out_people, held_out_messages, turns)
    jobs = [_Job(out, plan, entropy, rate_hz) for plan, entropy in zip(plans, people_seed.spawn(people), strict=True)]
    _prepare(out)
    entries = plan_candidates(corpus, np.random.default_rng(candidates_seed), held_out_messages)
    if (out / FILE_NAME).exists() and list(read_candidates(out / FILE_NAME).values()) != entries:
        raise UserError(f"{out} holds sample sessions made with other values; choose another folder")
    write_candidates(out / FILE_NAME, entries)

    left = [job for job in jobs if not job.is_done()]
    tell = progress or (lambda done, total: None)
    tell(people - len(left), people)
    if left:
        portrait = load_portrait(task_file)
        for number, _ in enumerate(_run(left, portrait, workers), start=1):
            tell(people - len(left) + number, people)


@dataclass(frozen=True)
class _Job:
    """One person's session: all that a worker needs beside the portrait."""

    out: Path
    plan: PersonPlan
    entropy: np.random.SeedSequence
    rate_hz: float

    @property
    def folder(self) -> Path:
        return self.out / self.plan.name

    def is_done(self) -> bool:
        """Whether the session lies there, finished.

        Raises:
            UserError: it does, but is not the one that this job would write.
        """
        if not (self.folder / "session.jsonl").is_file():
            return False
        there = Session(self.folder).events
        if not isinstance(there[-1], SessionEnd):
            return False
        if there != _Script(self).events():
            raise UserError(f"{self.folder} was made with other values; choose another folder")
        return True


class _Script:
    """Everything of one session but its pictures, drawn from the job's own seed."""

    def __init__(self, job: _Job) -> None:
        # Spawning by hand: SeedSequence.spawn counts its calls, and a script may be drawn twice.
        face, texts, frames, motions, noise = (
            np.random.SeedSequence(job.entropy.entropy, spawn_key=(*job.entropy.spawn_key, part)) for part in range(5)
        )
        self.face_seed = face
        self.noise_rng = np.random.default_rng(noise)
        self.plan = job.plan
        self.turns = plan_turns(job.plan, np.random.default_rng(texts))
        self.end_s = round(self.turns[-1].reply.t_end + GAP_S, 4)
        self.frame_times = plan_frames(np.random.default_rng(frames), self.end_s, job.rate_hz)
        rng = np.random.default_rng(motions)
        self.draws = [draw_turn(rng, turn.length_s) for turn in self.turns]

    def segments(self) -> list[tuple[str, np.ndarray]]:
        """File and frame numbers of each video segment."""
        part = (self.frame_times // SEGMENT_S).astype(int)
        return [(f"video/{number:06d}.mp4", np.flatnonzero(part == number)) for number in np.unique(part)]

    def events(self) -> list[Event]:
        """All events in the order in which they would have been logged."""
        logged: list[tuple[float, Event]] = []
        for file, frames in self.segments():
            first, last = float(self.frame_times[frames[0]]), float(self.frame_times[frames[-1]])
            logged.append((first, VideoSegmentStart(t=first, file=file)))
            logged.append((last, VideoSegmentEnd(t=last, file=file, frames=len(frames))))
        for turn in self.turns:
            logged += [(turn.message.t_end, turn.message), (turn.reply.t_end, turn.reply)]
        start = SessionStart(
            session_id=self.plan.name,
            started_utc="2000-01-01T00:00:00.000+00:00",  # no hour of any day: nothing was recorded
            filmed_speaker="speaker",
            consent=CONSENT,
            split=self.plan.split,
        )
        in_order = [event for _, event in sorted(logged, key=lambda pair: pair[0])]
        return [start, *in_order, SessionEnd(t=self.end_s)]


def motion_over_session(
    turns: Sequence[Turn], draws: Sequence[TurnDraw], times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Movement weights [T, movement] and sway [T, sway] of a whole session at rising `times_s` [T].

    In the gap between two turns the face passes smoothly from the one, played on, to the other, played before
    its start.
    """
    weights, sway = play(turns[0].motion, draws[0], times_s - turns[0].start_s)
    for before, turn, draw in zip(turns, turns[1:], draws[1:], strict=False):
        left_s = before.start_s + before.length_s
        first = int(np.searchsorted(times_s, left_s))
        late = times_s[first:]
        share = np.clip((late - left_s) / (turn.start_s - left_s), 0, 1)[:, None]
        share = share**2 * (3 - 2 * share)
        next_weights, next_sway = play(turn.motion, draw, late - turn.start_s)
        weights[first:] += share * (next_weights - weights[first:])
        sway[first:] += share * (next_sway - sway[first:])
    return weights, sway


def _render(job: _Job, portrait: Portrait) -> None:
    """Write one session beside its place and move it there.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    try:
        _write_session(job, portrait)
    except OSError as error:
        raise write_error(job.folder, error) from error


def _write_session(job: _Job, portrait: Portrait) -> None:
    cv2.setNumThreads(1)
    beside = job.out / f".{job.plan.name}.partial"
    for folder in (beside, job.folder):
        if folder.exists():
            shutil.rmtree(folder)
    script = _Script(job)
    face = SampleFace(portrait, script.face_seed)
    weights, sway = motion_over_session(script.turns, script.draws, script.frame_times)
    frames = face.render(weights, sway, script.noise_rng)
    start, *events = script.events()
    assert isinstance(start, SessionStart)
    with SessionWriter(beside, start) as log:
        for file, numbers in script.segments():
            _write_segment(beside / file, frames, script.frame_times[numbers], job.rate_hz)
        for event in events:
            log.append(event)
    beside.rename(job.folder)


def _write_segment(path: Path, frames: Iterator[np.ndarray], times_s: np.ndarray, rate_hz: float) -> None:
    writer = SegmentWriter(path, WIDTH_PX, HEIGHT_PX, max(1, round(rate_hz)))
    try:
        for time_s in times_s:
            writer.write(next(frames), float(time_s))
        writer.close()
    except OSError:
        writer.abandon()
        raise


def _run(jobs: Sequence[_Job], portrait: Portrait, workers: int) -> Iterator[None]:
    """Do all jobs, yielding after each."""
    if workers == 1 or len(jobs) == 1:
        for job in jobs:
            _render(job, portrait)
            yield
        return
    yield from run_in_workers(_render, [(job, portrait) for job in jobs], workers)


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made ({error.strerror}); choose a folder that is yours") from error
    if not os.access(out, os.W_OK):
        raise UserError(f"{out} cannot be written; choose a folder that is yours")


def _check(
    people: int,
    held_out_people: int,
    held_out_messages: int,
    turns: int,
    rate_hz: float,
    seed: int,
    workers: int,
    messages: int,
) -> None:
    for name, value, low, high in (
        ("people", people, 1, 999),
        ("held_out_people", held_out_people, 0, people),
        ("held_out_messages", held_out_messages, 1 if held_out_people else 0, messages - 1),
        ("turns", turns, 1, messages - held_out_messages),
        ("rate_hz", rate_hz, 5, 60),
        ("seed", seed, 0, 2**63 - 1),
        ("workers", workers, 1, 256),
    ):
        need_between(name, value, low, high)
