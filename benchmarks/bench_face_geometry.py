"""Face geometry beside MediaPipe's own FaceLandmarker: the same frames, in turns, on the same core.

    python -m venv PEER && PEER/bin/pip install mediapipe
    python benchmarks/bench_face_geometry.py ../shared/faces --mediapipe-python PEER/bin/python

Every clip of the folder runs through both, a second here, a second there. Both processes are bound to one core, both
nets run on one thread, and CPU time counts, of all threads of a process, so that other work on the machine disturbs
little. MediaPipe runs in VIDEO mode, for one face, without blend shapes; its time includes the list of points that it
gives to Python, ours the geometry made of them.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.preprocessing.encoders import Encoder, Frame, make_encoder
from natural_video_llm.preprocessing.encoders.face_landmarks import (
    LEFT_EYE_OUTER,
    POINTS,
    RIGHT_EYE_OUTER,
    FaceLandmarker,
)
from natural_video_llm.preprocessing.extract_video_latents import encode_segment
from natural_video_llm.sessions.video import SegmentWriter, read_frames

TURN_FRAMES = 25
PASSES = 5
WIDTH_PX, HEIGHT_PX = 640, 480


class MediaPipe:
    """`mediapipe_landmarks.py` in its interpreter."""

    def __init__(self, python: Path):
        script = Path(__file__).with_name("mediapipe_landmarks.py")
        self._process = subprocess.Popen(
            [python, script, face_landmarker_file()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __call__(self, frame: Frame, begins: bool) -> tuple[float, np.ndarray]:
        """CPU seconds, and points [478, 3] in pixels, NaN where there is no face."""
        _, rgb = frame
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        header = np.array([*rgb.shape[:2], begins], np.int64)
        self._process.stdin.write(header.tobytes() + rgb.tobytes())
        self._process.stdin.flush()
        answer = np.frombuffer(self._process.stdout.read(8 * (1 + 3 * POINTS)), np.float64)
        return float(answer[0]), answer[1:].reshape(POINTS, 3)

    def close(self) -> None:
        self._process.communicate()


@dataclass
class Tally:
    """Sums over clips: CPU seconds, frames with a face of ours and of MediaPipe's, distances in eye distances."""

    frames: int = 0
    ours_s: float = 0.0
    peer_s: float = 0.0
    ours: int = 0
    peer: int = 0
    both: int = 0
    distances: list[np.ndarray] = field(default_factory=list)


def compare(clip: Path, encoder: Encoder, landmarker: FaceLandmarker, peer: MediaPipe, tally: Tally) -> None:
    frames = list(read_frames(clip))
    encoder.reset()
    landmarker.reset()
    for first in range(0, len(frames), TURN_FRAMES):
        turn = frames[first : first + TURN_FRAMES]
        start_s = time.process_time()
        present = encoder.encode(turn).present
        tally.ours_s += time.process_time() - start_s
        answers = [peer(frame, begins=first + number == 0) for number, frame in enumerate(turn)]
        tally.frames += len(turn)
        tally.peer_s += sum(took_s for took_s, _ in answers)
        for (time_s, rgb), seen, (_, theirs) in zip(turn, present, answers, strict=True):
            face = landmarker(rgb, time_s)
            assert (face is not None) == seen
            theirs_seen = not np.isnan(theirs[0, 0])
            tally.ours += seen
            tally.peer += theirs_seen
            tally.both += seen and theirs_seen
            if face is not None and theirs_seen:
                eyes_px = np.linalg.norm(theirs[LEFT_EYE_OUTER] - theirs[RIGHT_EYE_OUTER])
                tally.distances.append(np.linalg.norm(face.points - theirs, axis=1) / eyes_px)


def at_640x480(clips: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Each clip cut to 4:3, scaled and recorded as `nvllm capture video` does; gone when the next comes."""
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            writer = SegmentWriter(Path(folder) / "clip.mp4", WIDTH_PX, HEIGHT_PX, 25)
            for time_s, rgb in read_frames(clip):
                height, width = rgb.shape[:2]
                keep = min(width, height * WIDTH_PX // HEIGHT_PX)
                left, rows = (width - keep) // 2, keep * HEIGHT_PX // WIDTH_PX
                cut = rgb[(height - rows) // 2 :][:rows, left : left + keep]
                writer.write(cv2.resize(cut, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA), time_s)
            writer.close()
            yield clip, Path(folder) / "clip.mp4"


def speed_with_decoding(clips: list[Path], encoder: Encoder) -> None:
    for clip, segment in at_640x480(clips):
        passes_s = []
        for _ in range(PASSES):
            start_s = time.process_time()
            latents, frames = encode_segment(segment, encoder)
            passes_s.append(time.process_time() - start_s)
            assert latents.present.mean() > 0.9
        print(
            f"{clip.name} at {WIDTH_PX}x{HEIGHT_PX}, decoding and encoding: {frames / min(passes_s):.0f} frames/s "
            f"a core ({frames} frames, best of {PASSES} passes; slowest {frames / max(passes_s):.0f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="a folder of clips")
    parser.add_argument("--mediapipe-python", type=Path, help="an interpreter that can import mediapipe")
    parser.add_argument("--speed-clip", default="WolfgangLanger_Pexels.mp4", help="the clip for the speed at 640x480")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    clips = sorted(path for path in options.faces.rglob("*") if path.suffix in (".mpg", ".mp4", ".mov"))
    encoder = make_encoder("face-geometry")
    speed_with_decoding([clip for clip in clips if clip.name == options.speed_clip], encoder)
    if options.mediapipe_python is None:
        return
    peer, landmarker = MediaPipe(options.mediapipe_python), FaceLandmarker(face_landmarker_file())
    for name, some in (
        ("a face in every frame", [clip for clip in clips if "noface" not in clip.name]),
        ("a face that comes or goes", [clip for clip in clips if "noface" in clip.name]),
    ):
        tally = Tally()
        for clip in some:
            compare(clip, encoder, landmarker, peer, tally)
        off = 100 * np.concatenate(tally.distances)
        print(
            f"{name}: {len(some)} clips, {tally.frames} frames; a face in {tally.ours / tally.frames:.2%}, "
            f"MediaPipe {tally.peer / tally.frames:.2%}, of MediaPipe's frames {tally.both / tally.peer:.2%}\n"
            f"  points from MediaPipe's, % of the distance between the eyes: mean {off.mean():.3f}, "
            f"99th percentile {np.percentile(off, 99):.3f}\n"
            f"  without decoding: {1000 * tally.ours_s / tally.frames:.2f} ms a frame, MediaPipe "
            f"{1000 * tally.peer_s / tally.frames:.2f} ms: {tally.peer_s / tally.ours_s:.2f} times its speed"
        )
    peer.close()


if __name__ == "__main__":
    main()
