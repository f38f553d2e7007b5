"""Live sessions become session folders that alignment and training read, and nothing is kept without consent."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_server import Client, LiveServer, geometry, serving, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.inference.server import Service
from natural_video_llm.inference.serving.limits import Limits
from natural_video_llm.inference.serving.recording import EncoderPool, LiveRecording, mend_recordings
from natural_video_llm.preprocessing.align_text_video import align_session
from natural_video_llm.preprocessing.encoders import Encoder
from natural_video_llm.preprocessing.extract_video_latents import extract
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.events import SessionEnd, VideoSegmentEnd
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.sessions.latents import load_session_latents
from natural_video_llm.sessions.video import read_frames
from natural_video_llm.training.options import TrainOptions
from natural_video_llm.training.train import train

CONSENT = "My face and my words may be kept on this machine."
SAID = "Hello, how are you?"


def record(client: Client, keep: str) -> str:
    client.match_clocks()
    client.send("session.update", session={"recording": {"keep": keep, "consent": CONSENT}})
    session_id = client.until("recording.started")[-1]["session_id"]
    assert client.until("session.updated")[-1]["session"]["recording"] == keep
    return session_id


def talk(client: Client, frames: list[bytes], kind: int) -> tuple[list[float], str]:
    """Show frames, type while they run, and hear the answer; when each character was typed, and the answer."""
    began = client.now_s()
    for content in frames:
        client.see(content, kind)
        time.sleep(0.04)
    typed = np.linspace(began, client.now_s(), len(SAID)).tolist()
    client.say(SAID, char_times=typed)
    client.send("response.create", response={"max_output_tokens": 6, "seed": 1})
    shown = [event["delta"] for event in client.until("response.done") if "delta" in event]
    return typed, "".join(shown)


def stop(client: Client) -> None:
    client.send("session.update", session={"recording": None})
    client.until("recording.stopped")


def test_nothing_is_kept_without_consent(server: LiveServer, run: Path, tmp_path: Path, jpegs: list[bytes]) -> None:
    with serving(Service(run, record=tmp_path)) as recording, recording.connect() as client:
        assert client.opening["session"]["can_record"]
        talk(client, jpegs[:3], 1)
        client.send("session.update", session={"recording": {"keep": "video"}})
        assert client.error()["code"] == "invalid_value"
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def recorded(
    run: Path, jpegs: list[bytes], points: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, list[float], str]]:
    """One session each of video, of geometry out of pictures, and of points: folder, typed times, answer."""
    folder = tmp_path_factory.mktemp("recorded")
    found = {}
    cases = {
        "video": ("video", jpegs[:25], 1),
        "geometry": ("geometry", jpegs[:25], 1),
        "points": ("geometry", [geometry(points + i) for i in range(25)], 2),
    }
    with serving(Service(run, record=folder)) as server:
        for name, (keep, frames, kind) in cases.items():
            with server.connect() as client:
                session_id = record(client, keep)
                typed, answer = talk(client, frames, kind)
                stop(client)
                found[name] = (folder / session_id, typed, answer)
    return found


@pytest.mark.parametrize("name", ["video", "geometry", "points"])
def test_what_was_shown_typed_and_answered_is_kept(
    recorded: dict[str, tuple[Path, list[float], str]], name: str
) -> None:
    folder, typed, answer = recorded[name]
    session = Session(folder)
    assert CONSENT in session.start.consent
    assert isinstance(session.events[-1], SessionEnd)
    said, answered = session.texts
    assert (said.speaker, said.text, said.timing, said.how) == ("speaker", SAID, "char", "typed")
    assert np.diff(said.char_times) == pytest.approx(np.diff(typed), abs=1e-3)
    assert (answered.speaker, answered.text, answered.how) == ("model", answer, "generated")
    assert answered.char_times[0] > said.char_times[-1]
    (segment,) = session.finished_segments
    assert segment.frames > 15
    # The picture of a moment has that moment's time: the first frame came with the first character.
    if name == "video":
        times = [time_s for time_s, _ in read_frames(folder / segment.file)]
        list(extract([session], "face-geometry", workers=1))
    else:
        assert not (folder / segment.file).exists()
        times = load_session_latents(session, "face-geometry").times.tolist()
    assert len(times) == segment.frames
    assert times[0] == pytest.approx(said.char_times[0], abs=0.1)
    assert load_session_latents(session, "face-geometry").present.any()


def test_a_model_can_be_trained_on_them(
    recorded: dict[str, tuple[Path, list[float], str]], tiny_llm: Path, tmp_path: Path
) -> None:
    folder = recorded["video"][0].parent
    tokenizer = load_tokenizer(str(tiny_llm))
    for session in find_sessions(folder):
        list(extract([session], "face-geometry", workers=1))
        assert align_session(session, tokenizer, str(tiny_llm), "face-geometry", 3.0) == 2
    small = {"match_steps": 1, "steps": 1, "batch_size": 2, "test_share": 0, "own_text_weight": 0.0, "twin": False}
    train(
        TrainOptions(sessions=folder, out=tmp_path / "run", llm=str(tiny_llm), **small), lambda _: None, lambda: False
    )
    assert (tmp_path / "run" / "adapter.safetensors").is_file()


def test_who_vanishes_is_recorded_no_more(run: Path, tmp_path: Path, jpegs: list[bytes]) -> None:
    with serving(Service(run, record=tmp_path)) as server:
        with server.connect() as client:
            session_id = record(client, "video")
            talk(client, jpegs[:5], 1)
            resume = client.opening["session"]["resume"]
            client.socket.socket.close()
        wait_until(lambda: isinstance(Session(tmp_path / session_id).events[-1], SessionEnd))
        with server.connect(f"?resume={resume}") as client:
            assert client.opening["session"]["recording"] is None


def test_a_reply_in_hand_is_kept_as_far_as_it_was_shown(run: Path, tmp_path: Path) -> None:
    with serving(Service(run, record=tmp_path)) as server, server.connect() as client:
        session_id = record(client, "geometry")
        client.say(SAID)
        client.send("response.create", response={"max_output_tokens": 400, "seed": 1, "temperature": 2})
        shown = client.until("response.output_text.delta")[-1]["delta"]
        stop(client)
        said, answered = Session(tmp_path / session_id).texts
        assert (said.text, answered.text[: len(shown)]) == (SAID, shown)
        assert answered.char_times is not None


def test_a_reply_that_began_before_the_consent_is_not_kept(run: Path, tmp_path: Path) -> None:
    with serving(Service(run, record=tmp_path)) as server, server.connect() as client:
        client.say(SAID)
        client.send("response.create", response={"max_output_tokens": 400, "seed": 1, "temperature": 2})
        client.until("response.output_text.delta")
        session_id = record(client, "geometry")
        client.send("response.cancel")
        client.until("response.done")
        stop(client)
    assert Session(tmp_path / session_id).texts == []


def test_who_takes_over_a_conversation_is_not_recorded(run: Path, tmp_path: Path) -> None:
    with serving(Service(run, record=tmp_path)) as server, server.connect() as client:
        session_id = record(client, "geometry")
        with server.connect(f"?resume={client.opening['session']['resume']}") as second:
            assert second.opening["session"]["recording"] is None
            assert second.ask("Not to be kept.", max_output_tokens=3)
        session = Session(tmp_path / session_id)
        assert session.texts == []
        assert isinstance(session.events[-1], SessionEnd)


def test_points_are_kept_as_the_model_saw_them(run: Path, tmp_path: Path, points: np.ndarray) -> None:
    with serving(Service(run, record=tmp_path)) as server, server.connect() as client:
        session_id = record(client, "geometry")
        for score, faces in ((0.9, 3), (0.2, 1), (0.9, 1)):
            client.see(geometry(points, faces=faces, score=score), 2)
            time.sleep(0.05)
        stop(client)
    latents = load_session_latents(Session(tmp_path / session_id), "face-geometry")
    assert latents.present.tolist() == [True, False, True]
    assert latents.crowded == 1


def test_what_was_kept_before_a_failure_gets_its_end(tmp_path: Path) -> None:
    def take() -> Encoder:
        raise OSError("no weights")

    told: list[str] = []
    encoders = EncoderPool(take, lambda encoder: None)
    recording = LiveRecording(tmp_path, "geometry", CONSENT, SessionClock(), encoders, told.append)
    recording.text("user", SAID, None, "typed")
    recording.points(0.5, None, 640, 480, 0)
    recording.stop()
    session = Session(tmp_path / recording.id)
    assert told == ["OSError"]
    assert [text.text for text in session.texts] == [SAID]
    assert isinstance(session.events[-1], SessionEnd)


def test_a_damaged_recording_does_not_keep_a_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    log = tmp_path / "damaged" / "session.jsonl"
    log.write_text("{}\n")
    mend_recordings(tmp_path)
    assert log.read_text() == "{}\n"


def test_a_killed_server_loses_a_second_at_most(run: Path, tmp_path: Path, points: np.ndarray) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "natural_video_llm", "serve", str(run), "--port", str(port)]
    with subprocess.Popen([*command, "--record", str(tmp_path)], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _listens(port), 60)
            with connect(f"ws://127.0.0.1:{port}/v1/realtime") as link:
                client = Client(link)
                session_id = record(client, "geometry")
                talk(client, [geometry(points + i) for i in range(50)], 2)
                wait_until(lambda: len(Session(tmp_path / session_id).texts) == 2)
                process.kill()
                with pytest.raises(ConnectionClosed):
                    client.until("never")
        finally:
            process.kill()
    mend_recordings(tmp_path)
    session = Session(tmp_path / session_id)
    ended = session.events[-1]
    assert isinstance(ended, VideoSegmentEnd)
    assert ended.recovered
    assert ended.frames > 10
    assert len(session.texts) == 2
    assert len(load_session_latents(session, "face-geometry").times) == ended.frames


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_limits_of_pictures_hold_for_recordings_too(run: Path, tmp_path: Path) -> None:
    big = cv2.imencode(".jpg", np.zeros((60, 80, 3), np.uint8))[1].tobytes()
    service = Service(run, record=tmp_path, limits=Limits(picture_px=1000))
    with serving(service) as server, server.connect() as client:
        session_id = record(client, "video")
        client.see(big)
        assert client.error()["code"] == "invalid_image"
        stop(client)
    assert not Session(tmp_path / session_id).finished_segments
