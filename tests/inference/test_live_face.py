"""The live face: what extraction would give, now, bounded, and let go at the end."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage
from own_encoder import OwnEncoder
from tiny_models import encoder_with_model

from natural_video_llm.errors import UserError
from natural_video_llm.inference.live_face import Frames, LiveFace, PushedFrames, View, camera_frames, file_frames
from natural_video_llm.models.face import PersonNeutral
from natural_video_llm.preprocessing.encoders import Encoder, make_encoder
from natural_video_llm.preprocessing.extract_video_latents import encode_segment
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.video import SegmentWriter, read_frames

NEUTRAL_S = 20.0
EMPTY_FRAMES = (7, 8)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder("face-geometry")


@pytest.fixture(scope="module")
def portrait_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a real face that drifts across the picture, gone in `EMPTY_FRAMES`."""
    path = tmp_path_factory.mktemp("video") / "portrait.mp4"
    picture = skimage.data.astronaut()
    writer = SegmentWriter(path, 256, 256, 15)
    for number in range(16):
        rgb = np.ascontiguousarray(picture[:256, 90 + 2 * number : 346 + 2 * number])
        writer.write(rgb * (number not in EMPTY_FRAMES), number / 15)
    writer.close()
    return path


def write_grey(path: Path, times_s: list[float]) -> Path:
    writer = SegmentWriter(path, 64, 48, 10)
    for time_s in times_s:
        writer.write(np.full((48, 64, 3), 90, np.uint8), time_s)
    writer.close()
    return path


def until(condition: Callable[[], bool], at_most_s: float = 20.0) -> None:
    give_up = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.002)


def play(path: Path, encoder: Encoder, memory_s: float = 60.0) -> tuple[LiveFace, View]:
    """Every frame of the file, the next one as soon as the encoder is through with the one before."""
    live: LiveFace

    def frames(clock: SessionClock) -> Frames:
        for number, (_, rgb) in enumerate(read_frames(path)):
            until(lambda n=number: live.view().frames == n)
            yield clock.now_s(), rgb

    live = LiveFace(frames, encoder, memory_s, NEUTRAL_S, SessionClock())
    with live:
        until(lambda: not live.view().running)
    return live, live.view()


def test_the_ring_holds_what_extraction_gives(portrait_video: Path, encoder: Encoder) -> None:
    expected, _ = encode_segment(portrait_video, encoder)
    encoder.encode(list(read_frames(portrait_video))[-4:])  # whom the encoder followed before must not matter
    live, view = play(portrait_video, encoder)
    _, face = live.look()
    assert (view.frames, view.dropped) == (16, 0)
    assert face.present[0].tolist() == expected.present.tolist()
    assert np.flatnonzero(~expected.present).tolist() == list(EMPTY_FRAMES)
    times = face.times[0].numpy()
    relative = PersonNeutral(NEUTRAL_S).extend(expected.latents, times, expected.present)
    np.testing.assert_array_equal(face.latents[0].numpy(), relative)
    np.testing.assert_array_equal(face.latents[0, :, : encoder.latent_size].numpy(), expected.latents)


def test_an_encoder_of_clips_gives_live_what_it_gives_of_a_file(portrait_video: Path, tmp_path: Path) -> None:
    encoder = make_encoder(f"{encoder_with_model('videomae', tmp_path / 'model')},window_s=0.2,stride_s=0.08")
    given: list[tuple[float, np.ndarray]] = []

    def frames(clock: SessionClock) -> Frames:
        for number, (_, rgb) in enumerate(read_frames(portrait_video)):
            until(lambda n=number: live.view().frames == n)
            time.sleep(0.03)
            given.append((clock.now_s(), rgb))
            yield given[-1]

    live = LiveFace(frames, encoder, 60.0, NEUTRAL_S, SessionClock())
    with live:
        until(lambda: not live.view().running)
        assert live.view().face_seen
    encoder.reset()
    expected, face = encoder.encode(given), live.look()[1]
    assert (live.view().frames, live.view().dropped) == (16, 0)
    assert 4 <= len(expected.times) <= 16
    np.testing.assert_array_equal(face.times[0], expected.times)
    np.testing.assert_array_equal(face.present[0], expected.present)
    np.testing.assert_allclose(face.latents[0, :, : encoder.latent_size], expected.latents, atol=2e-3, rtol=2e-3)


