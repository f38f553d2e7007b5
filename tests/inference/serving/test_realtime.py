"""Conversations over the WebSocket: words, faces, interruption, coming back, and ten people at once."""

import gc
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from live_server import Client, LiveServer, geometry, open_room, serving, text_of, wait_until

from natural_video_llm.inference.conversation import Conversation
from natural_video_llm.inference.server import Service
from natural_video_llm.inference.serving.limits import Limits

TEN = [f"I am number {number} and I want to tell you of my {number} cats." for number in range(10)]


def test_a_conversation(server: LiveServer) -> None:
    with server.connect() as client:
        session = client.opening["session"]
        assert session["model"] == "tiny"
        assert session["accepts"] == ["picture", "geometry"]
        assert session["limits"]["text_chars"] == 20_000
        assert not session["can_record"]
        client.send("input_text.draft", text="Tell me")
        client.say("Tell me something.", id="mine")
        added = client.until("conversation.item.added")[-1]["item"]
        assert (added["id"], added["content"][0]["text"]) == ("mine", "Tell me something.")
        client.send("response.create", response={"max_output_tokens": 7})
        events = client.until("response.done")
        response = events[-1]["response"]
        assert text_of(events)
        assert (response["status"], response["usage"]["output_tokens"]) == ("incomplete", 7)
        assert response["usage"]["input_tokens"] > 5
        assert response["stages_ms"]["first_token"] > 0
        states = [event["state"] for event in events if event["type"] == "state.changed"]
        assert "thinking" in states or "writing" in states
        assert {event["response_id"] for event in events if "response_id" in event} == {response["id"]}


def test_the_same_seed_gives_the_same_words(server: LiveServer) -> None:
    def said(**settings: object) -> str:
        with server.connect() as client:
            client.send("session.update", session={"temperature": 1.0, **settings})
            updated = client.until("session.updated")[-1]["session"]
            assert updated["temperature"] == 1.0
            return client.ask("How are you?", max_output_tokens=12)

    assert said(seed=3) == said(seed=3)
    assert len({said(seed=seed) for seed in range(4)}) > 1


def test_a_face_is_seen_and_moves_the_words(server: LiveServer, points: np.ndarray) -> None:
    with server.connect() as client:
        client.match_clocks()
        for step in range(8):
            client.see(geometry(points + step), kind=2)
            time.sleep(0.05)
        states = [event for event in client.until("state.changed") if event["type"] == "state.changed"]
        while not states[-1]["face_seen"]:
            states += client.until("state.changed")[-1:]
        client.say("Hello")
        client.send("response.create", response={"max_output_tokens": 6})
        done = client.until("response.done")[-1]["response"]
        assert done["moved_bits"] > 0
        assert done["stages_ms"]["face_age"] < 5000
        client.see(geometry(None), kind=2)
        while states[-1]["face_seen"]:
            states += client.until("state.changed")[-1:]


def test_pictures_are_seen(server: LiveServer, jpegs: list[bytes]) -> None:
    with server.connect() as client:
        client.match_clocks()
        for jpeg in jpegs[:10]:
            client.see(jpeg)
            time.sleep(0.05)
        state = client.until("state.changed")[-1]
        while not state["face_seen"]:
            state = client.until("state.changed")[-1]
        assert state["frames"] > 0


def test_frames_of_other_times_are_dropped_and_counted(server: LiveServer, points: np.ndarray) -> None:
    with server.connect() as client:
        client.match_clocks()
        now_s = client.now_s()
        # One of now, one before it, one long ago, one of the future.
        for time_s in (now_s, now_s - 0.2, now_s - 60, now_s + 60):
            client.see(geometry(points), kind=2, time_s=time_s)
        state = client.until("state.changed")[-1]
        while (state["frames"], state["dropped"]) != (1, 3):
            state = client.until("state.changed")[-1]


def test_interruption_ends_the_reply_and_history_holds_what_was_shown(server: LiveServer) -> None:
    with server.connect() as client:
        client.say("Talk on and on.")
        client.send("response.create", response={"max_output_tokens": 512})
        shown = client.until("response.output_text.delta")
        client.send("response.create", event_id="e1")
        client.send("response.cancel")
        events = shown + client.until("response.done")
        assert [e["error"]["code"] for e in events if e["type"] == "error"] == [
            "conversation_already_has_active_response"
        ]
        assert events[-1]["response"]["status"] == "cancelled"
        text = text_of(events)
        client.send("response.cancel")
        assert client.error()["code"] == "response_cancel_not_active"
        resume = client.opening["session"]["resume"]
    with server.connect(f"?resume={resume}") as client:
        assert client.opening["type"] == "session.resumed"
        assert client.opening["turns"] == [
            {"role": "user", "text": "Talk on and on."},
            {"role": "assistant", "text": text},
        ]


