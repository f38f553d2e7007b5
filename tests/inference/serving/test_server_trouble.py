"""Whatever a client sends, the server says what is wrong and goes on."""

import base64
import io
import json
import random
import socket
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_server import LiveServer, frame, geometry, serving
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from natural_video_llm.errors import UserError
from natural_video_llm.inference.server import Service, open_port, prepare_recordings, serve
from natural_video_llm.inference.serving.clock_match import ClockMatch
from natural_video_llm.inference.serving.limits import Limits
from natural_video_llm.inference.serving.messages import BadMessageError, parse_frame, parse_message
from natural_video_llm.inference.serving.pictures import BadPictureError, data_of_url, decode_clip, decode_picture

BAD_EVENTS = {
    "": "invalid_json",
    "[]": "invalid_json",
    "{": "invalid_json",
    "[" * 100_000: "invalid_json",
    "{}": "unknown_event",
    '{"type": "response.dance"}': "unknown_event",
    '{"type": 3}': "unknown_event",
    '{"type": "session.update"}': "invalid_value",
    '{"type": "session.update", "session": {"temperature": NaN}}': "invalid_value",
    '{"type": "session.update", "session": {"seed": 1e400}}': "invalid_value",
    '{"type": "session.update", "session": {"recording": {"keep": "video", "consent": " "}}}': "invalid_value",
    '{"type": "session.update", "session": {"recording": {"keep": "video", "consent": "yes"}}}': "recording_off",
    '{"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": []}}': "invalid_value",
    '{"type": "input_text.draft", "text": "\\ud800"}': "invalid_json",
    '{"type": "clock.pong", "server_time_s": 1.5, "client_time_s": 0}': "unknown_ping",
    '{"type": "response.create"}': "nothing_to_answer",
    json.dumps({"type": "input_text.draft", "text": "x" * 100_000}): "text_too_long",
}
BAD_FRAMES = {
    "short": b"\x01",
    "kind": frame(b"x", 7, 0.0),
    "zeros": b"\x01" + b"\x01" * 7 + struct.pack("<d", 1.0) + b"x",
    "time": frame(b"x", 1, float("nan")),
    "sides": frame(struct.pack("<III", 0, 0, 0), 2, 0.0),
    "points": frame(struct.pack("<III", 10, 10, 1), 2, 0.0),
    "nan": frame(geometry(np.full((478, 3), np.nan)), 2, 0.0),
    "one place": frame(geometry(np.zeros((478, 3))), 2, 0.0),
}


@pytest.mark.parametrize(("text", "code"), BAD_EVENTS.items(), ids=lambda value: value[:40])
def test_a_bad_event_is_answered_and_the_conversation_goes_on(server: LiveServer, text: str, code: str) -> None:
    with server.connect() as client:
        client.socket.send(text)
        assert client.error()["code"] == code
        client.send("session.update", session={}, event_id="e7")
        assert client.until("session.updated")


def test_an_error_names_its_event_and_repeats_nothing(server: LiveServer) -> None:
    with server.connect() as client:
        client.send("input_text.draft", event_id="mine", text=["my secret"])
        error = client.error()
        assert (error["event_id"], error["type"]) == ("mine", "invalid_request_error")
        assert "secret" not in json.dumps(error)