def test_a_face_counts_as_seen_until_the_next_clip_is_due(portrait_video: Path, tmp_path: Path) -> None:
    encoder = make_encoder(f"{encoder_with_model('videomae', tmp_path / 'model')},stride_s=30")
    _, rgb = next(read_frames(portrait_video))
    clock = SessionClock()
    with LiveFace(lambda clock: iter([(clock.now_s(), rgb)]), encoder, 60.0, NEUTRAL_S, clock) as live:
        until(lambda: not live.view().running)
        time.sleep(max(0.0, float(live.look()[1].times[0, -1]) + 1.1 - clock.now_s()))
        assert live.view().face_seen


def test_the_ring_is_bounded_by_its_memory(portrait_video: Path, encoder: Encoder) -> None:
    live, view = play(portrait_video, encoder, memory_s=0.03)
    times = live.look()[1].times[0]
    assert view.frames == 16
    assert 1 <= len(times) < 16
    assert times[-1] - times[0] <= 0.03


def test_before_the_first_frame_nobody_is_in_view(encoder: Encoder) -> None:
    live = LiveFace(lambda clock: iter(()), encoder, 5.0, NEUTRAL_S, SessionClock())
    _, face = live.look()
    assert face.latents.shape == (1, 0, 2 * encoder.latent_size)
    assert face.times.shape == face.present.shape == (1, 0)
    assert not live.view().face_seen


def test_a_file_plays_at_its_own_speed(tmp_path: Path, encoder: Encoder) -> None:
    times_s = [5.0, 5.1, 5.15, 5.5, 5.6, 6.0]
    clock = SessionClock()
    live = LiveFace(file_frames(write_grey(tmp_path / "a.mp4", times_s)), encoder, 60.0, NEUTRAL_S, clock)
    started_s = clock.now_s()
    with live:
        while live.view().running:
            now_s, face = live.look()
            assert (face.times <= now_s).all(), "a frame was shown before its time"
            time.sleep(0.01)
        ended_s = clock.now_s()
    seen = live.look()[1].times[0].numpy()
    assert live.view().frames + live.view().dropped == len(times_s)
    assert seen[0] >= started_s
    assert 1.0 <= ended_s - started_s < 5.0
    offsets = seen[:, None] - np.array(times_s)  # on a busy machine a frame may be dropped
    kept = [np.isclose(offsets, offset, atol=1e-3).any(axis=1).all() for offset in offsets[0]]
    assert any(kept), "frames keep their distances"


def test_a_late_frame_is_dropped_and_counted(encoder: Encoder) -> None:
    def frames(clock: SessionClock) -> Frames:
        yield clock.now_s() - 1.0, np.zeros((48, 64, 3), np.uint8)
        yield clock.now_s(), np.zeros((48, 64, 3), np.uint8)

    clock = SessionClock(time.monotonic() - 10)
    with LiveFace(frames, encoder, 60.0, NEUTRAL_S, clock) as live:
        until(lambda: not live.view().running)
        assert (live.view().frames, live.view().dropped) == (1, 1)
        assert live.look()[1].times[0, 0] >= 10


def test_a_busy_encoder_takes_the_newest_frame(portrait_video: Path, encoder: Encoder) -> None:
    pictures = [rgb for _, rgb in read_frames(portrait_video)]
    given: list[float] = []

    def frames(clock: SessionClock) -> Frames:
        for rgb in pictures * 10:
            given.append(clock.now_s())
            yield given[-1], rgb

    with LiveFace(frames, encoder, 60.0, NEUTRAL_S, SessionClock()) as live:
        until(lambda: not live.view().running)
        view, times = live.view(), live.look()[1].times[0].tolist()
    assert view.dropped > 0
    assert view.frames + view.dropped == len(given) == 160
    assert times[-1] == given[-1], "the newest frame wins"
    assert times == sorted(times)


def clips_live(encoder: Encoder, seconds: float, rate_hz: float = 25) -> tuple[LiveFace, View, int]:
    """An encoder of clips with frames as a camera gives them, to the end, and how many there were."""
    count = round(seconds * rate_hz)

    def camera(clock: SessionClock) -> Frames:
        began_s = clock.now_s()
        for number in range(count):
            time.sleep(max(0.0, began_s + number / rate_hz - clock.now_s()))
            yield clock.now_s(), np.full((48, 64, 3), number, np.uint8)

    with LiveFace(camera, encoder, 60.0, NEUTRAL_S, SessionClock()) as live:
        until(lambda: not live.view().running)
    return live, live.view(), count


def test_frames_wait_while_a_clip_is_being_encoded() -> None:
    live, view, count = clips_live(OwnEncoder(0.2, 0.4), seconds=1.3)
    assert (view.frames, view.dropped) == (count, 0), "the next clip needs them"
    assert len(live.look()[1].times[0]) >= 4


