"""The landmark tracker on a portrait in the public domain and on real clips."""

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker, _averaged

# Where a person reads these points off the portrait, in pixels: outer eye corners, nose tip, chin, forehead.
PORTRAIT_POINTS = {33: (195, 101), 263: (255, 104), 1: (223, 131), 152: (222, 177), 10: (226, 72)}
PORTRAIT_TOLERANCE_PX = 4


@pytest.fixture(scope="module")
def shared_landmarker(face_task_file: Path) -> FaceLandmarker:
    return FaceLandmarker(face_task_file)


@pytest.fixture
def landmarker(shared_landmarker: FaceLandmarker) -> FaceLandmarker:
    shared_landmarker.reset()
    return shared_landmarker


def frames(clip: Path) -> Iterator[np.ndarray]:
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def assert_on_portrait(points: np.ndarray, offset_px: tuple[float, float] = (0, 0)) -> None:
    for index, place in PORTRAIT_POINTS.items():
        distance = np.linalg.norm(points[index, :2] - np.add(place, offset_px))
        assert distance < PORTRAIT_TOLERANCE_PX, f"point {index} is {distance:.1f} px off"


def test_points_lie_on_the_portrait(landmarker: FaceLandmarker) -> None:
    face = landmarker(astronaut())
    assert face is not None
    assert face.points.shape == (478, 3)
    assert face.points.dtype == np.float32
    assert face.score > 0.99
    assert face.faces == 1
    assert_on_portrait(face.points)
    nose_tip, ears = face.points[1], face.points[[234, 454]]
    assert nose_tip[2] < ears[:, 2].min() - 30, "the nose is nearer to the camera than the ears"


@pytest.mark.parametrize("angle_deg", [-45, -30, 30, 45])
def test_tilted_head_at_first_sight(landmarker: FaceLandmarker, angle_deg: float) -> None:
    affine = cv2.getRotationMatrix2D((224.0, 125.0), angle_deg, 1)
    affine[:, 2] += np.array([30, 130])
    face = landmarker(cv2.warpAffine(astronaut(), affine, (512, 512), borderMode=cv2.BORDER_REPLICATE))
    assert face is not None
    for index, place in PORTRAIT_POINTS.items():
        distance = np.linalg.norm(face.points[index, :2] - affine @ (*place, 1))
        assert distance < 1.5 * PORTRAIT_TOLERANCE_PX, f"point {index} is {distance:.1f} px off"


def test_faces_are_counted_once_a_second(landmarker: FaceLandmarker) -> None:
    head = astronaut()[:240, 110:350]
    alone = np.full((300, 500, 3), 128, np.uint8)
    alone[30:270, 240:480] = head
    both = alone.copy()
    both[60:204, 20:164] = cv2.resize(head, (144, 144), interpolation=cv2.INTER_AREA)
    faces = [landmarker(picture, time_s) for time_s, picture in ((0.0, alone), (0.9, both), (1.1, both), (2.2, alone))]
    assert [face and face.faces for face in faces] == [1, 1, 2, 1]
    for face in faces:
        assert face is not None
        assert_on_portrait(face.points, (240 - 110, 30))


def test_what_only_the_detector_takes_for_a_face_is_not_counted(landmarker: FaceLandmarker) -> None:
    (head,) = landmarker._detect(astronaut(), _averaged)
    collar = replace(head, centre_px=head.centre_px + np.array([0, 150]), side_px=head.side_px / 2)
    assert landmarker._count(astronaut(), [head, collar]) == 1


def test_face_that_jumps_is_found_on_the_same_frame(landmarker: FaceLandmarker) -> None:
    portrait = astronaut()
    head = portrait[:240, 110:350]
    wide = np.full((300, 600, 3), 128, np.uint8)
    left, right = wide.copy(), wide.copy()
    left[30:270, 20:260] = head
    right[30:270, 340:580] = head
    assert landmarker(left) is not None
    moved = landmarker(right)
    assert moved is not None
    assert moved.faces == 1
    assert_on_portrait(moved.points, (340 - 110, 30))


def test_largest_of_two_faces(landmarker: FaceLandmarker) -> None:
    head = astronaut()[:240, 110:350]
    both = np.full((300, 500, 3), 128, np.uint8)
    both[60:204, 20:164] = cv2.resize(head, (144, 144), interpolation=cv2.INTER_AREA)
    both[30:270, 240:480] = head
    face = landmarker(both)
    assert face is not None
    assert face.faces == 2
    assert_on_portrait(face.points, (240 - 110, 30))