def test_who_comes_back_goes_on_and_who_vanishes_costs_nothing(server: LiveServer) -> None:
    with server.connect() as client:
        first = client.opening["session"]
        client.say("Remember me.")
        client.send("response.create", response={"max_output_tokens": 512})
        client.until("response.output_text.delta")
        client.socket.socket.close()  # no goodbye
    wait_until(lambda: server.metric('nvllm_replies_total{status="cancelled"}') > 0)
    wait_until(lambda: server.metric('nvllm_sessions{state="connected"}') == 0)
    with server.connect(f"?resume={first['resume']}") as client:
        assert client.opening["session"]["id"] == first["id"]
        assert client.opening["turns"][0] == {"role": "user", "text": "Remember me."}
        assert client.ask("And now?", max_output_tokens=5)
        # The same person in a second window: the first one is told.
        with server.connect(f"?resume={first['resume']}") as second:
            assert len(second.opening["turns"]) == 4
            assert client.error()["code"] == "taken_over"
            assert second.ask("Still there?", max_output_tokens=5)
    with server.connect("?resume=unknown") as client:
        assert client.opening["type"] == "session.created"


def test_a_server_that_knows_nothing_is_told_what_was_said(server: LiveServer) -> None:
    def answered(client: Client, text: str) -> dict:
        client.say(text)
        client.send("response.create", response={"max_output_tokens": 5})
        return client.until("response.done")[-1]["response"]

    with server.connect() as client:
        without = answered(client, "And now?")["usage"]["input_tokens"]
    with server.connect("?resume=unknown") as client:
        client.say("My dog is called Rex.")
        told = [{"type": "output_text", "text": "A fine name."}]
        client.send("conversation.item.create", item={"type": "message", "role": "assistant", "content": told})
        added = [client.until("conversation.item.added")[-1]["item"] for _ in range(2)]
        assert [item["role"] for item in added] == ["user", "assistant"]
        client.send("response.create")
        assert client.error()["code"] == "nothing_to_answer"
        assert answered(client, "And now?")["usage"]["input_tokens"] > without + 8
        resume = client.opening["session"]["resume"]
    with server.connect(f"?resume={resume}") as client:
        assert [turn["text"] for turn in client.opening["turns"][:3]] == [
            "My dog is called Rex.",
            "A fine name.",
            "And now?",
        ]
    with server.connect(open_room(server)) as client:
        client.send("conversation.item.create", item={"type": "message", "role": "assistant", "content": told})
        assert client.error()["code"] == "room_has_no_model"


def test_ten_at_once_each_get_their_own_reply(server: LiveServer) -> None:
    def talk(number: int) -> tuple[str, list[dict]]:
        with server.connect() as client:
            settings = {"max_output_tokens": 10, "seed": number, "temperature": 1.0}
            reply = client.ask(TEN[number], **settings)
            with server.connect(f"?resume={client.opening['session']['resume']}") as again:
                return reply, again.opening["turns"]

    alone = [talk(number) for number in range(10)]
    with ThreadPoolExecutor(10) as people:
        together = list(people.map(talk, range(10)))
    assert together == alone
    assert len({reply for reply, _ in together}) == 10
    assert [turns[0]["text"] for _, turns in together] == TEN
    assert all(turns[1]["text"] == reply for reply, turns in together)


def test_one_too_many_is_told_so(run: Path) -> None:
    with serving(Service(run, limits=Limits(sessions=1, parked=1))) as server:
        with server.connect() as client, server.connect() as other:
            assert other.opening["error"]["type"] == "server_full"
            with pytest.raises(Exception, match="1013"):
                other.receive()
            assert client.ask("Hello", max_output_tokens=2)
        wait_until(lambda: server.metric('nvllm_sessions{state="parked"}') == 1)
        for _ in range(3):  # those who wait longest make room
            with server.connect() as client:
                assert client.ask("Hello", max_output_tokens=2)
            wait_until(lambda: server.metric('nvllm_sessions{state="connected"}') == 0)
        assert server.metric('nvllm_sessions{state="parked"}') == 1


def test_nobody_waits_for_a_client_that_does_not_read(run: Path) -> None:
    with serving(Service(run, limits=Limits(outbox_events=20, messages_hz=1e9, text_chars=20_000))) as server:
        with server.connect() as deaf, server.connect() as other:
            big = "x" * 19_000
            for _ in range(400):
                deaf.say(big)
            assert other.ask("Hello", max_output_tokens=2)
        wait_until(lambda: server.metric('nvllm_sessions{state="connected"}') == 0)


def test_time_is_limited_and_silence_is_noticed(run: Path) -> None:
    with serving(Service(run, limits=Limits(session_s=0.5))) as server, server.connect() as client:
        assert client.error()["code"] == "session_expired"
    with serving(Service(run, limits=Limits(silent_s=0.6))) as server, server.connect() as client:
        events = [json.loads(client.socket.recv(5))]
        while events[-1]["type"] != "error":
            events.append(json.loads(client.socket.recv(5)))
        assert events[-1]["error"]["code"] == "silent"


def test_a_session_that_nobody_returns_to_is_freed(run: Path) -> None:
    with serving(Service(run, limits=Limits(parked=0))) as server:
        for _ in range(5):
            with server.connect() as client:
                assert client.ask("Hello", max_output_tokens=2)
        wait_until(lambda: server.metric('nvllm_sessions{state="connected"}') == 0)

        def left() -> int:
            gc.collect()
            mine = (thing for thing in gc.get_objects() if type(thing) is Conversation)
            return sum(thing._engine is server.engine for thing in mine)

        wait_until(lambda: left() == 0)