def test_what_waits_for_slow_clips_is_bounded() -> None:
    live, view, count = clips_live(OwnEncoder(0.5, 0.1), seconds=1.2)
    times = live.look()[1].times[0].numpy()
    assert view.frames + view.dropped == count
    assert view.dropped > 10
    assert view.frames < 20, "at most a stride of frames waits"
    assert (np.diff(times) > 0).all()


def test_an_error_of_the_source_surfaces(tmp_path: Path, encoder: Encoder) -> None:
    def frames(clock: SessionClock) -> Frames:
        yield clock.now_s(), np.zeros((48, 64, 3), np.uint8)
        raise UserError("the camera was unplugged; plug it in")

    def surfaces(live: LiveFace, words: str) -> None:
        with live:
            until(lambda: not any(t.name.startswith("live-face") for t in threading.enumerate()))
            with pytest.raises(UserError, match=words):
                live.view()
            live.look()  # what was seen before stays
        with pytest.raises(UserError, match=words):
            live.view()

    surfaces(LiveFace(frames, encoder, 5.0, NEUTRAL_S, SessionClock()), "unplugged")
    missing = file_frames(tmp_path / "missing.mp4")
    surfaces(LiveFace(missing, encoder, 5.0, NEUTRAL_S, SessionClock()), r"missing\.mp4: no readable video")


def test_an_error_of_the_encoder_surfaces(encoder: Encoder) -> None:
    def frames(clock: SessionClock) -> Frames:
        while True:
            yield clock.now_s(), np.zeros((48, 64), np.uint8)  # no colour picture

    def failed() -> bool:
        try:
            return not live.view().running
        except ValueError:
            return True

    with LiveFace(frames, encoder, 5.0, NEUTRAL_S, SessionClock()) as live:
        until(failed)
        with pytest.raises(ValueError, match="must be"):
            live.view()


def test_leaving_stops_the_threads_and_lets_the_camera_go(tmp_path: Path, encoder: Encoder) -> None:
    released = threading.Event()

    def camera(clock: SessionClock) -> Iterator[tuple[float, np.ndarray]]:
        try:
            while True:
                yield clock.now_s(), np.zeros((48, 64, 3), np.uint8)
                time.sleep(0.01)
        finally:
            released.set()

    long_pause = file_frames(write_grey(tmp_path / "a.mp4", [0.0, 60.0]))
    for source in (camera, long_pause):
        with LiveFace(source, encoder, 5.0, NEUTRAL_S, SessionClock()) as live:
            until(lambda live=live: live.view().frames >= 1)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 3
        assert not [t for t in threading.enumerate() if t.name.startswith("live-face")]
        assert not live.view().running
    assert released.is_set()


def test_a_face_of_a_while_ago_is_not_seen_now(portrait_video: Path, encoder: Encoder) -> None:
    live, view = play(portrait_video, encoder)
    assert view.face_seen
    until(lambda: not live.view().face_seen, at_most_s=5)


def test_a_camera_that_does_not_exist_is_one_clear_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no camera 97; choose another") as raised:
        next(camera_frames(97)(SessionClock()))
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", ""), "nothing but that line"


def test_pushed_frames_are_seen_with_their_times(tiny_sessions: Path) -> None:
    clip = next((tiny_sessions / "person_000" / "video").glob("*.mp4"))
    pictures = [rgb for _, rgb in read_frames(clip)][:5]
    clock, frames, pushed_s = SessionClock(), PushedFrames(), []
    with LiveFace(frames, make_encoder("face-geometry"), 5.0, 20.0, clock) as face:
        for rgb in pictures:
            pushed_s.append(clock.now_s())
            frames.push(pushed_s[-1], rgb)
            until = time.monotonic() + 10
            while face.view().frames + face.view().dropped < len(pushed_s) and time.monotonic() < until:
                time.sleep(0.005)
        now_s, seen = face.look()
        view = face.view()
        frames.close()
    assert view.face_seen
    assert view.frames + view.dropped == len(pictures)
    times = seen.times[0].tolist()
    assert len(times) == view.frames > 0
    assert set(times) <= set(pushed_s)
    assert times[-1] <= now_s
    assert seen.present.any()


def test_an_older_frame_gives_way_to_a_newer_one() -> None:
    frames = PushedFrames()
    for second in range(3):
        frames.push(float(second), np.full((2, 2, 3), second, np.uint8))
    arriving = frames(SessionClock())
    time_s, rgb = next(arriving)
    assert (time_s, rgb[0, 0, 0]) == (2.0, 2)
    frames.push(3.0, rgb)
    frames.close()
    assert next(arriving)[0] == 3.0
    with pytest.raises(StopIteration):
        next(arriving)
