"""Video segments: a frame's presentation time is its capture time."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.video import SegmentWriter, read_frames, video_length_s

WIDTH_PX, HEIGHT_PX = 64, 48


def picture(number: int) -> np.ndarray:
    """A grey that tells which frame it is."""
    return np.full((HEIGHT_PX, WIDTH_PX, 3), 20 + number * 7 % 200, np.uint8)


def write(path: Path, times_s: list[float]) -> None:
    writer = SegmentWriter(path, WIDTH_PX, HEIGHT_PX, 10)
    for number, time_s in enumerate(times_s):
        writer.write(picture(number), time_s)
    writer.close()
    assert writer.frames == len(times_s)


@pytest.mark.parametrize("start_s", [0.0, 0.0371, 12.5, 3605.0, 40_000.125])
def test_times_of_a_variable_rate_survive_to_a_millisecond(tmp_path: Path, start_s: float) -> None:
    rng = np.random.default_rng(3)
    times = start_s + np.concatenate([[0], np.cumsum(rng.choice([0.008, 0.0333, 0.1, 1.7], 30))])
    write(tmp_path / "a.mp4", times.tolist())
    frames = list(read_frames(tmp_path / "a.mp4"))
    np.testing.assert_allclose([time_s for time_s, _ in frames], times, atol=1e-3, rtol=0)
    for number, (_, rgb) in enumerate(frames):
        assert rgb.shape == (HEIGHT_PX, WIDTH_PX, 3)
        assert rgb.dtype == np.uint8
        assert abs(int(rgb[20, 30, 0]) - int(picture(number)[0, 0, 0])) <= 4


def fragment_ends(content: bytes) -> list[int]:
    ends, at = [], 0
    while at < len(content):
        length, name = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        at += length
        if name == b"mdat":
            ends.append(at)
    return ends


def test_a_file_that_breaks_off_anywhere_gives_its_first_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    times = [i / 10 for i in range(60)]
    write(path, times)
    content = path.read_bytes()
    ends = fragment_ends(content)
    assert len(ends) >= 20
    for size in range(ends[0], ends[-1], 61):
        path.write_bytes(content[:size])
        read = [time_s for time_s, _ in read_frames(path)]
        np.testing.assert_allclose(read, times[: len(read)], atol=1e-3)
        whole = sum(end <= size for end in ends)
        assert whole <= len(read) <= 3 * (whole + 1)


@pytest.mark.parametrize("rate_hz", [5, 15, 30, 60])
def test_a_killed_process_loses_little_at_any_rate(tmp_path: Path, rate_hz: int) -> None:
    writer = SegmentWriter(tmp_path / "a.mp4", WIDTH_PX, HEIGHT_PX, 30)
    for number in range(3 * rate_hz):
        time_s = 100 + number / rate_hz
        writer.write(picture(number), time_s)
        if number >= rate_hz and number % 7 == 0:
            on_disk_s = [time_s for time_s, _ in read_frames(tmp_path / "a.mp4")][-1]
            assert time_s - on_disk_s < 0.25 + 2 / rate_hz
    writer.close()


def test_there_is_a_key_frame_a_second_at_any_rate(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [i / 4 for i in range(40)])
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.is_keyframe]
    np.testing.assert_allclose(keys, range(10), atol=1e-3)


def test_a_segment_that_is_still_open_can_be_read(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "a.mp4", WIDTH_PX, HEIGHT_PX, 10)
    for number in range(40):
        writer.write(picture(number), number / 10)
    assert len(list(read_frames(tmp_path / "a.mp4"))) >= 20
    writer.close()


def test_what_is_no_video_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video\n" * 50, encoding="utf-8")
    (tmp_path / "empty.mp4").touch()
    for name in ("text.mp4", "empty.mp4", "missing.mp4"):
        with pytest.raises(UserError, match=f"{name}: no readable video") as raised:
            list(read_frames(tmp_path / name))
        assert "\n" not in str(raised.value)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UserError, match="no video stream"):
        list(read_frames(path))


@pytest.mark.parametrize("second_s", [1.0, 0.5, 1.000001])
def test_times_must_rise(tmp_path: Path, second_s: float) -> None:
    writer = SegmentWriter(tmp_path / "a.mp4", WIDTH_PX, HEIGHT_PX)
    writer.write(picture(0), 1.0)
    with pytest.raises(ValueError, match="no later than"):
        writer.write(picture(1), second_s)
    writer.write(picture(1), 1.5)
    writer.close()
    assert [time_s for time_s, _ in read_frames(tmp_path / "a.mp4")] == [1.0, 1.5]


def test_odd_sizes_are_refused(tmp_path: Path) -> None:
    for width_px, height_px in ((63, 48), (64, 47)):
        with pytest.raises(ValueError, match="odd"):
            SegmentWriter(tmp_path / "a.mp4", width_px, height_px)
    assert not (tmp_path / "a.mp4").exists()


def test_a_picture_that_a_phone_marked_as_turned_comes_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    rgb = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    rgb[:16, :16] = 255  # white in the top left corner
    writer = SegmentWriter(path, WIDTH_PX, HEIGHT_PX)
    writer.write(rgb, 0.0)
    writer.close()
    # A phone held upright writes into the track's header: turn by 90 degrees clockwise.
    upright, turned = (
        struct.pack(">9i", *(number << 16 for number in top), 1 << 30)
        for top in ((1, 0, 0, 0, 1, 0, 0, 0), (0, 1, 0, -1, 0, 0, 0, 0))
    )
    head, _, track = path.read_bytes().partition(b"tkhd")
    path.write_bytes(head + b"tkhd" + track.replace(upright, turned, 1))
    ((_, seen),) = read_frames(path)
    assert seen.shape == (WIDTH_PX, HEIGHT_PX, 3)
    assert seen[4, -4].min() > 200  # now top right
    assert seen[4, 4].max() < 50


def test_the_length_is_that_of_the_frames_also_of_a_file_that_breaks_off(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "a.mp4", 64, 48, 10)
    for number in range(30):
        writer.write(np.full((48, 64, 3), number, np.uint8), 5 + number / 10)
    writer.close()
    assert video_length_s(tmp_path / "a.mp4") == pytest.approx(3, abs=0.11)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: whole.rindex(b"moof") - 4])
    frames = len(list(read_frames(tmp_path / "a.mp4")))
    assert 0 < frames < 30
    assert video_length_s(tmp_path / "a.mp4") == pytest.approx(frames / 10, abs=0.11)
