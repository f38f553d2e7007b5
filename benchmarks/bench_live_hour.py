"""An hour of video and chat on a clock that runs as fast as the work: does anything grow or lag?

python benchmarks/bench_live_hour.py [RUN] [--minutes 60]
"""

import argparse
import time
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from skimage.data import astronaut

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.inference.conversation import Sampling
from natural_video_llm.inference.engine import Engine
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.sessions.clock import SessionClock

RATE_HZ, TURN_EVERY_S, TOKEN_S, TOKENS = 15, 20, 1 / 15, 24
WORDS = "and then we went on to see what was left of the old house by the river"


class WorkClock(SessionClock):
    """Moves on by one frame at a time."""

    time_s = 0.0

    def now_s(self) -> float:
        return self.time_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=Path("starter"))
    parser.add_argument("--weights", default="native")
    parser.add_argument("--minutes", type=int, default=60)
    args = parser.parse_args()
    found = FaceLandmarker(face_landmarker_file())(np.ascontiguousarray(astronaut()[:256, 90:346]))
    assert found is not None
    rng, clock, process = np.random.default_rng(0), WorkClock(), psutil.Process()
    minutes: list[tuple[float, float, float, int]] = []

    with Engine.load(args.run, weights=args.weights) as engine:
        sampling = Sampling(temperature=1.0, max_tokens=TOKENS)
        with closing(engine.open(clock, sampling)) as conversation:

            def watch(frames: int) -> None:
                for _ in range(frames):
                    clock.time_s += 1 / RATE_HZ
                    points = found.points + rng.normal(scale=0.5, size=found.points.shape)
                    conversation.see_points(clock.time_s, points, 256, 256)

            for minute in range(args.minutes):
                took: list[float] = []
                began = time.process_time()
                while clock.time_s < 60 * (minute + 1):
                    message = f"At {clock.time_s:.0f} seconds, {WORDS[: rng.integers(20, len(WORDS))]}."
                    for end in range(5, len(message), 10):
                        conversation.draft(message[:end])
                        watch(RATE_HZ)
                    conversation.settle()
                    for _ in conversation.reply(message):
                        watch(round(TOKEN_S * RATE_HZ))
                    assert conversation.last_reply is not None
                    took += conversation.last_reply.token_s
                    watch(round(RATE_HZ * max(0.0, TURN_EVERY_S - clock.time_s % TURN_EVERY_S)))
                memory_mb = process.memory_info().rss / 1e6
                minutes.append((1000 * median(took), time.process_time() - began, memory_mb, len(took)))
            status = conversation.status()
    first, warm, last = minutes[0], minutes[min(5, len(minutes) - 1)], minutes[-1]
    print(f"{status.frames} frames, {sum(status.dropped.values())} dropped, {sum(m[3] for m in minutes)} tokens")
    print(f"median token: first minute {first[0]:.1f} ms, last {last[0]:.1f} ms: {last[0] / first[0]:.3f}")
    print(f"work of a minute: first {first[1]:.1f} s of cores, last {last[1]:.1f} s")
    print(f"memory: {warm[2]:.0f} MB after five minutes, {last[2]:.0f} MB at the end: {last[2] - warm[2]:+.1f} MB")


if __name__ == "__main__":
    main()