@pytest.mark.parametrize("content", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_is_answered(server: LiveServer, content: bytes) -> None:
    with server.connect() as client:
        client.socket.send(content)
        assert client.error()["code"] == "invalid_frame"
        assert client.ask("Hello", max_output_tokens=2)


def test_what_is_no_picture_is_answered(server: LiveServer) -> None:
    bomb = cv2.imencode(".jpg", np.zeros((3000, 3000, 3), np.uint8))[1].tobytes()
    with server.connect() as client:
        for content in (b"no picture", bomb, bomb[: len(bomb) // 2]):
            client.see(content)
            assert client.error()["code"] == "invalid_image"


def test_control_characters_and_long_texts(server: LiveServer) -> None:
    with server.connect() as client:
        client.say("a\x00b\x1b[31mc\nd\u0085", char_times=[client.now_s()] * 12)
        assert client.until("conversation.item.added")[-1]["item"]["content"][0]["text"] == "ab[31mc\nd"
        client.say("\x00\x07 ")
        assert client.error()["code"] == "empty_text"
        client.say("ab", char_times=[1.0])
        assert client.error()["code"] == "invalid_value"
        client.say("word " * 4000)  # beyond the context
        client.send("response.create", response={"max_output_tokens": 3})
        assert client.until("response.done")[-1]["response"]["status"] in ("incomplete", "completed")


def test_a_flood_and_too_large_a_message_end_the_connection(run: Path) -> None:
    limits = Limits(messages_hz=20, message_bytes=1000)
    with serving(Service(run, limits=limits)) as server:
        for content, code in ((b"\x01" * 1500, 1009), (b"\x01" * 5000, 1009)):
            with server.connect() as client:
                client.socket.send(content)
                with pytest.raises(ConnectionClosed, match=str(code)):
                    client.until("never")
        with server.connect() as client:
            for _ in range(60):
                client.send("response.cancel")
            with pytest.raises(ConnectionClosed, match="1008"):
                client.until("never")
        with server.connect() as client:
            assert client.ask("Hello", max_output_tokens=2)


def test_ten_thousand_malformed_messages_crash_nothing(run: Path) -> None:
    rng = random.Random(0)
    with serving(Service(run, limits=Limits(messages_hz=1e9, frames_hz=1e9, outbox_events=10**6))) as server:
        with server.connect() as client, server.connect() as bystander:
            for number in range(10_000):
                client.socket.send(malformed(rng))
                if number % 500 == 499:  # what the server says is read now and then
                    client.send("session.update", session={})
                    client.until("session.updated")
                    bystander.send("session.update", session={})  # who says nothing is sent away
                    bystander.until("session.updated")
            client.send("response.cancel")
            client.until("error")
            assert bystander.ask("Are you there?", max_output_tokens=3)
        with server.connect() as client:
            assert client.ask("And you?", max_output_tokens=3)


def malformed(rng: random.Random) -> str | bytes:
    """A message that is nearly right, or nothing at all."""
    events = [
        {"type": "session.update", "session": {"temperature": 1, "seed": 2, "recording": None}},
        {"type": "input_text.draft", "text": "Hello there"},
        {
            "type": "conversation.item.create",
            "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        },
        {"type": "response.create", "response": {"max_output_tokens": 1}},
        {"type": "clock.pong", "server_time_s": 1.0, "client_time_s": 2.0},
    ]
    match rng.randrange(4):
        case 0:
            return rng.randbytes(rng.randrange(40))
        case 1:
            return frame(rng.randbytes(rng.choice([0, 12, 16, 5752, 100])), rng.randrange(4), rng.uniform(-1e9, 1e9))
        case 2:
            text = list(json.dumps(rng.choice(events)))
            for _ in range(rng.randrange(1, 6)):
                text[rng.randrange(len(text))] = chr(rng.choice([0, 34, 44, 58, 91, 93, 123, 125, 0x2028, 0x1F600]))
            return "".join(text)
        case _:
            event = rng.choice(events)
            inner = next((value for value in event.values() if isinstance(value, dict)), event)
            inner[rng.choice(list(inner))] = rng.choice([None, [], {}, "", -1, 1e308, "x" * 1000, [[]], True])
            return json.dumps(event)


def test_the_clock_with_the_shortest_round_trip_counts() -> None:
    clock = ClockMatch()
    assert clock.to_server(1.0) is None
    for sent_s, back_s, client_s in ((10.0, 10.5, 110.1), (20.0, 20.01, 120.005), (30.0, 31.0, 130.9)):
        assert clock.pong(clock.ping(sent_s), client_s, back_s)
    assert clock.offset_s == pytest.approx(-100.0, abs=1e-6)
    assert not clock.pong(20.0, 120.0, 40.0), "each ping is answered once"
    for number in range(8):  # a clock that was set anew counts once the old exchanges are gone
        assert clock.pong(clock.ping(50.0 + number), 60.0 + number, 50.2 + number)
    assert clock.offset_s == pytest.approx(-9.9)


def test_messages_are_what_they_say() -> None:
    message = parse_message('{"type": "response.create", "unknown": [1], "response": {"seed": 3}}')
    assert message.type == "response.create"
    with pytest.raises(BadMessageError, match=r"response\.max_output_tokens"):
        parse_message('{"type": "response.create", "response": {"max_output_tokens": 0}}')
    found = parse_frame(frame(geometry(np.arange(478 * 3.0).reshape(478, 3)), 2, 12.5))
    assert (found.client_time_s, found.width_px, found.points[1, 0]) == (12.5, 640, 3.0)


def test_pictures_and_clips_keep_to_their_bounds(tmp_path: Path, tiny_sessions: Path) -> None:
    turned = Image.fromarray(np.zeros((20, 40, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    out = io.BytesIO()
    turned.save(out, "JPEG", exif=exif)
    assert decode_picture(out.getvalue(), 1000).shape == (40, 20, 3)
    with pytest.raises(BadPictureError, match="at most 799"):
        decode_picture(out.getvalue(), 799)
    clip = next(tiny_sessions.glob("*/video/000000.mp4")).read_bytes()
    frames = list(decode_clip(clip, 10**6))
    assert frames[0][0] == 0.0
    assert frames[1][0] > 0
    with pytest.raises(BadPictureError, match="too many"):
        next(decode_clip(clip, 100))
    playlist = f"#EXTM3U\n#EXTINF:1,\n{next(tiny_sessions.glob('*/video/000000.mp4')).resolve()}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{next(tiny_sessions.glob('*/video/000000.mp4')).resolve()}'\n"
    for content in (b"", b"nothing", clip[:200], playlist.encode(), concat.encode()):
        with pytest.raises(BadPictureError):
            list(decode_clip(content, 10**6))
    for url in ("http://localhost/x.jpg", "file:///etc/passwd", "data:image/png,abc", "data:x;base64,?"):
        with pytest.raises(BadPictureError):
            data_of_url(url)
    assert data_of_url(f"data:image/png;base64,{base64.b64encode(b'abc').decode()}") == b"abc"


def test_other_sites_and_strangers_are_kept_out(run: Path) -> None:
    with serving(Service(run, token="s3cret")) as server:
        for address, headers in (
            (server.ws, {}),
            (f"{server.ws}?token=wrong", {}),
            (f"{server.ws}?token=s3cret", {"Origin": "http://evil.example"}),
            (f"{server.ws}?token=s3cret", {"Origin": "null"}),
        ):
            with pytest.raises(Exception, match=r"40[13]"), connect(address, additional_headers=headers):
                pass
        own = {"Origin": f"http://127.0.0.1:{server.port}"}
        with connect(f"{server.ws}?token=s3cret", additional_headers=own) as allowed:
            assert "session.created" in allowed.recv()
        with connect(server.ws, additional_headers={"Authorization": "Bearer s3cret"}) as allowed:
            assert "session.created" in allowed.recv()


def test_a_name_that_another_site_has_pointed_here_is_refused(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert link.recv(1000).startswith(b"HTTP/1.1 403")


def test_every_loopback_address_is_a_name_of_this_machine(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.2\r\nConnection: close\r\n\r\n")
        assert link.recv(1000).startswith(b"HTTP/1.1 200")


def test_what_cannot_be_served_is_said_before_the_port_is_open(run: Path, tmp_path: Path) -> None:
    with open_port("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(UserError, match=r"port .* is in use"):
            serve(Service(run), "127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UserError, match="no such address"):
        serve(Service(run), "127.0.0.1", 99999)
    with pytest.raises(UserError, match="no trained model here"):
        serve(Service(tmp_path), "127.0.0.1", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--record"):
        prepare_recordings(tmp_path / "file" / "x")


def test_a_client_that_sends_half_a_request_holds_nobody_up(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        with server.connect() as client:
            assert client.ask("Hello", max_output_tokens=1)
        assert time.monotonic() - began < 10
