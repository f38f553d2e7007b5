"""MediaPipe's own FaceLandmarker on frames that come through a pipe; for `bench_face_geometry.py`.

Runs in an interpreter of its own, which needs nothing but the package mediapipe:

    python -m venv PEER && PEER/bin/pip install mediapipe

Reads a header of three int64 (height, width, clip begins) and the picture, rgb uint8, for each frame; answers with
float64: the CPU seconds that it took, all threads together, then 478 x 3 points in pixels (NaN where there is no face).
"""

import sys
import time

import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision

POINTS = 478
DAY_MS = 24 * 3600 * 1000


def main() -> None:
    """Frames from stdin, points to stdout, until stdin ends."""
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=sys.argv[1]),
        running_mode=vision.RunningMode.VIDEO,
        num_faces=1,
        output_face_blendshapes=False,
    )
    landmarker = vision.FaceLandmarker.create_from_options(options)
    pictures = 0
    while header := sys.stdin.buffer.read(24):
        height_px, width_px, begins = np.frombuffer(header, np.int64).tolist()
        picture = sys.stdin.buffer.read(height_px * width_px * 3)
        rgb = np.frombuffer(picture, np.uint8).reshape(height_px, width_px, 3)
        if begins:
            landmarker.close()
            landmarker = vision.FaceLandmarker.create_from_options(options)
        start_s = time.process_time()
        # As if a day lay between two pictures: its smoothing over time is then none (web/src/face/faceWorker.ts).
        pictures += 1
        image = Image(image_format=ImageFormat.SRGB, data=rgb)
        faces = landmarker.detect_for_video(image, pictures * DAY_MS).face_landmarks
        took_s = time.process_time() - start_s
        points = np.full((POINTS, 3), np.nan)
        if faces:
            points = np.array([(p.x, p.y, p.z) for p in faces[0]]) * (width_px, height_px, width_px)
        sys.stdout.buffer.write(np.array([took_s, *points.ravel()], np.float64).tobytes())
        sys.stdout.buffer.flush()
    landmarker.close()


if __name__ == "__main__":
    main()
