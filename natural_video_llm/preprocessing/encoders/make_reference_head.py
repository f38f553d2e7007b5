"""Makes `reference_head.json`, the upright symmetric head that every face is turned towards.

    python -m natural_video_llm.preprocessing.encoders.make_reference_head path/to/face_landmarker.task

The head comes from one portrait in the public domain (NASA, `skimage.data.astronaut`) and the mesh net alone.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment
from skimage.data import astronaut

from natural_video_llm.preprocessing.encoders.face_geometry import REFERENCE_HEAD_FILE, rotation_between
from natural_video_llm.preprocessing.encoders.face_landmarks import (
    LEFT_EYE_OUTER,
    RIGHT_EYE_OUTER,
    FaceLandmarker,
)

# What expressions hardly move: a midline, and one side of which the mirror gives the other.
_RIGID_MIDLINE = (10, 151, 9, 8, 168, 6, 197, 195, 5, 4)
_RIGID_FOREHEAD_AND_TEMPLE = (109, 67, 103, 54, 21, 162, 127, 139, 34, 143)
_RIGID_EYE_AND_NOSE = (33, 130, 133, 243, 245, 193, 188, 122, 174, 196, 3, 51)
_RIGID_SIDE = (*_RIGID_FOREHEAD_AND_TEMPLE, *_RIGID_EYE_AND_NOSE)

_FOREHEAD_TOP, _CHIN = 10, 152
_MIRROR_X = np.array([-1, 1, 1])
_TURNS = 5
_SETTLING_FRAMES = 10


def symmetric_head(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One face's points [478, 3] → the symmetric upright head [478, 3] and its mirror permutation [478].

    Raises `ValueError` where the points cannot be paired left and right.
    """
    head = _in_eye_units(points)
    for _ in range(_TURNS):
        head -= head.mean(axis=0)
        mirror = _counterparts(head)
        # Half of the turn that brings a symmetric head onto its reflection makes it look straight ahead.
        turn = cv2.Rodrigues(rotation_between(head, (head * _MIRROR_X)[mirror]))[0]
        head = head @ cv2.Rodrigues(turn / 2)[0].T
    if (mirror[mirror] != np.arange(len(mirror))).any() or mirror[RIGHT_EYE_OUTER] != LEFT_EYE_OUTER:
        raise ValueError("the points of this face cannot be paired left and right: it is not frontal enough")
    head = (head + (head * _MIRROR_X)[mirror]) / 2

    # Symmetry leaves the nod open: the top of the forehead goes straight above the chin.
    down = head[_CHIN] - head[_FOREHEAD_TOP]
    nod = cv2.Rodrigues(np.array([-np.arctan2(down[2], down[1]), 0, 0]))[0]
    return _in_eye_units(head @ nod.T), mirror


def _counterparts(head: np.ndarray) -> np.ndarray:
    """[478] index of each point's counterpart on the other side: the cheapest one-to-one matching."""
    distance = np.linalg.norm(head[:, None] - head * _MIRROR_X, axis=2)
    return linear_sum_assignment(distance + distance.T)[1]


def _in_eye_units(points: np.ndarray) -> np.ndarray:
    eyes = points[[RIGHT_EYE_OUTER, LEFT_EYE_OUTER]]
    return (points - eyes.mean(axis=0)) / np.linalg.norm(eyes[1] - eyes[0])


def main() -> None:
    """Writes the file beside this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task_file", type=Path, help="MediaPipe's face_landmarker.task")
    landmarker = FaceLandmarker(parser.parse_args().task_file)
    # The tracked region settles over a few repeats of the same picture.
    face = [landmarker(astronaut()) for _ in range(_SETTLING_FRAMES)][-1]
    if face is None:
        raise SystemExit("no face found in the portrait")
    head, mirror = symmetric_head(face.points.astype(np.float64))
    rigid = sorted({*_RIGID_MIDLINE, *_RIGID_SIDE, *mirror[[*_RIGID_SIDE]].tolist()})
    content = {
        "source": "skimage.data.astronaut (NASA, public domain) through face_landmarks_detector.tflite",
        "points": np.round(head, 5).tolist(),
        "mirror": mirror.tolist(),
        "rigid": rigid,
    }
    REFERENCE_HEAD_FILE.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
