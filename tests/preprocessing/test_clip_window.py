"""The sliding window: picked by time, the same for a stream and a file, blind to the future, bounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from natural_video_llm.preprocessing.encoders.clip_window import Clip, ClipWindow

# (time, shows a face)
Video = list[tuple[float, bool]]

SLACK_S = 2e-5
STEPS_S = st.one_of(st.sampled_from([0.001, 1 / 30, 0.04, 0.25, 0.5]), st.floats(1e-3, 0.4), st.floats(1.0, 5.0))
WINDOWS = st.tuples(st.integers(1, 8), st.sampled_from([0.25, 0.5, 1.0, 1.7]), st.sampled_from([0.01, 0.1, 0.25, 0.8]))


@st.composite
def videos(draw: st.DrawFn) -> Video:
    """Frames at uneven times, from any start, some without a face, some with gaps between them."""
    steps = draw(st.lists(STEPS_S, max_size=40))
    faces = draw(st.lists(st.booleans(), min_size=len(steps) + 1, max_size=len(steps) + 1))
    times = draw(st.sampled_from([0.0, 0.033, 7.25, 5000.1])) + np.cumsum([0.0, *steps])
    return list(zip(times.tolist(), faces, strict=True))


def crop(number: int) -> np.ndarray:
    """A picture that tells the frame's number."""
    return np.full((2, 2, 3), number, np.uint8)


def clips_of(window: ClipWindow, video: Video) -> list[tuple[float, list[int], int]]:
    """(end, numbers of the frames shown, faces) of every clip."""
    found: list[Clip] = []
    for number, (time_s, face) in enumerate(video):
        clip = window.add(time_s, crop(number) if face else None, 2 if face else 0)
        if clip is not None:
            found.append(clip)
    return [(clip.time_s, [int(picture[0, 0, 0]) for picture in clip.pictures], clip.faces) for clip in found]


def expected_clips(video: Video, places: int, window_s: float, stride_s: float) -> list[tuple[float, list[int], int]]:
    """The same out of the whole video at once."""
    times = np.array([time_s for time_s, _ in video])
    moments = np.arange(0, times[-1] - times[0] + stride_s + 1, stride_s)
    due = {int(np.searchsorted(times, times[0] + moment - SLACK_S)) for moment in moments}
    found = []
    for end in sorted(due - {len(video)}):
        ago_s = np.linspace(window_s, 0, places) if places > 1 else np.zeros(1)
        shown = np.searchsorted(times, times[end] - ago_s + SLACK_S, side="right") - 1
        first = max(0, int(np.searchsorted(times, times[end] - window_s + SLACK_S, side="right")) - 1)
        with_face = [number for number in range(first, end + 1) if video[number][1]]
        numbers = [max((n for n in with_face if n <= place), default=with_face[0]) for place in shown if with_face]
        seen = video[end][1]
        found.append((times[end], numbers if seen else [], 2 if seen else 0))
    return found


@given(videos(), WINDOWS)
def test_a_stream_gives_what_the_whole_video_gives(video: Video, sizes: tuple[int, float, float]) -> None:
    assert clips_of(ClipWindow(*sizes), video) == expected_clips(video, *sizes)


@given(videos(), videos(), WINDOWS, st.data())
def test_the_future_changes_nothing(
    video: Video, other: Video, sizes: tuple[int, float, float], data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, len(video)))
    now_s = video[kept - 1][0]
    changed = video[:kept] + [(now_s + 0.001 + time_s, face) for time_s, face in other]
    before = clips_of(ClipWindow(*sizes), video[:kept])
    assert [clip for clip in clips_of(ClipWindow(*sizes), changed) if clip[0] <= now_s] == before
    for end_s, numbers, _ in before:
        assert all(video[number][0] <= end_s for number in numbers)


@given(videos(), WINDOWS)
def test_a_clip_comes_once_a_stride_and_never_in_a_burst(video: Video, sizes: tuple[int, float, float]) -> None:
    ends_s = [end_s for end_s, _, _ in clips_of(ClipWindow(*sizes), video)]
    assert ends_s[0] == video[0][0]
    assert len(set(ends_s)) == len(ends_s)
    passed = np.floor((np.array(ends_s) - ends_s[0] + SLACK_S) / sizes[2])
    assert (np.diff(passed) >= 1).all()


