"""A tiny trained run, a real server around it, and a client that keeps to the protocol."""

import json
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from websockets.sync.client import ClientConnection, connect

from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.server import Service, create_app, open_port, server_config

WAIT_S = 20.0


class LiveServer:
    """Runs in a thread of this process; `app` and `engine` may be looked at."""

    def __init__(self, app: FastAPI, engine: Engine, port: int):
        self.app, self.engine, self.port = app, engine, port
        self.http, self.ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/v1/realtime"

    def metric(self, series: str) -> float:
        """A figure of /metrics, 0 where it is not there yet."""
        with urllib.request.urlopen(f"{self.http}/metrics") as answer:
            rows = [row.rpartition(" ") for row in answer.read().decode().splitlines()]
        return next((float(value) for name, _, value in rows if name == series), 0.0)

    @contextmanager
    def connect(self, query: str = "") -> Iterator["Client"]:
        with connect(self.ws + query, max_size=None) as socket:
            yield Client(socket)


@contextmanager
def serving(service: Service) -> Iterator[LiveServer]:
    with Engine.load(service.run) as engine:
        app, taken = create_app(service, engine), open_port("127.0.0.1", 0)
        server = uvicorn.Server(server_config(app, service.limits))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield LiveServer(app, engine, taken.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(timeout=WAIT_S)
            assert not thread.is_alive(), "the server ends when it is told to"


def wait_until(is_so: Any, seconds: float = WAIT_S) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "this should have come true"
        time.sleep(0.02)


class Client:
    """Answers pings with a clock of its own, 1000 seconds ahead of this machine's; leaves the rest to the test."""

    def __init__(self, socket: ClientConnection):
        self.socket = socket
        self.opening = self.until("session.created", "session.resumed", "error")[-1]

    @staticmethod
    def now_s() -> float:
        return time.monotonic() + 1000

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def receive(self, timeout_s: float = WAIT_S) -> dict:
        """The next event that is no ping."""
        end = time.monotonic() + timeout_s
        while True:
            event = json.loads(self.socket.recv(max(0.0, end - time.monotonic())))
            if event["type"] != "clock.ping":
                return event
            self.send("clock.pong", server_time_s=event["server_time_s"], client_time_s=self.now_s())

    def until(self, *kinds: str) -> list[dict]:
        """Events up to and with the first of these kinds; pings alone do not keep it waiting."""
        events, end = [self.receive()], time.monotonic() + WAIT_S
        while events[-1]["type"] not in kinds:
            events.append(self.receive())
            assert time.monotonic() < end, f"none of {kinds}, but {events}"
        return events

    def match_clocks(self) -> None:
        """Answer the first pings, so that the server knows this clock."""
        for _ in range(3):
            event = json.loads(self.socket.recv(WAIT_S))
            if event["type"] == "clock.ping":
                self.send("clock.pong", server_time_s=event["server_time_s"], client_time_s=self.now_s())

    def say(self, text: str, **item: Any) -> None:
        content = [{"type": "input_text", "text": text}]
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content, **item})

    def ask(self, text: str, **response: Any) -> str:
        """The whole reply."""
        self.say(text)
        self.send("response.create", response=response)
        return text_of(self.until("response.done"))

    def error(self) -> dict:
        return self.until("error")[-1]["error"]

    def see(self, content: bytes, kind: int = 1, time_s: float | None = None) -> None:
        self.socket.send(frame(content, kind, self.now_s() if time_s is None else time_s))


def text_of(events: list[dict]) -> str:
    """Of a reply's events, which agree with each other."""
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == next(event["text"] for event in events if event["type"] == "response.output_text.done")
    return text


def frame(content: bytes, kind: int, time_s: float) -> bytes:
    return struct.pack("<B7xd", kind, time_s) + content


def geometry(
    points: np.ndarray | None, width_px: int = 640, height_px: int = 480, faces: int = 1, score: float = 0.9
) -> bytes:
    head = struct.pack("<III", width_px, height_px, 0 if points is None else faces)
    return head if points is None else head + struct.pack("<f", score) + points.astype("<f4").tobytes()


def open_room(server: LiveServer) -> str:
    """What to connect with to a new room."""
    request = urllib.request.Request(f"{server.http}/api/rooms", method="POST")
    with urllib.request.urlopen(request) as answer:
        return f"?room={json.load(answer)['room']}"
