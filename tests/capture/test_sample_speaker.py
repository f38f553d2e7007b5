"""Sample sessions: real nets read the motion back, and nothing but the picture knows which one was played."""

import json
import resource
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from natural_video_llm.capture.motion import MOTIONS, SWAY, draw_turn, play
from natural_video_llm.capture.portrait import MOVEMENTS, Portrait, load_portrait
from natural_video_llm.capture.sample_corpus import load_corpus
from natural_video_llm.capture.sample_face import SampleFace
from natural_video_llm.capture.sample_plan import plan_people
from natural_video_llm.capture.sample_speaker import write_sample_sessions
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.sessions.candidates import ORDER_PAIRS, read_candidates
from natural_video_llm.sessions.events import SessionEnd, SessionStart, Text, VideoSegmentEnd
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.sessions.video import read_frames

SMALL: dict[str, Any] = {
    "people": 3,
    "held_out_people": 1,
    "held_out_messages": 4,
    "turns": 3,
    "rate_hz": 10,
    "workers": 1,
}
STILL = np.zeros((1, len(SWAY)))


@pytest.fixture(scope="session")
def portrait(face_task_file: Path) -> Portrait:
    return load_portrait(face_task_file)


@pytest.fixture(scope="session")
def landmarker(face_task_file: Path) -> FaceLandmarker:
    return FaceLandmarker(face_task_file)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, face_task_file: Path) -> Path:
    out = tmp_path_factory.mktemp("sample")
    write_sample_sessions(out, face_task_file, **SMALL)
    return out


def measure(landmarker: FaceLandmarker, frame: np.ndarray) -> dict[str, float]:
    """A few distances in eye distances, along the axis of the eyes."""
    landmarker.reset()
    landmarker(frame)
    face = landmarker(frame)
    assert face is not None
    points = face.points[:, :2].astype(float)
    across = points[263] - points[33]
    down = np.array([-across[1], across[0]])
    x, y = np.stack([across, down]) @ (points - points[[33, 263]].mean(axis=0)).T / (across @ across)
    return {
        "mouth_width": x[291] - x[61],
        "corners_up": -(y[61] + y[291]) / 2,
        "brows_up": -(y[105] + y[334]) / 2,
        "inner_brows_up": -(y[55] + y[285]) / 2,
        "lips_apart": y[14] - y[13],
        "lids_apart": (y[145] - y[159] + y[374] - y[386]) / 2,
    }


def change(landmarker: FaceLandmarker, face: SampleFace, motion: str) -> dict[str, float]:
    """Measured end of the motion less its start, with the mouth still and the eyes open."""
    weights, _ = play(motion, draw_turn(np.random.default_rng(1), 4.0), np.array([0.0, 4.0]))
    weights[:, [MOVEMENTS.index("jaw_down"), MOVEMENTS.index("lids_down")]] = 0
    before, after = (
        measure(landmarker, frame) for frame in face.render(weights, STILL.repeat(2, axis=0), np.random.default_rng(2))
    )
    return {name: after[name] - before[name] for name in before}


def test_landmarks_follow_the_motions(portrait: Portrait, landmarker: FaceLandmarker) -> None:
    faces = [SampleFace(portrait, seed) for seed in range(4)]
    changes = {motion: [change(landmarker, face, motion) for face in faces] for motion in MOTIONS}
    mean = {m: {name: float(np.mean([c[name] for c in changes[m]])) for name in changes[m][0]} for m in MOTIONS}
    assert mean["smile_comes"]["mouth_width"] > 0.06
    assert mean["smile_comes"]["corners_up"] > 0.03
    assert mean["brows_rise"]["brows_up"] > 0.04
    assert mean["brows_rise"]["inner_brows_up"] > 0.04
    assert mean["mouth_droops"]["corners_up"] < -0.03
    assert mean["mouth_droops"]["inner_brows_up"] > 0.02
    assert mean["brows_knit"]["inner_brows_up"] < -0.015
    assert mean["brows_knit"]["brows_up"] < -0.02
    for forwards, backwards in ORDER_PAIRS:
        for name, value in mean[forwards].items():
            assert mean[backwards][name] == pytest.approx(-value, abs=0.02)


def test_talking_opens_the_mouth_and_blinks_close_the_eyes(portrait: Portrait, landmarker: FaceLandmarker) -> None:
    weights = np.zeros((3, len(MOVEMENTS)))
    weights[1, MOVEMENTS.index("jaw_down")] = 1.0
    weights[2, MOVEMENTS.index("lids_down")] = 1.0
    frames = SampleFace(portrait, 3).render(weights, STILL.repeat(3, axis=0), np.random.default_rng(0))
    still, talking, blinking = (measure(landmarker, frame) for frame in frames)
    assert talking["lips_apart"] - still["lips_apart"] > 0.015
    assert blinking["lids_apart"] - still["lids_apart"] < -0.03


