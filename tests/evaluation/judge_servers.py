"""Servers that speak the wire formats of OpenAI and Anthropic on this machine, well or badly."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Bad:
    """An answer that is none: an HTTP status with a body, cut off after some bytes, or late."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    wait_s: float = 0.0


Behaviour = Callable[[dict[str, Any], int], str | Bad | None]


class JudgeServer(ThreadingHTTPServer):
    """Answers with what `behave` makes of a request and its number (from 0): words, None (a refusal), or a `Bad` one;
    `requests` holds all that came."""

    daemon_threads = True

    def __init__(self, behave: Behaviour):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behave, self.requests, self.paths = behave, [], []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        self.server.paths.append(self.path)
        self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
        said = self.server.behave(request, len(self.server.requests) - 1)
        wrap = _openai if self.path.endswith("/chat/completions") else _anthropic
        answer = said if isinstance(said, Bad) else Bad(body=json.dumps(wrap(said, request["model"])))
        time.sleep(answer.wait_s)
        content = answer.body.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) + 100 * answer.cut))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


def _openai(said: str | None, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": said, "refusal": "I cannot help with that." if said is None else None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }


def _anthropic(said: str | None, model: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [] if said is None else [{"type": "text", "text": said}],
        "stop_reason": "refusal" if said is None else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1000, "output_tokens": 100},
    }


@contextmanager
def judge_server(behave: Behaviour) -> Iterator[JudgeServer]:
    with JudgeServer(behave) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def words_of(request: dict[str, Any]) -> str:
    """The user's text in a request of either format."""
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def replies_in(request: dict[str, Any]) -> list[str]:
    """The replies that a question is about, in their order."""
    return re.findall(r"repl(?:y|y to rate):\nPartner: (.*)", words_of(request))


def fair(request: dict[str, Any], _: int = 0) -> str:
    """Rates everything 4 and 3, and finds all replies alike."""
    return verdict(request, "tie")


def verdict(request: dict[str, Any], better: str) -> str:
    if len(replies_in(request)) == 1:
        return json.dumps({"reason": "it will do", "coherence": 4, "tone_alignment": 3})
    return json.dumps({"reason": "it is so", "better": better})
