"""Camera and keyboard in one terminal, from the first key to a trained run that answers at the same keyboard."""

import json
import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from terminal import CTRL_C, CTRL_D, ENTER, NVLLM, Terminal

from natural_video_llm.sessions.events import SessionEnd, Text, VideoSegmentEnd
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.video import SegmentWriter, read_frames

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of the Unix kind")

TURNS = (("ann", "I met him today."), ("bob", "And how was it?"), ("ann", "Good."), ("bob", "I can see that."))


@pytest.fixture(scope="module")
def yes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("consent") / "consent.txt"
    file.write_text("Ann and Bob agree that they are recorded for tests.", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def clip(tiny_sessions: Path) -> Path:
    clips = (tiny_sessions / "person_000" / "video").glob("*.mp4")
    return max(clips, key=lambda file: file.stat().st_size)


@pytest.fixture(scope="module")
def long_clip(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip over and over for a minute, for a partner that takes long to load."""
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    pictures = [rgb for _, rgb in read_frames(clip)]
    writer = SegmentWriter(path, pictures[0].shape[1], pictures[0].shape[0], 10)
    for number in range(600):
        writer.write(pictures[number % len(pictures)], number / 10)
    writer.close()
    return path


def both(folder: Path, yes: Path, clip: Path, *options: str | Path) -> Terminal:
    return Terminal("capture", "both", folder, "--yes", yes, "--video-source", clip, *options)


def nvllm(*arguments: str | Path) -> str:
    done = subprocess.run([*NVLLM, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, yes: Path, clip: Path) -> Path:
    """Two sessions of two people who type in turn."""
    sessions = tmp_path_factory.mktemp("both")
    for name in ("monday", "tuesday"):
        with both(sessions / name, yes, clip, "--speakers", "ann", "bob") as terminal:
            for turn, (speaker, text) in enumerate(TURNS):
                terminal.wait_for(f"{speaker}:")
                terminal.type(text)
                terminal.press(ENTER)
                terminal.wait_kept(turn + 1)
            terminal.type("quit")
            terminal.press(ENTER)
            assert terminal.exit_code() == 0, terminal.screen[-2000:]
    return sessions


def test_both_have_one_clock(recorded: Path) -> None:
    session = Session(recorded / "monday")
    assert session.start.filmed_speaker == "ann"
    assert [(t.speaker, t.text, t.how) for t in session.texts] == [(*turn, "typed") for turn in TURNS]
    assert all(later.t_start > earlier.t_end for earlier, later in pairwise(session.texts))
    assert isinstance(session.events[-1], SessionEnd)
    times = [t for s in session.finished_segments for t, _ in read_frames(session.path / s.file)]
    assert len(times) == sum(s.frames for s in session.finished_segments) > 0
    assert times[0] < session.texts[0].t_start


def test_an_empty_line_passes_the_turn(tmp_path: Path, yes: Path, clip: Path) -> None:
    with both(tmp_path / "s", yes, clip, "--speakers", "ann", "bob") as terminal:
        terminal.wait_for("ann:")
        terminal.press(ENTER)
        terminal.wait_for("bob:")
        terminal.line("I begin")
        terminal.press(CTRL_D)
        assert terminal.exit_code() == 0
    assert [(t.speaker, t.text) for t in Session(tmp_path / "s").texts] == [("bob", "I begin")]


@pytest.fixture(scope="module")
def run(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on what was recorded, by the same commands as on any other sessions."""
    sessions = shutil.copytree(recorded, tmp_path_factory.mktemp("trained") / "sessions")
    out = sessions.parent / "run"
    nvllm("extract", sessions, "--workers", "1")
    nvllm("align", sessions)
    short = "--match-steps 2 --steps 2 --batch-size 2 --own-text-weight 0 --no-twin"
    nvllm("train", sessions, "--out", out, *short.split())
    return out


def test_extract_align_and_train_run_unchanged(run: Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert sorted(record["train"] + record["test"]) == ["monday", "tuesday"]
    for name in ("monday", "tuesday"):
        lines = (run.parent / "sessions" / name / "aligned_data.jsonl").read_text(encoding="utf-8").splitlines()
        utterances = [json.loads(line) for line in lines]
        assert [u["text"] for u in utterances] == [text for _, text in TURNS]
        first, last = utterances[0]["latents"]
        assert last > first


@pytest.mark.parametrize("partner", ["llm", "run"])
def test_a_model_answers_and_what_it_showed_is_kept(
    run: Path, partner: str, tmp_path: Path, yes: Path, long_clip: Path
) -> None:
    folder = tmp_path / "s"
    with both(
        folder, yes, long_clip, "--partner", run if partner == "run" else "llm", "--temperature", "0"
    ) as terminal:
        terminal.wait_for("speaker:")
        time.sleep(1.0)
        terminal.type("I met him today.")
        terminal.press(ENTER)
        terminal.wait_kept(2)
        if partner == "run":
            assert b"  face seen; the face moved this reply by" in terminal.screen
        terminal.type("Tell me a long story about the sea.")
        terminal.press(ENTER)
        terminal.wait_kept(3)
        terminal.press(CTRL_C)  # ends the answer, not the recording
        terminal.wait_kept(4)
        terminal.press(CTRL_C)
        assert terminal.exit_code() == 0, terminal.screen[-2000:]
    texts = [e for e in Session(folder).events if isinstance(e, Text)]
    assert [t.speaker for t in texts] == ["speaker", "model", "speaker", "model"]
    answer, broken_off = texts[1], texts[3]
    assert len(broken_off.text) < 30
    assert (answer.how, answer.timing) == ("generated", "char")
    assert answer.text in terminal.screen.decode().replace("\r\n", "\n")
    assert answer.char_times is not None
    assert answer.char_times == sorted(answer.char_times)
    assert len(set(answer.char_times)) > 1
    assert texts[0].t_end < answer.t_start
    assert answer.t_end < texts[2].t_start


def test_text_may_come_first_and_the_camera_join(tmp_path: Path, yes: Path, clip: Path) -> None:
    folder = tmp_path / "s"
    with Terminal("capture", "text", folder, "--yes", yes, "--filmed", "ann") as keyboard:
        keyboard.wait_for("ann:")
        keyboard.line("before")
        nvllm("capture", "video", folder, "--source", clip)
        keyboard.line("after")
        keyboard.press(CTRL_D)
        assert keyboard.exit_code() == 0
    session = Session(folder)
    before, after = session.texts
    frames = [t for s in session.finished_segments for t, _ in read_frames(folder / s.file)]
    assert before.t_end < frames[0] < frames[-1] < after.t_start


def test_a_second_recorder_is_refused_with_one_line(tmp_path: Path, yes: Path, clip: Path) -> None:
    folder = tmp_path / "s"
    with both(folder, yes, clip) as terminal:
        terminal.wait_for("speaker:")
        with both(folder, yes, clip) as second:
            assert second.exit_code() == 1
            assert b"recording into this session already" in second.screen
            assert b"Traceback" not in second.screen
        terminal.line("still here")
        terminal.press(CTRL_C)
        assert terminal.exit_code() == 0
    assert [t.text for t in Session(folder).texts] == ["still here"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--speakers", "ann", "ann"], "a name of their own"),
        (["--speakers", "ann", "bob", "--partner", "llm"], "answers one speaker"),
        (["--partner", "nowhere"], "no trained model"),
        (["--video-source", "nowhere.mp4"], "nowhere.mp4"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, yes: Path, clip: Path, options: list[str], words: str
) -> None:
    command = [*NVLLM, "capture", "both", str(tmp_path / "s"), "--yes", str(yes), "--video-source", str(clip), *options]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_lines_from_a_pipe_are_honest_about_their_times(tmp_path: Path, yes: Path, clip: Path) -> None:
    command = [*NVLLM, "capture", "both", str(tmp_path / "s"), "--yes", str(yes), "--video-source", str(clip)]
    done = subprocess.run(
        [*command, "--speakers", "ann", "bob"], input="one\ntwo\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    session = Session(tmp_path / "s")
    assert [(t.speaker, t.text, t.timing) for t in session.texts] == [
        ("ann", "one", "utterance"),
        ("bob", "two", "utterance"),
    ]
    assert all(isinstance(e, VideoSegmentEnd) for e in session.finished_segments)