def test_faces_differ(portrait: Portrait, landmarker: FaceLandmarker) -> None:
    at_rest = np.zeros((1, len(MOVEMENTS)))
    shapes = []
    for seed in range(24):
        frame = next(SampleFace(portrait, seed).render(at_rest, STILL, np.random.default_rng(seed)))
        landmarker.reset()
        face = landmarker(frame)
        assert face is not None, f"no face is found in sample face {seed}"
        points = face.points[:, :2] - face.points[:, :2].mean(axis=0)
        height_px = np.ptp(points[:, 1])
        assert 0.4 * 240 < height_px < 0.6 * 240
        shapes.append(points / np.linalg.norm(points[263] - points[33]))
    apart = [np.sqrt(((a - b) ** 2).sum(axis=1).mean()) for i, a in enumerate(shapes) for b in shapes[:i]]
    assert min(apart) > 0.02
    assert np.median(apart) > 0.06


def test_the_same_seed_gives_the_same_frames(portrait: Portrait) -> None:
    weights, sway = play("brows_rise", draw_turn(np.random.default_rng(1), 4.0), np.linspace(0, 4, 5))
    a, b, other = (
        np.stack(list(SampleFace(portrait, seed).render(weights, sway, np.random.default_rng(9)))) for seed in (5, 5, 6)
    )
    assert np.array_equal(a, b)
    assert np.abs(a.astype(int) - other).mean() > 5


def test_sessions_are_readable_and_on_time(sample: Path) -> None:
    sessions = find_sessions(sample)
    assert [session.path.name for session in sessions] == ["person_000", "person_001", "person_002"]
    for session in sessions:
        assert session.start.filmed_speaker == "speaker"
        assert "nobody was filmed" in session.start.consent
        rest = [e for e in session.events if not isinstance(e, SessionStart)]
        logged = [e.t_end if isinstance(e, Text) else e.t for e in rest]
        assert logged == sorted(logged)
        end = session.events[-1]
        assert isinstance(end, SessionEnd)
        times = []
        for segment in session.finished_segments:
            frames = list(read_frames(session.path / segment.file))
            assert len(frames) == segment.frames
            assert frames[0][1].shape == (240, 320, 3)
            assert frames[-1][0] == pytest.approx(segment.t, abs=0.001)
            assert all(10 * int(segment.file[6:12]) - 0.001 <= t < 10 * int(segment.file[6:12]) + 10 for t, _ in frames)
            times += [t for t, _ in frames]
        steps = np.diff(times)
        assert steps.min() > 0
        assert steps.mean() == pytest.approx(0.1, abs=0.001)
        assert 0.001 < steps.std() < 0.01
        assert times[-1] == pytest.approx(end.t, abs=0.2)


def test_every_turn_is_a_message_and_its_reply(sample: Path) -> None:
    replies = {line.message: set(line.replies.values()) for line in load_corpus()}
    for session in find_sessions(sample):
        texts = session.texts
        assert len(texts) == 2 * SMALL["turns"]
        end = 0.0
        for message, reply in zip(texts[::2], texts[1::2], strict=True):
            assert (message.speaker, reply.speaker) == ("speaker", "assistant")
            assert reply.text in replies[message.text]
            assert message.t_start == pytest.approx(end + 0.5, abs=0.001)
            assert 2.39 < message.t_end - message.t_start < 3.21
            assert 0.24 < reply.t_start - message.t_end < 0.46
            assert reply.t_end - reply.t_start < 0.91
            for text in (message, reply):
                assert text.char_times is not None
                assert text.char_times == sorted(text.char_times)
                assert text.char_times[0] == text.t_start
                assert text.char_times[-1] == text.t_end
            end = reply.t_end


def test_the_motion_is_written_nowhere(sample: Path) -> None:
    files = [path for path in sample.glob("person_*/**/*") if path.is_file()]
    assert len(files) > 6
    for path in files:
        content = path.read_bytes()
        for motion in MOTIONS:
            assert motion.encode() not in content
            assert motion not in str(path.relative_to(sample))


