"""Does `nvllm extract --watch` keep up while a camera is being recorded on the same machine?

One process plays a face at 640x480 and 30 frames/s in real time into segments of 10 s, another one watches.

python benchmarks/bench_extract_realtime.py [--clip face.mp4] [--seconds 60] [--workers 1] [--sessions 1]
"""

import argparse
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from multiprocessing.synchronize import Barrier
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.sessions.clock import SessionClock, utc_now
from natural_video_llm.sessions.events import SessionStart, VideoSegmentEnd, VideoSegmentStart
from natural_video_llm.sessions.folder import SessionWriter, find_sessions
from natural_video_llm.sessions.video import SegmentWriter, read_frames

WIDTH_PX, HEIGHT_PX = 640, 480
RATE_HZ = 30
SEGMENT_S = 10
CLIP_FRAMES = 150  # played forwards and backwards, so that nothing jumps
QUEUE_S = 1.0  # a frame that waited longer would have been pushed out of a recorder's bounded queue


def sample_frames() -> np.ndarray:
    """[CLIP_FRAMES, 480, 640, 3] uint8 of the sample speaker, drawn at 320x240 and enlarged."""
    from natural_video_llm.capture.motion import draw_turn, play
    from natural_video_llm.capture.portrait import load_portrait
    from natural_video_llm.capture.sample_face import SampleFace

    times = np.arange(CLIP_FRAMES) / RATE_HZ
    weights, sway = play("smile_comes", draw_turn(np.random.default_rng(0), CLIP_FRAMES / RATE_HZ), times)
    frames = SampleFace(load_portrait(face_landmarker_file()), 0).render(weights, sway, np.random.default_rng(0))
    return np.stack([cv2.resize(frame, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC) for frame in frames])


def clip_frames(clip: Path) -> np.ndarray:
    """The first frames of a file, fitted into 640x480 with black bars."""
    fitted = []
    for _, rgb in islice(read_frames(clip), CLIP_FRAMES):
        scale = min(WIDTH_PX / rgb.shape[1], HEIGHT_PX / rgb.shape[0])
        small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:HEIGHT_PX, :WIDTH_PX]
        frame = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
        top, left = (HEIGHT_PX - small.shape[0]) // 2, (WIDTH_PX - small.shape[1]) // 2
        frame[top : top + small.shape[0], left : left + small.shape[1]] = small
        fitted.append(frame)
    return np.stack(fitted)


def record(session: Path, clip: Path | None, seconds: int, ready: Barrier) -> None:
    """Play the face into a session in real time; a frame that comes too late is dropped and counted."""
    cv2.setNumThreads(1)
    frames = sample_frames() if clip is None else clip_frames(clip)
    frames = np.concatenate([frames, frames[::-1]])
    ready.wait()
    clock = SessionClock()
    start = SessionStart(
        session_id=session.name,
        started_utc=utc_now(),
        monotonic_s=clock.monotonic_s,
        filmed_speaker="speaker",
        consent="played from a clip; nobody was filmed",
    )
    began_cpu_s = time.process_time()
    with SessionWriter(session, start) as log:
        for number in range(seconds // SEGMENT_S):
            file = f"video/{number:06d}.mp4"
            log.append(VideoSegmentStart(t=clock.now_s(), file=file))
            writer = SegmentWriter(session / file, WIDTH_PX, HEIGHT_PX, RATE_HZ)
            dropped, last_s = 0, 0.0
            for frame in range(number * SEGMENT_S * RATE_HZ, (number + 1) * SEGMENT_S * RATE_HZ):
                due_s = (frame + 1) / RATE_HZ
                time.sleep(max(0.0, due_s - clock.now_s()))
                if clock.now_s() - due_s > QUEUE_S:
                    dropped += 1
                    continue
                writer.write(frames[frame % len(frames)], due_s)
                last_s = due_s
            writer.close()
            log.append(VideoSegmentEnd(t=last_s, file=file, frames=writer.frames, dropped=dropped))
    print(f"recorder: {(time.process_time() - began_cpu_s) / seconds:.0%} of one core", flush=True)


def watch(folder: Path, workers: int, told: list[tuple[float, dict]]) -> subprocess.Popen[str]:
    """Start the watcher; (monotonic time, line) of each of its lines go into `told`."""
    code = "from natural_video_llm.cli import main; main()"
    command = [sys.executable, "-c", code, "extract", str(folder), "--watch", "--json", "--workers", str(workers)]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def read() -> None:
        assert watcher.stdout is not None
        for line in watcher.stdout:
            told.append((time.monotonic(), json.loads(line)))

    threading.Thread(target=read, daemon=True).start()
    return watcher


def report(folder: Path, told: list[tuple[float, dict]], cpu_s: float) -> None:
    lags, frames, dropped, length_s, took_s = [], 0, 0, 0.0, 0.0
    arrived = {line["segment"]: (now_s, line) for now_s, line in told if "segment" in line}
    for session in find_sessions(folder):
        assert session.start.monotonic_s is not None
        clock = SessionClock(session.start.monotonic_s)
        for segment in session.finished_segments:
            now_s, line = arrived[str(session.path / segment.file)]
            lags.append(now_s - clock.monotonic_s - segment.t)
            took_s += line["took_s"]
            frames, dropped = frames + segment.frames, dropped + segment.dropped
            length_s += SEGMENT_S
    faces = sum(line["faces"] for _, line in arrived.values())
    print(
        f"{len(lags)} segments of {SEGMENT_S} s, {WIDTH_PX}x{HEIGHT_PX}, a face in {faces} of {frames} frames, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} (1 min)\n"
        f"lag from a segment's last frame to its latents: median {np.median(lags):.2f} s, "
        f"first {lags[0]:.2f} s (a worker starts), max {max(lags):.2f} s\n"
        f"dropped frames: {dropped} of {frames + dropped}\n"
        f"extraction: {length_s / took_s:.1f} x real time by the clock ({1000 * took_s / frames:.1f} ms a frame), "
        f"{1000 * cpu_s / frames:.1f} ms CPU a frame with start-up"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, help="a video with a face, in place of the sample speaker")
    parser.add_argument("--seconds", type=int, default=60, help="how long to record; whole segments of 10 s")
    parser.add_argument("--workers", type=int, default=1, help="processes of the watcher")
    parser.add_argument("--sessions", type=int, default=1, help="recorders at the same time")
    options = parser.parse_args()
    told: list[tuple[float, dict]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready = multiprocessing.Barrier(options.sessions + 1)
        recorders = [
            multiprocessing.Process(target=record, args=(folder / f"session_{i}", options.clip, options.seconds, ready))
            for i in range(options.sessions)
        ]
        for recorder in recorders:
            recorder.start()
        ready.wait()
        before_s = children_cpu_s()
        watcher = watch(folder, options.workers, told)
        for recorder in recorders:
            recorder.join()
        recorders_s = children_cpu_s() - before_s
        expected = options.sessions * (options.seconds // SEGMENT_S)
        deadline_s = time.monotonic() + 10 * options.seconds
        while len(told) < expected and watcher.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.1)
        watcher.send_signal(signal.SIGTERM)
        code = watcher.wait()
        report(folder, told, children_cpu_s() - before_s - recorders_s)
        raise SystemExit(code)


def children_cpu_s() -> float:
    """CPU time of this process's children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