@given(videos(), WINDOWS)
def test_only_frames_that_can_still_be_shown_are_held(video: Video, sizes: tuple[int, float, float]) -> None:
    window = ClipWindow(*sizes)
    for number, (time_s, _) in enumerate(video):
        window.add(time_s, crop(number), 1)
        inside = [early for early, _ in video[: number + 1] if early > time_s - sizes[1]]
        assert len(window) <= len(inside) + 1


def test_memory_is_bounded_by_the_window_at_a_thousand_frames_a_second() -> None:
    window = ClipWindow(16, 0.5, 0.25)
    held = 0
    for number in range(3000):
        window.add(number / 1000, crop(number % 256), 1)
        held = max(held, len(window))
    assert 490 <= held <= 502


def test_pictures_are_evenly_spaced_in_time() -> None:
    window = ClipWindow(5, 1.0, 0.25)
    clips = clips_of(window, [(number / 25, True) for number in range(51)])
    assert [end_s for end_s, _, _ in clips] == [number / 25 for number in (0, 7, 13, 19, 25, 32, 38, 44, 50)]
    assert clips[-1][1] == [25, 31, 37, 43, 50]
    assert clips[0][1] == [0] * 5


def test_times_rounded_to_the_clock_of_a_video_file_change_nothing() -> None:
    exact = [(number * 0.05, True) for number in range(100)]
    rounded = [(round(time_s * 90_000 - 0.4) / 90_000, face) for time_s, face in exact]
    assert [numbers for _, numbers, _ in clips_of(ClipWindow(4, 1.0, 0.25), rounded)] == [
        numbers for _, numbers, _ in clips_of(ClipWindow(4, 1.0, 0.25), exact)
    ]


def test_one_frame_is_a_clip() -> None:
    assert clips_of(ClipWindow(4, 1.0, 0.25), [(3.0, True)]) == [(3.0, [0, 0, 0, 0], 2)]


def test_a_gap_gives_one_clip_and_the_grid_stays() -> None:
    window = ClipWindow(3, 1.0, 0.5)
    clips = clips_of(window, [(0.0, True), (10.2, True), (10.4, True), (10.5, True), (10.9, True), (11.0, True)])
    assert [(end_s, numbers) for end_s, numbers, _ in clips] == [
        (0.0, [0, 0, 0]),
        (10.2, [0, 0, 1]),
        (10.5, [0, 0, 3]),
        (11.0, [0, 3, 5]),
    ]


@pytest.mark.parametrize(
    ("faces", "shown"),
    [
        ([True, True, False, True], [0, 1, 1, 3]),  # the one before
        ([False, False, True, True], [2, 2, 2, 3]),  # else the next one
        ([False, False, False, True], [3, 3, 3, 3]),
        ([True, True, True, False], []),  # nobody is there now
        ([False, False, False, False], []),
    ],
)
def test_a_frame_without_a_face_is_stood_in_for(faces: list[bool], shown: list[int]) -> None:
    video = list(zip([0.0, 0.5, 1.0, 1.5], faces, strict=True))
    assert clips_of(ClipWindow(4, 1.5, 1.5), video)[-1] == (1.5, shown, 2 if shown else 0)


def test_a_face_of_long_ago_stands_in_for_nobody() -> None:
    video = [(0.0, True), (0.1, False), (5.0, False), (5.5, True), (6.0, True)]
    assert clips_of(ClipWindow(3, 1.0, 1.0), video)[-1] == (6.0, [3, 3, 4], 2)


def test_a_frame_that_comes_no_later_is_passed_over() -> None:
    in_order = [(0.0, True), (0.3, True), (0.6, True)]
    late = [in_order[0], in_order[1], (0.3, True), (0.1, False), in_order[2]]
    clips = clips_of(ClipWindow(2, 0.6, 0.3), late)
    assert [(end_s, numbers) for end_s, numbers, _ in clips] == [(0.0, [0, 0]), (0.3, [0, 1]), (0.6, [0, 4])]


def test_a_reset_window_begins_anew() -> None:
    window = ClipWindow(3, 1.0, 0.4)
    video = [(9.0 + number * 0.13, number % 3 > 0) for number in range(20)]
    fresh = clips_of(window, video)
    window.reset()
    assert clips_of(window, video) == fresh