def test_held_out_people_and_messages_go_together(sample: Path) -> None:
    candidates = read_candidates(sample / "candidates.jsonl")
    assert Counter(entry.split for entry in candidates.values()) == {"train": 196, "test": 4}
    for session in find_sessions(sample):
        assert session.start.split == ("test" if session.path.name == "person_002" else "train")
        said = [text for text in session.texts if text.speaker == "speaker"]
        assert {candidates[text.text].split for text in said} == {session.start.split}
        answers = [text.text for text in session.texts if text.speaker == "assistant"]
        for message, answer in zip(said, answers, strict=True):
            assert answer in {candidate.reply for candidate in candidates[message.text].candidates}


def test_the_order_of_candidates_tells_nothing(sample: Path) -> None:
    entries = read_candidates(sample / "candidates.jsonl").values()
    first = Counter(entry.candidates[0].motion for entry in entries)
    assert set(first) == set(MOTIONS)
    assert max(first.values()) < 60


def test_dealing_is_even() -> None:
    corpus = load_corpus()
    plans = plan_people(corpus, np.random.default_rng(0), people=30, held_out_people=6, held_out=30, turns=30)
    for plan in plans:
        assert len({line.message for line, _ in plan.played}) == 30
        assert set(Counter(motion for _, motion in plan.played).values()) == {5}
    for split, messages, times in (("train", 170, {0, 1}), ("test", 30, {1})):
        pairs = Counter((line.message, motion) for plan in plans if plan.split == split for line, motion in plan.played)
        told = Counter(line.message for plan in plans if plan.split == split for line, _ in plan.played)
        assert len(told) == messages
        assert max(told.values()) - min(told.values()) <= 1
        assert set(pairs.values()) <= times
    capped = plan_people(corpus, np.random.default_rng(0), people=3, held_out_people=2, held_out=5, turns=8)
    assert [len(plan.played) for plan in capped] == [8, 5, 5]


def test_a_second_run_with_the_same_seed_gives_the_same_log(sample: Path, face_task_file: Path, tmp_path: Path) -> None:
    write_sample_sessions(tmp_path, face_task_file, **{**SMALL, "workers": 2})
    for name in ("person_000/session.jsonl", "person_002/session.jsonl", "candidates.jsonl"):
        assert (tmp_path / name).read_bytes() == (sample / name).read_bytes()


def test_an_interrupted_run_goes_on(sample: Path, face_task_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(sample, out)
    cut = out / "person_001" / "session.jsonl"
    whole = cut.read_bytes()
    cut.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    (out / ".person_001.partial").mkdir()
    kept = out / "person_000" / "video" / "000000.mp4"
    before = kept.stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    write_sample_sessions(out, face_task_file, **SMALL, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]
    assert cut.read_bytes() == whole
    assert kept.stat().st_mtime_ns == before
    assert not list(out.glob(".*"))
    ends = [event for event in Session(out / "person_001").events if isinstance(event, VideoSegmentEnd)]
    assert all((out / "person_001" / end.file).is_file() for end in ends)


def test_other_values_are_not_mixed_into_a_folder(sample: Path, face_task_file: Path) -> None:
    with pytest.raises(UserError, match="other values"):
        write_sample_sessions(sample, face_task_file, **SMALL, seed=1)
    with pytest.raises(UserError, match="other values"):
        write_sample_sessions(sample, face_task_file, **{**SMALL, "turns": 4})


@pytest.mark.parametrize(
    "wrong",
    [{"people": 0}, {"held_out_people": 4}, {"held_out_messages": 0}, {"turns": 197}, {"rate_hz": 0.0}, {"seed": -1}],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], face_task_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        write_sample_sessions(tmp_path, face_task_file, **{**SMALL, **wrong})


def test_damaged_candidates_are_reported_with_their_line(sample: Path, tmp_path: Path) -> None:
    lines = (sample / "candidates.jsonl").read_text().splitlines()
    path = tmp_path / "candidates.jsonl"
    for second, what in (("{", "damaged"), (lines[0], "repeats")):
        path.write_text(f"{lines[0]}\n{second}\n")
        with pytest.raises(UserError, match=f"line 2 .*{what}|line 2 {what}"):
            read_candidates(path)
    entry = json.loads(lines[0])
    entry["candidates"][1]["motion"] = entry["candidates"][0]["motion"]
    path.write_text(json.dumps(entry) + "\n")
    with pytest.raises(UserError, match="line 1 repeats"):
        read_candidates(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_clear_error(workers: int, tmp_path: Path, face_task_file: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done: int, total: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    try:
        with pytest.raises(UserError, match=r"person_00\d: disk full; free space") as raised:
            write_sample_sessions(tmp_path, face_task_file, **{**SMALL, "workers": workers}, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("person_*"))
