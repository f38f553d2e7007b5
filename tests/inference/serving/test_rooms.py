"""Two people on a real server write to each other; the model is silent."""

from pathlib import Path

import pytest
from live_server import LiveServer, open_room

from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.inference.serving.rooms import PARTNER_SPEAKER, RoomError, Rooms
from natural_video_llm.preprocessing.align_text_video import align_session
from natural_video_llm.sessions.events import DEFAULT_SPEAKER
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.training.options import TrainOptions
from natural_video_llm.training.train import train


def test_what_one_writes_reaches_the_other_and_no_model_answers(server: LiveServer) -> None:
    room = open_room(server)
    with server.connect(room) as ann, server.connect(room) as bob:
        assert bob.until("room.changed")[-1] == {"type": "room.changed", "people": 2, "other_recording": False}
        ann.say("Are you there?", id="one")
        assert ann.until("conversation.item.added")[-1]["item"]["id"] == "one"
        said = bob.until("room.message")[-1]
        assert (said["item_id"], said["text"]) == ("one", "Are you there?")
        ann.send("response.create")
        assert ann.error()["code"] == "room_has_no_model"


def test_a_third_person_is_refused_until_a_place_is_free(server: LiveServer) -> None:
    room = open_room(server)
    with server.connect(room) as ann:
        with server.connect(room):
            while ann.until("room.changed")[-1]["people"] != 2:
                pass
            with server.connect(room) as third:
                assert third.opening["error"]["code"] == "room_full"
        while ann.until("room.changed")[-1]["people"] == 2:
            pass
        with server.connect(room) as later:
            assert later.until("room.changed")[-1]["people"] == 2


def test_one_who_comes_back_finds_the_words_of_both(server: LiveServer) -> None:
    room = open_room(server)
    with server.connect(room) as ann:
        with server.connect(room) as bob:
            token = bob.opening["session"]["resume"]
            bob.say("First")
            ann.until("room.message")
            ann.say("Second")
            bob.until("room.message")
        while ann.until("room.changed")[-1]["people"] == 2:
            pass
        ann.say("Third, while you were away")
        ann.until("conversation.item.added")
        with server.connect(f"{room}&resume={token}") as again:
            told = [(turn["role"], turn["text"]) for turn in again.opening["turns"]]
            assert told == [("user", "First"), ("other", "Second"), ("other", "Third, while you were away")]


def test_who_takes_a_free_place_does_not_hear_what_was_said_before(server: LiveServer) -> None:
    room = open_room(server)
    with server.connect(room) as ann:
        with server.connect(room) as bob:
            bob.say("Between us")
            ann.until("room.message")
        while ann.until("room.changed")[-1]["people"] == 2:
            pass
        with server.connect(room) as carol:
            token = carol.opening["session"]["resume"]
            ann.say("Hello, Carol")
            carol.until("room.message")
        with server.connect(f"{room}&resume={token}") as again:
            assert [(turn["role"], turn["text"]) for turn in again.opening["turns"]] == [("other", "Hello, Carol")]


def test_a_room_that_nobody_uses_is_forgotten() -> None:
    rooms = Rooms()
    room = rooms.open()
    assert rooms.find(room.token) is room
    room.used_s -= 13 * 3600
    with pytest.raises(RoomError, match="over"):
        rooms.find(room.token)


def test_no_room_without_its_token(server: LiveServer) -> None:
    with server.connect("?room=guessed") as stranger:
        assert stranger.opening["error"]["code"] == "room_unknown"


def test_each_side_is_a_session_with_the_other_ones_words_as_replies(recorded: Path) -> None:
    ann, bob = find_sessions(recorded)
    if len(ann.texts) < len(bob.texts):
        ann, bob = bob, ann
    for session in (ann, bob):
        speakers = [text.speaker for text in session.texts]
        assert set(speakers) == {DEFAULT_SPEAKER, PARTNER_SPEAKER}
        assert "Not to be kept" not in [text.text for text in session.texts]
        assert session.finished_segments

    def heard(session: Session) -> list[float]:
        assert session.start.monotonic_s is not None
        return [round(text.t_start + session.start.monotonic_s, 2) for text in session.texts]

    assert heard(ann)[-6:] == pytest.approx(heard(bob)[-6:], abs=0.02), "one clock"


def test_two_peoples_words_can_be_learned_from(recorded: Path, tiny_llm: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_llm))
    for session in find_sessions(recorded):
        assert align_session(session, tokenizer, str(tiny_llm), "face-geometry", 3.0) == 6
    options = TrainOptions(
        recorded, tmp_path / "run", llm=str(tiny_llm), steps=1, match_steps=1, own_text_weight=0, twin=False
    )
    assert train(options, lambda _: None) == 1
