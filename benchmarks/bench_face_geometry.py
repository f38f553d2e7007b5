"""Frames a second of decoding plus face geometry, for one core.

python benchmarks/bench_face_geometry.py clip.mp4
"""

import argparse
import time
from pathlib import Path

import av
import cv2

from natural_video_llm.preprocessing.encoders import make_encoder


def main() -> None:
    """Prints one line; CPU time counts, so that other work on the machine disturbs little."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    clip = parser.parse_args().clip
    cv2.setNumThreads(1)
    encoder = make_encoder("face-geometry")

    frames = faces = 0
    decode_s = 0.0
    start_s = time.process_time()
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        decode_start_s = start_s
        for frame in container.decode(stream):
            rgb = frame.to_ndarray(format="rgb24")
            decode_s += time.process_time() - decode_start_s
            frames += 1
            faces += encoder.encode([(frame.time, rgb)]).present.sum()
            decode_start_s = time.process_time()
    encode_s = time.process_time() - start_s - decode_s
    print(
        f"{clip.name}: {frames / (decode_s + encode_s):.0f} frames/s a core "
        f"({1000 * decode_s / frames:.2f} ms decode + {1000 * encode_s / frames:.2f} ms encode a frame, "
        f"{rgb.shape[1]}x{rgb.shape[0]}, a face in {faces} of {frames} frames)"
    )


if __name__ == "__main__":
    main()
