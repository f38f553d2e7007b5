"""Latents on the fly: takes each video segment as soon as its recorder has finished it.

Any number of watchers and plain extractions may run on the same sessions: each segment is claimed
(`preprocessing.claim`) before it is encoded. A watcher keeps nothing on disk but latents, so a new one goes on where
the last one ended, however that ended.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import watchfiles

from natural_video_llm.console import console, emit
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.claim import claim, claim_file
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.extract_video_latents import (
    LOOK_AGAIN_S,
    ExtractedSegment,
    check_weights,
    in_one_line,
)
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.preprocessing.watch_workers import WatchWorkers
from natural_video_llm.sessions.folder import encoder_folder
from natural_video_llm.sessions.latents import load_latents
from natural_video_llm.sessions.segment_log import SegmentLog


def watch_segments(
    folder: Path, encoder_name: str, workers: int, execution: Execution, wake: SimpleQueue[str], as_json: bool
) -> None:
    """Encode every finished segment below `folder`, those of today and those to come, until it is told to stop.

    Prints a line for each segment that this watcher encoded. What cannot be encoded is told in one line on stderr
    and tried again only when its file has changed.

    Args:
        folder: a session folder or a folder of them; it may still be empty.
        encoder_name: as `make_encoder` takes it.
        workers: how many segments are encoded at the same time, each by a process of its own.
        execution: how the encoder runs.
        wake: the word "stop" in it ends the work; other words make it look at once.
        as_json: lines are JSON objects, also those of segments that failed.

    Raises:
        UserError: the folder is missing, the weights are unusable, or a worker was killed.
    """
    if sys.platform == "win32":
        raise UserError("extract --watch needs file locks that Windows does not have; run nvllm extract without it")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; make it first, recordings that appear in it will be found")
    report = _Report(as_json)
    encoder = make_encoder(encoder_name, execution)
    pool = WatchWorkers(encoder.name, execution, max(1, workers))
    watcher = _Watcher(folder, encoder.name, encoder.weights_sha256, pool, wake, report)
    report.watching(folder)
    with _changes(folder, wake):
        try:
            stopped = False
            while not stopped:
                watcher.look()
                watcher.collect()
                watcher.submit()
                stopped = _woken_to_stop(wake)
        finally:
            pool.stop()
    watcher.collect()  # what was ready before the stop


@dataclass
class _Job:
    """A finished segment without latents. `tried` and `seen` are (bytes, modification time) of the video file."""

    video: Path
    target: Path
    frames: int
    not_before_s: float = 0.0
    tried: tuple[int, int] | None = None
    failed: tuple[int, int] | None = None
    seen: tuple[int, int] | None = None

    def is_due(self, now_s: float) -> bool:
        """Whether it should be tried now: not while another process is at it, and after a failure only when the
        file has changed since and then stayed the same between two looks (it was being copied)."""
        if now_s < self.not_before_s:
            return False
        if self.failed is None:
            return True
        before, self.seen = self.seen, _signature(self.video)
        self.not_before_s = now_s + LOOK_AGAIN_S
        return self.seen != self.failed and self.seen == before


class _Watcher:
    """What was found, what runs and what waits. Every method returns at once."""

    def __init__(
        self,
        folder: Path,
        encoder_name: str,
        sha256: str,
        pool: WatchWorkers,
        wake: SimpleQueue[str],
        report: "_Report",
    ):
        self._folder, self._sha256 = folder, sha256
        self._latents = Path("latents") / encoder_folder(encoder_name)
        self._pool, self._wake, self._report = pool, wake, report
        self._logs: dict[Path, SegmentLog] = {}
        self._left_alone: set[Path] = set()
        self._waiting: dict[Path, _Job] = {}
        self._running: dict[Future[ExtractedSegment | None], _Job] = {}

    def look(self) -> None:
        """Find what was finished since the last look.

        Raises:
            UserError: the watched folder is gone.
        """
        sessions = set(_session_folders(self._folder))
        for gone in self._logs.keys() - sessions:
            del self._logs[gone]
            self._waiting = {video: job for video, job in self._waiting.items() if gone not in video.parents}
        for session in sorted(sessions - self._left_alone):
            if session not in self._logs:
                self._logs[session] = SegmentLog(session)
                if not self._is_ours(session):
                    self._left_alone.add(session)
                    continue
            segments, damaged = self._logs[session].read_new()
            for line in damaged:
                self._report.trouble(session / "session.jsonl", line)
            for segment in segments:
                video = session / segment.file
                target = session / self._latents / f"{video.stem}.safetensors"
                self._waiting[video] = _Job(video, target, segment.frames)

    def submit(self) -> None:
        """Hand waiting segments to idle workers."""
        now_s = time.monotonic()
        running = {job.video for job in self._running.values()}
        for video, job in list(self._waiting.items()):
            if len(self._running) >= self._pool.workers:
                return
            if job.target.exists():
                _clear(job.target)
                del self._waiting[video]
            elif video not in running and job.is_due(now_s):
                del self._waiting[video]
                job.tried = _signature(video)
                future = self._pool.submit(video, job.target, job.frames)
                self._running[future] = job
                future.add_done_callback(lambda _: self._wake.put("done"))

    def collect(self) -> None:
        """Tell what became of the segments whose work has ended.

        Raises:
            UserError: a worker was killed.
        """
        for future in [f for f in self._running if f.done()]:
            job = self._running.pop(future)
            error = None if future.cancelled() else future.exception()
            if isinstance(error, BrokenProcessPool):
                raise UserError(f"{job.video}: its process was killed (out of memory?); run again with --workers 1")
            if isinstance(error, Exception):
                if job.failed is None:
                    self._report.trouble(job.video, in_one_line(job.video, error))
                job.failed = job.tried
                self._waiting[job.video] = job
            elif future.cancelled() or error is not None:  # stopped in the middle
                self._waiting[job.video] = job
            elif (segment := future.result()) is None:
                job.not_before_s = time.monotonic() + LOOK_AGAIN_S
                self._waiting[job.video] = job
            elif not segment.already_there:
                self._report.done(segment)

    def _is_ours(self, session: Path) -> bool:
        """Whether the latents that are there came from the same weights: the two must not mix."""
        there = sorted((session / self._latents).glob("[!.]*.safetensors"))
        if there:
            try:
                check_weights(there[0], load_latents(there[0]), self._sha256)
            except UserError as error:
                self._report.trouble(there[0], str(error))
                return False
        return True


class _Report:
    """What the watcher prints; nothing twice."""

    def __init__(self, as_json: bool):
        self._as_json = as_json
        self._told: set[str] = set()

    def watching(self, folder: Path) -> None:
        if not self._as_json:
            self._print(f"watching {folder} (Ctrl-C stops)")

    def done(self, segment: ExtractedSegment) -> None:
        if self._as_json:
            emit(
                segment=str(segment.video),
                latents=segment.latents,
                seen=segment.seen,
                crowded=segment.crowded,
                took_s=segment.took_s,
            )
            return
        share = segment.seen / max(segment.latents, 1)
        several = f", several faces in {segment.crowded}" if segment.crowded else ""
        self._print(
            f"{segment.video}: face in {share:.1%} of {segment.latents} latents{several}, {segment.took_s:.1f} s"
        )

    def trouble(self, file: Path, what: str) -> None:
        if what in self._told:
            return
        self._told.add(what)
        print(f"nvllm: {what}; skipped", file=sys.stderr, flush=True)
        if self._as_json:
            emit(file=str(file), error=what)

    def _print(self, line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _session_folders(folder: Path) -> list[Path]:
    """As `find_sessions` has it, without reading them, and none is none."""
    if (folder / "session.jsonl").is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"{folder} is gone; nothing is left to watch")
    return [log.parent for log in folder.glob("[!.]*/session.jsonl")]


def _signature(video: Path) -> tuple[int, int]:
    try:
        status = video.stat()
    except OSError:
        return (-1, 0)
    return (status.st_size, status.st_mtime_ns)


def _clear(target: Path) -> None:
    """Remove the claim file of a process that was killed after its work was done."""
    if claim_file(target).exists():
        with suppress(UserError), claim(target):
            pass


@contextmanager
def _changes(folder: Path, wake: SimpleQueue[str]) -> Iterator[None]:
    """Every event log that changes below `folder` is a word in the queue."""
    ended = threading.Event()
    thread = threading.Thread(target=_tell_changes, args=(folder, partial(wake.put, "changed"), ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell_changes(folder: Path, tell: Callable[[], None], ended: threading.Event) -> None:
    # Where the system tells no changes (no watches left, a network drive), the look every second finds them.
    with suppress(OSError, RuntimeError):
        for _ in watchfiles.watch(
            folder,
            watch_filter=lambda _, path: path.endswith("session.jsonl"),
            debounce=200,
            stop_event=ended,
            raise_interrupt=False,
        ):
            tell()


def _woken_to_stop(wake: SimpleQueue[str]) -> bool:
    """Wait for a word, at most until the next look is due; whether one of the words was to stop."""
    words = []
    with suppress(Empty):
        words.append(wake.get(timeout=LOOK_AGAIN_S))
        while True:
            words.append(wake.get_nowait())
    return "stop" in words
