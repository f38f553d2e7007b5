"""The face on a square: upright, steady, with a margin, on a portrait in the public domain and on real clips."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from natural_video_llm.preprocessing.encoders.face_crop import SIDE_EYE_DISTANCES, FaceCropper
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.sessions.video import read_frames

SIDE_PX = 160
PORTRAIT_NOSE = (224.0, 125.0)


@pytest.fixture(scope="module")
def shared_cropper(face_task_file: Path) -> FaceCropper:
    return FaceCropper(face_task_file, SIDE_PX)


@pytest.fixture
def cropper(shared_cropper: FaceCropper) -> FaceCropper:
    shared_cropper.reset()
    return shared_cropper


@pytest.fixture(scope="module")
def landmarker(face_task_file: Path) -> FaceLandmarker:
    return FaceLandmarker(face_task_file)


def portrait(angle_deg: float = 0.0, scale: float = 1.0, moved_px: tuple[float, float] = (30.0, 130.0)) -> np.ndarray:
    affine = cv2.getRotationMatrix2D(PORTRAIT_NOSE, angle_deg, scale)
    affine[:, 2] += moved_px
    return cv2.warpAffine(astronaut(), affine, (512, 512), borderMode=cv2.BORDER_REPLICATE)


def last_crop(cropper: FaceCropper, frames: Iterable[tuple[float, np.ndarray]]) -> np.ndarray:
    cropper.reset()
    crops = [cropper.crop(frame)[0] for frame in frames]
    assert all(crop is not None for crop in crops)
    return crops[-1]


def points_on(crop: np.ndarray, landmarker: FaceLandmarker) -> np.ndarray:
    """[478, 3] where the face's points lie on a crop, in sides."""
    landmarker.reset()
    for _ in range(3):  # the tracker's own crop settles
        face = landmarker(crop)
    assert face is not None
    return face.points / len(crop)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean difference of two crops in grey levels."""
    return float(np.abs(first.astype(float) - second).mean())


@pytest.mark.parametrize(("angle_deg", "scale"), [(0, 1.0), (-45, 1.0), (30, 1.0), (60, 1.0), (20, 0.6), (-20, 1.5)])
def test_the_face_is_upright_in_the_middle_and_of_one_size(
    cropper: FaceCropper, landmarker: FaceLandmarker, angle_deg: float, scale: float
) -> None:
    crop = last_crop(cropper, [(i / 30, portrait(angle_deg, scale)) for i in range(4)])
    assert crop.shape == (SIDE_PX, SIDE_PX, 3)
    assert crop.dtype == np.uint8
    points = points_on(crop, landmarker)
    across, down = points[263] - points[33], points[152] - points[10]
    assert abs(np.degrees(np.arctan2(across[1], across[0]))) < 4
    assert abs(np.degrees(np.arctan2(down[0], down[1]))) < 4
    assert np.linalg.norm(across) == pytest.approx(1 / SIDE_EYE_DISTANCES, rel=0.05)
    assert points[:, :2].mean(axis=0) == pytest.approx((0.5, 0.5), abs=0.02)
    assert points[:, :2].min() > 0.12
    assert points[:, :2].max() < 0.88
    assert difference(crop, last_crop(cropper, [(0.0, portrait())])) < 6


def moving(rate_hz: float, until_s: float = 0.8) -> list[tuple[float, np.ndarray]]:
    times = np.linspace(0, until_s, round(until_s * rate_hz) + 1)
    return [(t, portrait(20 * t, 1 + 0.1 * t, (30 + 55 * t, 130 - 20 * t))) for t in times.tolist()]


def test_smoothing_does_not_depend_on_the_frame_rate(cropper: FaceCropper) -> None:
    frames = moving(50)
    at_50_hz = last_crop(cropper, frames)
    unsmoothed = last_crop(cropper, frames[-1:])
    assert difference(at_50_hz, unsmoothed) > 8
    for other in (moving(10), moving(25), [*frames[:7:2], *frames[7:30:3], *frames[30:]]):
        assert difference(last_crop(cropper, other), at_50_hz) < 0.15 * difference(at_50_hz, unsmoothed)


def test_a_small_quick_movement_stays_visible(cropper: FaceCropper, landmarker: FaceLandmarker) -> None:
    still, nodded = portrait(), portrait(moved_px=(30, 138))
    cropper.reset()
    before = [cropper.crop((i / 30, still))[0] for i in range(10)][-1]
    after = cropper.crop((10 / 30, nodded))[0]
    assert before is not None
    assert after is not None
    moved = points_on(after, landmarker)[1, 1] - points_on(before, landmarker)[1, 1]
    # 8 of about 168 pixels; a crop that follows at once would show none of it.
    assert 0.75 * 8 / 168 < moved < 1.1 * 8 / 168


def test_a_face_that_jumps_stays_on_the_crop_and_comes_to_the_middle(
    cropper: FaceCropper, landmarker: FaceLandmarker
) -> None:
    there = portrait(moved_px=(170, 180))
    frames = [(0.0, portrait(moved_px=(-60, 40))), *((0.04 + i / 25, there) for i in range(40))]
    cropper.reset()
    crops = [cropper.crop(frame)[0] for frame in frames]
    first, last = crops[1], crops[-1]
    assert first is not None
    assert last is not None
    assert points_on(first, landmarker)[:, :2].max() < 1
    assert points_on(last, landmarker)[:, :2].mean(axis=0) == pytest.approx((0.5, 0.5), abs=0.02)


def test_a_face_that_was_away_is_met_anew(cropper: FaceCropper) -> None:
    back = portrait(moved_px=(50, 150))
    cropper.reset()
    assert cropper.crop((0.0, portrait()))[1] == 1
    assert cropper.crop((0.5, np.zeros_like(back))) == (None, 0)
    again, faces = cropper.crop((1.5, back))
    assert faces == 1
    assert again is not None
    assert difference(again, last_crop(cropper, [(0.0, back)])) < 1


@pytest.mark.parametrize("cut_px", [185, 195])
def test_beyond_the_edge_is_black(cropper: FaceCropper, landmarker: FaceLandmarker, cut_px: int) -> None:
    crop, faces = cropper.crop((0.0, astronaut()[:, cut_px:]))
    assert faces == 1
    assert crop is not None
    assert (crop[:, 0] == 0).all()
    whole = last_crop(cropper, [(0.0, astronaut())])
    assert difference(crop[:, SIDE_PX // 2 :], whole[:, SIDE_PX // 2 :]) < 10
    points = points_on(crop, landmarker)
    assert points[:, :2].mean(axis=0) == pytest.approx((0.5, 0.5), abs=0.05)


def test_a_large_picture_is_averaged_not_sampled(cropper: FaceCropper) -> None:
    small = astronaut()[:300, 70:370]
    large = cv2.resize(small, (1800, 1800), interpolation=cv2.INTER_CUBIC)
    rough = np.clip(large + np.random.default_rng(0).normal(0, 40, large.shape), 0, 255).astype(np.uint8)
    smooth = last_crop(cropper, [(0.0, large)])
    assert difference(smooth, last_crop(cropper, [(0.0, small)])) < 4
    assert difference(smooth, last_crop(cropper, [(0.0, rough)])) < 10  # looked up pixel by pixel: about 20


def test_the_larger_of_two_faces_counted(cropper: FaceCropper) -> None:
    head = astronaut()[:240, 110:350]
    both = np.full((300, 500, 3), 128, np.uint8)
    both[60:204, 20:164] = cv2.resize(head, (144, 144), interpolation=cv2.INTER_AREA)
    alone = both.copy()
    alone[60:204, 20:164] = 128
    both[30:270, 240:480] = alone[30:270, 240:480] = head
    crop, faces = cropper.crop((0.0, both))
    assert faces == 2
    assert crop is not None
    assert difference(crop, last_crop(cropper, [(0.0, alone)])) < 2


def test_a_picture_that_is_none_is_refused(cropper: FaceCropper) -> None:
    with pytest.raises(ValueError, match=r"\[H, W, 3\] uint8"):
        cropper.crop((0.0, np.zeros((64, 64), np.uint8)))


def test_the_whole_frame_keeps_its_proportions(face_task_file: Path) -> None:
    whole = FaceCropper(face_task_file, 64, whole_frame=True)
    wide = astronaut()[:256]
    square, faces = whole.crop((0.0, wide))
    assert faces == 1
    assert square is not None
    assert (square[:16] == 0).all()
    assert (square[48:] == 0).all()
    assert difference(square[16:48], cv2.resize(wide, (64, 32), interpolation=cv2.INTER_AREA)) < 1


def test_presence_is_the_same_with_and_without_crop(
    cropper: FaceCropper, face_task_file: Path, faces_dir: Path
) -> None:
    whole = FaceCropper(face_task_file, 64, whole_frame=True)
    frames = list(read_frames(faces_dir / "pyfeat/face_noface.mov"))[::5]
    counted = [(cropper.crop(frame)[1], whole.crop(frame)[1]) for frame in frames]
    assert [one for one, _ in counted] == [other for _, other in counted]
    assert {min(one, 1) for one, _ in counted} == {0, 1}


@pytest.mark.parametrize("clip", ["grid_s1/bbir9a.mpg", "pyfeat/single_face.mp4"])
def test_a_real_face_keeps_its_margin(
    cropper: FaceCropper, landmarker: FaceLandmarker, faces_dir: Path, clip: str
) -> None:
    for number, frame in enumerate(read_frames(faces_dir / clip)):
        crop, _ = cropper.crop(frame)
        if number % 8 == 0:
            assert crop is not None
            points = points_on(crop, landmarker)
            assert points[:, :2].min() > 0.05
            assert points[:, :2].max() < 0.95
            assert abs(np.degrees(np.arctan2(*(points[263] - points[33])[1::-1]))) < 8
