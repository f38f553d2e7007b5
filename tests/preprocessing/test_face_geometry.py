"""The face geometry encoder: shape apart from pose, the mirror, and streaming."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.encoders.face_geometry import (
    FaceGeometryEncoder,
    head_points,
    mirror_latent,
    rotation_between,
)
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.preprocessing.encoders.make_reference_head import symmetric_head
from natural_video_llm.preprocessing.encoders.spec import EncoderSpec

PORTRAIT_CENTRE = (224.0, 125.0)
# Distances between head-frame points, in eye distances; measured on the portrait: mean 0.010, largest 0.023.
MEAN_TOLERANCE = 0.015
LARGEST_TOLERANCE = 0.035
ANGLE_TOLERANCE = 0.04


@pytest.fixture(scope="module")
def shared_encoder(face_task_file: Path) -> FaceGeometryEncoder:
    return FaceGeometryEncoder(EncoderSpec("face-geometry", str(face_task_file)))


@pytest.fixture
def encoder(shared_encoder: FaceGeometryEncoder) -> FaceGeometryEncoder:
    shared_encoder.reset()
    return shared_encoder


def encoded(encoder: FaceGeometryEncoder, rgb: np.ndarray, time_s: float = 0.0) -> np.ndarray | None:
    """The latent of one picture, None where it shows no face."""
    found = encoder.encode([(time_s, rgb)])
    assert found.times.tolist() == [time_s]
    return found.latents[0] if found.present[0] else None


def camera_points(latent: np.ndarray) -> np.ndarray:
    """Points [478, 3] in picture widths from the picture's middle, put together again from shape and pose."""
    turn, place, size = np.split(latent[-6:].astype(float), [3, 5])
    rotation = cv2.Rodrigues(turn)[0]
    return head_points(latent).astype(float) @ rotation.T * np.exp(size) + (*place, 0)


@pytest.fixture
def settled(encoder: FaceGeometryEncoder) -> Callable[[np.ndarray], np.ndarray]:
    """Latent of a still picture after the tracker has come to rest on it."""

    def encode(picture: np.ndarray) -> np.ndarray:
        encoder.reset()
        latents = [encoded(encoder, picture, index / 25) for index in range(5)]
        assert latents[-1] is not None
        return latents[-1]

    return encode


def clip_latents(encoder: FaceGeometryEncoder, clip: Path) -> list[np.ndarray | None]:
    with av.open(str(clip)) as container:
        pictures = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        return [encoded(encoder, picture, index / 25) for index, picture in enumerate(pictures)]


def moved_portrait(angle_deg: float, scale: float, shift_px: tuple[float, float]) -> np.ndarray:
    affine = cv2.getRotationMatrix2D(PORTRAIT_CENTRE, angle_deg, scale)
    affine[:, 2] += np.array(shift_px)
    return cv2.warpAffine(astronaut(), affine, (512, 512), borderMode=cv2.BORDER_REPLICATE)


def assert_same_shape(latent: np.ndarray, other: np.ndarray) -> None:
    distance = np.linalg.norm(head_points(latent).astype(float) - head_points(other), axis=-1)
    assert distance.mean() < MEAN_TOLERANCE
    assert distance.max() < LARGEST_TOLERANCE


def test_latent_of_the_portrait(settled: Callable[[np.ndarray], np.ndarray]) -> None:
    latent = settled(astronaut())
    assert latent.shape == (FaceGeometryEncoder.latent_size,) == (1440,)
    assert latent.dtype == np.float16
    points = head_points(latent).astype(float)
    across = points[263] - points[33]
    assert np.linalg.norm(across) == pytest.approx(1, abs=0.002), "the unit is the eye distance"
    assert across[0] == pytest.approx(1, abs=0.01), "the eyes lie level in the head's own frame"
    assert points[152, 1] > points[13, 1] > points[1, 1] > points[10, 1], "y runs down the face"
    assert points[1, 2] < points[[234, 454], 2].min() - 0.5, "z runs away from the camera"

    turn, place, size = latent[-6:-3].astype(float), latent[-3:-1].astype(float), float(latent[-1])
    assert np.abs(turn).max() < 0.35, "the portrait nearly faces the camera"
    assert place == pytest.approx((np.array([225, 103]) - 256) / 512, abs=0.02)
    assert size == pytest.approx(np.log(60 / 512), abs=0.05)


def test_shape_and_pose_hold_the_whole_face(encoder: FaceGeometryEncoder, face_task_file: Path) -> None:
    picture = astronaut()[:300, 80:]
    height_px, width_px = picture.shape[:2]
    face, latent = FaceLandmarker(face_task_file)(picture), encoded(encoder, picture)
    assert face is not None
    assert latent is not None
    pixels = camera_points(latent) * width_px + (width_px / 2, height_px / 2, 0)
    assert np.abs(pixels[:, :2] - face.points[:, :2]).max() < 0.25, "no more than half precision costs"
    depth = face.points[:, 2] - pixels[:, 2]
    assert np.ptp(depth) < 0.25


def test_mirror_of_any_pose() -> None:
    latent = np.random.default_rng(2).normal(scale=0.5, size=1440)
    unposed = latent.copy()
    unposed[-6:] = 0
    # With no pose a mirror swaps the points and turns x round; the pose must make the same of a turned head.
    posed = unposed.copy()
    head_points(posed)[:] = camera_points(latent)
    assert camera_points(mirror_latent(latent)) == pytest.approx(head_points(mirror_latent(posed)))


