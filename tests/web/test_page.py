"""The page in a real browser with a real server; the cases themselves are in web/e2e."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_camera import real_face, sample_face
from page_server import BUILT, REAL_FACE, Server, node
from seen_twice import MESSAGES, SeenTwice, first_reply, found_by_browser, see_twice

from natural_video_llm.assets import STARTER
from natural_video_llm.checkpoint import load_run, load_tokenizer
from natural_video_llm.inference.conversation import Sampling
from natural_video_llm.inference.engine import Engine
from natural_video_llm.preprocessing.align_text_video import align_session
from natural_video_llm.preprocessing.extract_video_latents import extract
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.training.options import TrainOptions
from natural_video_llm.training.train import train

CASES = (
    *("firstLoad", "geometryOnly", "conversation", "videoByChoice", "textOnly", "strangeText", "interruption"),
    *("reconnect", "twoTabs", "unplugged", "keyboardOnly", "recording", "deletion", "otherFace", "nobodyInView"),
    *("cameraDenied", "cameraMissing", "focusStays", "bitsByKeyboard", "phone", "frozenCamera", "geometryAlone"),
    *("serverAway", "leavingTalk", "reloadWhileRecording", "outage", "lostMessage", "longHistory"),
)


@pytest.mark.parametrize("name", CASES)
def test_page(name: str, seen_in_chromium: dict[str, dict]) -> None:
    case = seen_in_chromium[name]
    assert case["ok"], case["error"]


def test_every_case_is_listed(seen_in_chromium: dict[str, dict]) -> None:
    assert set(seen_in_chromium) - {"out"} == set(CASES)


@pytest.mark.parametrize("name", ["twoPeople", "training"])
def test_together(name: str, seen_together: dict[str, dict]) -> None:
    case = seen_together[name]
    assert case["ok"], case["error"]


def test_what_was_recorded_can_be_learned_from_and_what_was_deleted_is_gone(
    seen_in_chromium: dict[str, dict], server: Server, tiny_llm: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(seen_in_chromium["out"]["folder"] / "export.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
        log = next(name for name in names if name.endswith("/session.jsonl"))
        events = [json.loads(line) for line in archive.read(log).splitlines()]
    said = [event for event in events if event["event"] == "text"]
    assert said[0]["text"] == "I lost my keys"
    assert len(said[0]["char_times"]) == len("I lost my keys")
    assert any(name.endswith(".mp4") for name in names)
    assert "agree" in events[0]["consent"]
    assert not list(server.recordings.glob("*"))
    (session,) = find_sessions(tmp_path)
    encoder = "face-geometry"
    assert all(segment.seen for segment in extract([session], encoder, 1, Execution()))
    llm = str(tiny_llm)
    assert align_session(session, load_tokenizer(llm), llm, encoder, 3.0) == len(said)
    options = TrainOptions(
        tmp_path, tmp_path / "run", llm=llm, steps=1, match_steps=1, own_text_weight=0, twin=False, test_share=0
    )
    parts: list[str] = []
    assert train(options, lambda progress: parts.append(progress.part)) == 0
    assert len(set(parts)) == 2, "matching, then the model"
    model, _ = load_run(tmp_path / "run")
    assert model.config.encoder == encoder


def test_the_parts_of_the_page(web_tools: Path) -> None:
    made = node("--test", "*.test.ts")
    assert made.returncode == 0, made.stdout


def test_nothing_in_the_page_knows_an_address_to_send_statistics_to(web_tools: Path) -> None:
    """tasks-vision posts them once a minute, which no short test would see."""
    for script in BUILT.glob("app/*.js"):
        assert "odml.pa.googleapis.com" not in script.read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["webcam", "sample"])
def seen_twice(
    request: pytest.FixtureRequest, chromium: str, server: Server, face_task_file: Path, tmp_path_factory: Any
) -> SeenTwice:
    if request.param == "webcam":
        frames = list(real_face(REAL_FACE, 60))[::2]
    else:
        frames = list(sample_face(face_task_file, "smile_comes"))[:60:2]
    return see_twice(frames, tmp_path_factory.mktemp("pictures"), chromium, server)


def test_browser_and_server_see_the_same_face(seen_twice: SeenTwice) -> None:
    assert seen_twice.apart().mean() < 0.0015


def test_browser_counts_faces(chromium: str, server: Server, tmp_path: Path) -> None:
    """Every second; who is followed is followed on, and nobody is nobody."""
    face = next(iter(real_face(REAL_FACE, 1)))
    black = np.zeros_like(face)
    one, two, none = (np.concatenate(pair, axis=1) for pair in ((face, black), (face, face), (black, black)))
    frames = [one, *16 * [two], none, two]
    found = found_by_browser(frames, tmp_path, chromium, server)
    assert [picture["faces"] for picture in found] == 15 * [1] + 2 * [2] + [0, 2]
    assert [picture["points"] is None for picture in found] == 17 * [False] + [True, False]


@pytest.mark.parametrize("temperature", [0.7, 0.0])
def test_the_same_first_reply_from_the_browsers_points_and_the_servers(
    seen_twice: SeenTwice, starter: Engine, temperature: float
) -> None:
    """Whole replies, from the same seed; without a face they are others. One of eight may differ: two words can be as
    likely as each other (docs/page.md)."""
    nobody: list[np.ndarray | None] = [None] * len(seen_twice.server)
    sampling = Sampling(temperature, seed=0, max_tokens=20)
    browser, server, without = (
        [first_reply(starter, message, points, seen_twice.size_px, sampling) for message in MESSAGES]
        for points in (seen_twice.browser, seen_twice.server, nobody)
    )
    assert browser[:2] == server[:2]
    assert sum(a == b for a, b in zip(browser, server, strict=True)) >= len(MESSAGES) - 1
    assert without[0] != server[0]
    assert without[1] != server[1]
    assert sum(a != b for a, b in zip(without, server, strict=True)) >= len(MESSAGES) / 2


@pytest.fixture(scope="module")
def starter(llm_dir: str) -> Iterator[Engine]:
    with Engine.load(Path(STARTER)) as engine:
        yield engine
