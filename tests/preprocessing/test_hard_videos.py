"""Videos as people have them: damaged, turned, odd, grey, deep, huge, uneven, and faces where one would not want them.

Every file is made here by FFmpeg's encoders from one portrait and read by the same way as any segment.
"""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoder, make_encoder
from natural_video_llm.preprocessing.encoders.face_geometry import head_points
from natural_video_llm.preprocessing.extract_video_latents import encode_segment, extract_segment
from natural_video_llm.sessions.latents import Latents
from natural_video_llm.sessions.video import read_frames

RATE_HZ = 10
TIMES_S = [number / RATE_HZ for number in range(6)]
PORTRAIT = astronaut()[:320, 60:380]
# Distance of points in the head's frame from the plain video's, in eye distances: compression alone gives 0.01.
SAME_FACE = 0.03


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder("face-geometry")


def write(
    path: Path,
    pictures: Sequence[np.ndarray],
    times_s: Sequence[float] = TIMES_S,
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    movflags: str = "",
    **options: str,
) -> Path:
    """A video as other programs write it: one index for the whole file, pictures that lean on later ones."""
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
        quality = {"crf": "12", "preset": "veryfast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=RATE_HZ, options=quality | options)
        stream.height, stream.width = pictures[0].shape[:2] if pictures else (64, 64)
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = stream.time_base = Fraction(1, 90_000)
        for time_s, rgb in zip(times_s, pictures, strict=False):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def portrait(side_px: int = 320) -> np.ndarray:
    return cv2.resize(PORTRAIT, (side_px, side_px), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def plain(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Latents:
    """Of the portrait in an ordinary video."""
    latents, frames = encode_segment(write(tmp_path_factory.mktemp("plain") / "a.mp4", [portrait()] * 6), encoder)
    assert frames == 6
    assert latents.present.all()
    assert latents.crowded == 0
    return latents


def assert_same_face(latents: Latents, plain: Latents) -> None:
    assert latents.present.all()
    points, expected = (head_points(found.latents[-1].astype(np.float64)) for found in (latents, plain))
    assert np.linalg.norm(points - expected, axis=1).mean() < SAME_FACE


def beside(right_px: int, left_px: int) -> np.ndarray:
    """Two heads of these sizes side by side; 0 leaves one out."""
    picture = np.full((300, 500, 3), 128, np.uint8)
    for left, side_px in ((240, right_px), (20, left_px)):
        if side_px:
            head = cv2.resize(astronaut()[:240, 110:350], (side_px, side_px), interpolation=cv2.INTER_AREA)
            picture[30 : 30 + side_px, left : left + side_px] = head
    return picture


def place(latents: Latents, number: int) -> tuple[float, float]:
    """The head's centre from the picture's middle, in picture widths."""
    x, y = latents.latents[number, -3:-1].astype(float)
    return x, y


@pytest.mark.parametrize("damage", ["second half", "start", "end cut off", "index cut off"])
def test_a_damaged_file_is_one_clear_line_and_gives_no_latents(encoder: Encoder, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.mp4"
    write(path, [portrait()] * 6)
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 4
    if damage == "second half":
        middle, end = (begin + content.index(b"moov")) // 2, content.index(b"moov") - 4
        content[middle:end] = np.random.default_rng(0).bytes(end - middle)
    elif damage == "start":
        content[:64] = bytes(64)
    elif damage == "end cut off":
        del content[len(content) // 2 :]
    else:
        del content[-100:]
    path.write_bytes(content)
    target = tmp_path / "latents" / "a.safetensors"
    with pytest.raises(
        UserError, match=r"a\.mp4: (no readable video|not one frame plays|plays \d of its 6 frames)"
    ) as raised:
        extract_segment(path, target, encoder, frames=6)
    assert "\n" not in str(raised.value)
    assert not target.exists()
    assert not list(tmp_path.glob("latents/*"))


def test_a_video_without_a_frame_is_told(encoder: Encoder, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [portrait()] * 6, movflags="empty_moov+frag_keyframe")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moof") - 4])  # its recorder was killed before a frame was out
    assert not list(read_frames(path))
    with pytest.raises(UserError, match=r"a\.mp4: not one frame plays"):
        extract_segment(path, tmp_path / "a.safetensors", encoder)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_one_frame_is_enough(encoder: Encoder, plain: Latents, tmp_path: Path) -> None:
    latents, frames = encode_segment(write(tmp_path / "a.mp4", [portrait()], [3.5]), encoder)
    assert frames == 1
    assert_same_face(latents, plain)


@pytest.mark.parametrize(("degrees", "matrix"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))])
def test_a_turned_video_is_turned_back(
    encoder: Encoder, plain: Latents, tmp_path: Path, degrees: int, matrix: tuple[int, int, int, int]
) -> None:
    """As a phone writes it: the picture lies, and the track says by how much the player must turn it clockwise."""
    lying = np.rot90(np.pad(portrait(), ((0, 0), (40, 40), (0, 0))), degrees // 90)
    path = write(tmp_path / "a.mp4", [np.ascontiguousarray(lying)] * 6)
    a, b, c, d = (number << 16 for number in matrix)
    content = path.read_bytes()
    at = content.index(struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30), content.index(b"tkhd"))
    path.write_bytes(content[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + content[at + 36 :])
    assert next(read_frames(path))[1].shape == (320, 400, 3)
    assert_same_face(encode_segment(path, encoder)[0], plain)


@pytest.mark.parametrize(
    ("name", "side_px", "pix_fmt", "codec"),
    [
        ("odd.mp4", 301, "yuv444p", "libx264"),
        ("ten.mp4", 320, "yuv420p10le", "libx264"),
        ("full.mp4", 320, "yuvj420p", "libx264"),
        ("grey.mkv", 320, "gray", "ffv1"),
        ("ten.mkv", 320, "gray10le", "ffv1"),
    ],
)
def test_odd_sizes_grey_and_ten_bits(
    encoder: Encoder, plain: Latents, tmp_path: Path, name: str, side_px: int, pix_fmt: str, codec: str
) -> None:
    pictures = [portrait(side_px)[:, : side_px - 20]] * 6
    path = write(tmp_path / name, pictures, pix_fmt=pix_fmt, codec=codec)
    with av.open(str(path)) as container:
        assert container.streams.video[0].format.name == pix_fmt
    latents, frames = encode_segment(path, encoder)
    assert frames == 6
    assert_same_face(latents, plain)


def test_four_thousand_pixels_across(encoder: Encoder, plain: Latents, tmp_path: Path) -> None:
    large = np.zeros((2160, 3840, 3), np.uint8)
    large[:, 840:3000] = cv2.resize(PORTRAIT, (2160, 2160), interpolation=cv2.INTER_CUBIC)
    latents, frames = encode_segment(write(tmp_path / "a.mp4", [large] * 4, preset="ultrafast"), encoder)
    assert frames == 4
    assert_same_face(latents, plain)


def test_an_uneven_rate_keeps_its_times(encoder: Encoder, tmp_path: Path) -> None:
    times_s = [0.5, 0.533, 0.7, 0.701, 1.9, 2.0, 2.25, 7.0]
    path = write(tmp_path / "a.mp4", [portrait(160)] * 8, times_s, bf="2")
    latents, _ = encode_segment(path, encoder)
    np.testing.assert_allclose(latents.times, times_s, atol=1e-3, rtol=0)


def test_a_face_that_goes_and_comes_again(encoder: Encoder, plain: Latents, tmp_path: Path) -> None:
    wall = np.full_like(portrait(), 128)
    pictures = [portrait()] * 3 + [wall] * 4 + [portrait()] * 3
    latents, _ = encode_segment(write(tmp_path / "a.mp4", pictures, [n / RATE_HZ for n in range(10)]), encoder)
    assert latents.present.tolist() == [True] * 3 + [False] * 4 + [True] * 3
    assert not latents.latents[3:7].any()
    points = head_points(latents.latents[[2, 9]].astype(np.float64))
    assert np.linalg.norm(points[0] - points[1], axis=1).mean() < SAME_FACE


def test_of_two_faces_the_larger_one_is_followed(encoder: Encoder, tmp_path: Path) -> None:
    """The smaller one passes by in the middle: it is counted, and changes nothing else."""
    alone, both = beside(240, 0), beside(240, 144)
    pictures = [alone] * 10 + [both] * 20 + [alone] * 10
    times_s = [n / RATE_HZ for n in range(40)]
    latents, _ = encode_segment(write(tmp_path / "a.mp4", pictures, times_s), encoder)
    assert latents.present.all()
    assert latents.crowded == 20  # faces are counted every second
    assert max(abs(place(latents, n)[0] - place(latents, 0)[0]) for n in range(40)) < 0.01


def test_the_followed_face_stays_when_a_larger_one_comes(encoder: Encoder, tmp_path: Path) -> None:
    alone, both = beside(0, 144), beside(240, 144)
    latents, _ = encode_segment(write(tmp_path / "a.mp4", [alone] * 3 + [both] * 3), encoder)
    assert place(latents, 5)[0] == pytest.approx(place(latents, 0)[0], abs=0.01)
    fresh, _ = encode_segment(write(tmp_path / "b.mp4", [both] * 6), encoder)
    assert place(fresh, 0)[0] > 0.1


@pytest.mark.parametrize("cut_px", [120, 135])
def test_a_face_at_the_edge(encoder: Encoder, plain: Latents, tmp_path: Path, cut_px: int) -> None:
    picture = np.ascontiguousarray(portrait()[:, cut_px:])[:, : (320 - cut_px) // 2 * 2]
    latents, _ = encode_segment(write(tmp_path / "a.mp4", [picture] * 6), encoder)
    assert latents.present.all()
    assert np.isfinite(latents.latents).all()
    assert place(latents, 5)[0] < place(plain, 5)[0] - 0.1