@pytest.mark.parametrize(
    ("angle_deg", "scale", "shift_px"),
    [(30, 1, (30, 130)), (-30, 1, (30, 130)), (0, 0.6, (0, 80)), (0, 1.8, (20, 120)), (30, 1.5, (0, 130))],
)
def test_shape_is_free_of_pose(
    settled: Callable[[np.ndarray], np.ndarray], angle_deg: float, scale: float, shift_px: tuple[float, float]
) -> None:
    still, moved = settled(astronaut()), settled(moved_portrait(angle_deg, scale, shift_px))
    assert_same_shape(moved, still)
    change = moved[-6:].astype(float) - still[-6:]
    # OpenCV turns counter-clockwise for positive angles; the roll is positive clockwise.
    assert change[2] == pytest.approx(-np.radians(angle_deg), abs=ANGLE_TOLERANCE)
    assert change[3:5] == pytest.approx(np.array(shift_px) / 512, abs=0.04)
    assert change[5] == pytest.approx(np.log(scale), abs=0.03)


def test_mirrored_picture_gives_the_mirrored_latent(settled: Callable[[np.ndarray], np.ndarray]) -> None:
    tilted = moved_portrait(15, 1, (20, 100))
    latent, mirrored = settled(tilted), settled(tilted[:, ::-1])
    assert abs(float(latent[-4])) > 0.2, "without a tilt the signs of the pose would go untested"
    assert_same_shape(mirror_latent(latent), mirrored)
    assert mirror_latent(latent)[-6:].astype(float) == pytest.approx(mirrored[-6:].astype(float), abs=ANGLE_TOLERANCE)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_mirror_twice_is_the_original(dtype: type[np.floating]) -> None:
    latents: np.ndarray = np.random.default_rng(0).normal(size=(2, 3, 1440)).astype(dtype)
    once = mirror_latent(latents)
    assert once.dtype == dtype
    assert (once != latents).any()
    assert (mirror_latent(once) == latents).all()


@pytest.mark.parametrize(
    ("left", "right"),
    [(33, 263), (133, 362), (61, 291), (159, 386), (70, 300), (234, 454), (468, 473), (13, 13), (152, 152)],
)
def test_mirror_pairs_left_with_right(left: int, right: int) -> None:
    latent = np.zeros(1440, np.float32)
    head_points(latent)[left] = (0.25, 0.5, 1)
    assert head_points(mirror_latent(latent))[right].tolist() == [-0.25, 0.5, 1]


def test_stream_is_bit_equal_after_reset(encoder: FaceGeometryEncoder, faces_dir: Path) -> None:
    clip = faces_dir / "grid_lipnet" / "bbaf2n.mpg"
    first = clip_latents(encoder, clip)
    encoder.reset()
    again = clip_latents(encoder, clip)
    assert len(first) == 75
    for latent, other in zip(first, again, strict=True):
        assert latent is not None
        assert other is not None
        assert latent.tobytes() == other.tobytes()


def test_rigid_points_rest_while_the_mouth_speaks(encoder: FaceGeometryEncoder, faces_dir: Path) -> None:
    latents = clip_latents(encoder, faces_dir / "grid_s1" / "bbir9a.mpg")
    points = head_points(np.stack([latent for latent in latents if latent is not None])).astype(float)
    movement = np.linalg.norm(points.std(axis=0), axis=1)
    nose_bridge_and_eye_corners, lips = movement[[168, 6, 33, 263]], movement[[13, 14, 17]]
    assert lips.min() > 2 * nose_bridge_and_eye_corners.max()


def test_absence_and_return(encoder: FaceGeometryEncoder, faces_dir: Path) -> None:
    seen = [latent is not None for latent in clip_latents(encoder, faces_dir / "pyfeat" / "face_noface.mov")]
    assert all(seen[:60])
    assert not any(seen[-60:])
    back = clip_latents(encoder, faces_dir / "pyfeat" / "noface_face.mov")
    assert all(latent is None for latent in back[:60])
    assert all(latent is not None and np.isfinite(latent).all() for latent in back[-60:-1])


def test_no_face_no_latent(encoder: FaceGeometryEncoder) -> None:
    assert encoded(encoder, np.zeros((120, 160, 3), np.uint8)) is None
    with pytest.raises(ValueError, match="uint8"):
        encoded(encoder, np.zeros((120, 160), np.uint8))


def test_rotation_between_recovers_a_turn() -> None:
    source = np.random.default_rng(1).normal(size=(40, 3))
    turn = cv2.Rodrigues(np.array([0.3, -1.1, 0.6]))[0]
    assert rotation_between(source, source @ turn.T + 5) == pytest.approx(turn)
    flat = source * (1, 1, 0)
    assert np.linalg.det(rotation_between(flat, flat * (-1, 1, 1))) == pytest.approx(1), "never a reflection"


def test_reference_head_is_made_again_the_same(face_task_file: Path) -> None:
    landmarker = FaceLandmarker(face_task_file)
    face = [landmarker(astronaut()) for _ in range(10)][-1]
    assert face is not None
    head, mirror = symmetric_head(face.points.astype(float))
    assert (mirror[mirror] == np.arange(478)).all()
    assert head[mirror] * (-1, 1, 1) == pytest.approx(head)
    latent = np.zeros(1440)
    head_points(latent)[:] = head
    assert head_points(mirror_latent(latent)) == pytest.approx(head), "the stored pairing is the derived one"


def test_encoder_by_name(face_task_file: Path) -> None:
    made = make_encoder("face-geometry")
    assert (made.name, made.latent_size) == ("face-geometry", 1440)
    assert made.weights_sha256 == hashlib.sha256(face_task_file.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=r"'face-geometri'.*face-geometry"):
        make_encoder("face-geometri")
    with pytest.raises(UserError, match=r"absent\.task"):
        make_encoder("face-geometry:absent.task")
    with pytest.raises(UserError, match=r"weights have SHA-256 .*, 000000000000 is needed"):
        make_encoder("face-geometry", sha256="0" * 64)