@pytest.mark.parametrize("cut_px", [185, 195])
def test_face_at_the_edge(landmarker: FaceLandmarker, cut_px: int) -> None:
    face = landmarker(astronaut()[:, cut_px:])
    assert face is not None
    assert_on_portrait(face.points, (-cut_px, 0))


@pytest.mark.parametrize("side_px", [32, 47, 101])
def test_small_and_odd_pictures(landmarker: FaceLandmarker, side_px: int) -> None:
    picture = cv2.resize(astronaut()[:256, 96:352], (side_px, side_px + 1), interpolation=cv2.INTER_AREA)
    face = landmarker(picture)
    assert face is not None
    scale = np.array([side_px, side_px + 1]) / 256
    tolerance_px = max(PORTRAIT_TOLERANCE_PX, 1.5 / scale[0])
    for index, place in PORTRAIT_POINTS.items():
        distance = np.abs(face.points[index, :2] / scale - np.subtract(place, (96, 0))).max()
        assert distance < tolerance_px, f"point {index} is {distance:.1f} px of the large picture off"


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (3, 2, 3), (480, 640, 3)])
def test_no_face_on_black(landmarker: FaceLandmarker, shape: tuple[int, int, int]) -> None:
    assert landmarker(np.zeros(shape, np.uint8)) is None


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 1), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((0, 64, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(landmarker: FaceLandmarker, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\[H, W, 3\] uint8"):
        landmarker(picture)


@pytest.mark.parametrize(
    "clip",
    ["grid_s1/bbir9a.mpg", "grid_lipnet/lrwp9a.mpg", "grid_lipnet/swiz3n.mpg", "pyfeat/single_face.mp4"],
)
def test_real_face_is_never_lost(landmarker: FaceLandmarker, faces_dir: Path, clip: str) -> None:
    faces = [landmarker(frame) for frame in frames(faces_dir / clip)]
    found = [face for face in faces if face is not None]
    assert len(found) >= 0.99 * len(faces)
    for face in found:
        eyes, mouth, chin = face.points[[33, 263], 1].max(), face.points[13, 1], face.points[152, 1]
        assert eyes < mouth < chin


@pytest.mark.parametrize(("clip", "first", "last"), [("face_noface.mov", 1, 0), ("noface_face.mov", 0, 1)])
def test_face_leaves_and_comes(landmarker: FaceLandmarker, faces_dir: Path, clip: str, first: int, last: int) -> None:
    seen = [landmarker(frame) is not None for frame in frames(faces_dir / "pyfeat" / clip)]
    assert np.mean(seen[:60]) == first
    assert np.mean(seen[-60:-1]) == last
    assert np.abs(np.diff(seen[:-1])).sum() == 1, "one change, no flicker"


def test_bundle_that_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "broken.task"
    broken.write_bytes(b"not a bundle")
    with pytest.raises(UserError, match=r"broken\.task.*fetch it again"):
        FaceLandmarker(broken)
    with pytest.raises(UserError, match=r"absent\.task.*fetch it again"):
        FaceLandmarker(tmp_path / "absent.task")


def test_bundle_that_lacks_a_net(tmp_path: Path, face_task_file: Path) -> None:
    partial = tmp_path / "partial.task"
    with zipfile.ZipFile(face_task_file) as whole, zipfile.ZipFile(partial, "w") as bundle:
        bundle.writestr("face_detector.tflite", whole.read("face_detector.tflite"))
    with pytest.raises(UserError, match=r"partial\.task.*face_landmarks_detector\.tflite.*fetch it again"):
        FaceLandmarker(partial)


def test_bundle_with_a_broken_net(tmp_path: Path, face_task_file: Path) -> None:
    spoiled = tmp_path / "spoiled.task"
    with zipfile.ZipFile(face_task_file) as whole, zipfile.ZipFile(spoiled, "w") as bundle:
        bundle.writestr("face_detector.tflite", whole.read("face_detector.tflite"))
        bundle.writestr("face_landmarks_detector.tflite", b"no net")
    with pytest.raises(UserError, match=r"spoiled\.task.*fetch it again"):
        FaceLandmarker(spoiled)
