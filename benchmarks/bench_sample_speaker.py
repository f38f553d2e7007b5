"""Frames a second of the sample speaker on one core: drawing alone, and drawing with H.264 encoding.

python benchmarks/bench_sample_speaker.py [face_landmarker.task]
"""

import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.capture.motion import draw_turn, play
from natural_video_llm.capture.portrait import load_portrait
from natural_video_llm.capture.sample_face import HEIGHT_PX, WIDTH_PX, SampleFace
from natural_video_llm.sessions.video import SegmentWriter

FRAMES = 600
RATE_HZ = 15


def main() -> None:
    cv2.setNumThreads(1)
    portrait = load_portrait(Path(sys.argv[1]) if len(sys.argv) > 1 else face_landmarker_file())
    face = SampleFace(portrait, 0)
    times = np.arange(FRAMES) / RATE_HZ
    weights, sway = play("smile_comes", draw_turn(np.random.default_rng(0), FRAMES / RATE_HZ), times)

    start = time.perf_counter()
    for _ in face.render(weights, sway, np.random.default_rng(0)):
        pass
    print(f"draw            {FRAMES / (time.perf_counter() - start):6.0f} frames/s")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.mp4"
        start = time.perf_counter()
        writer = SegmentWriter(path, WIDTH_PX, HEIGHT_PX, RATE_HZ)
        for time_s, frame in zip(times, face.render(weights, sway, np.random.default_rng(0)), strict=True):
            writer.write(frame, float(time_s))
        writer.close()
        print(f"draw and encode {FRAMES / (time.perf_counter() - start):6.0f} frames/s")
        print(f"                {path.stat().st_size / FRAMES / 1024:6.1f} KiB a frame")


if __name__ == "__main__":
    main()
