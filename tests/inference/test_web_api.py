"""Recorded sessions over HTTP, on a real server with real recordings of the sample speaker."""

import io
import json
import shutil
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from natural_video_llm.errors import UserError
from natural_video_llm.inference.web_api import sessions_router
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import load_session_latents
from natural_video_llm.sessions.lock import role_lock


@pytest.fixture
def recordings(tiny_sessions: Path, tmp_path: Path) -> Path:
    """Two sessions with video, and things beside them that are none."""
    folder = tmp_path / "recordings"
    for path in sorted(tiny_sessions.glob("*/session.jsonl"))[:2]:
        shutil.copytree(path.parent, folder / path.parent.name)
    (folder / "damaged").mkdir()
    (folder / "damaged" / "session.jsonl").write_text("{}\n")
    (folder / ".deleted-other").mkdir()
    return folder


class Client:
    """Requests to a server on this machine."""

    def __init__(self, address: str):
        self._address = address

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, content, headers, method=method)
        if content is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def json(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, content = self.raw(method, path, body)
        return status, json.loads(content) if content else None


IN_USE = "being_trained_on"


def _serving(folder: Path | None) -> Iterator[Client]:
    app = FastAPI()

    @app.exception_handler(UserError)
    async def user_error(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    runs = None if folder is None else folder.parent / "runs"
    app.include_router(sessions_router(folder, "face-geometry", runs, lambda session: session == IN_USE))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Client(f"http://127.0.0.1:{listening.getsockname()[1]}/api/sessions")
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(recordings: Path) -> Iterator[Client]:
    yield from _serving(recordings)


def test_sessions_are_listed_and_shown(client: Client, recordings: Path) -> None:
    status, found = client.json("GET", "")
    assert (status, found["recording"], len(found["sessions"])) == (200, True, 2)
    summary = found["sessions"][0]
    session = Session(recordings / summary["id"])
    assert summary["replies"] == len(session.texts) / 2
    assert summary["video"]
    assert not summary["latents"]
    status, details = client.json("GET", f"/{summary['id']}/details")
    assert status == 200
    assert [text["text"] for text in details["texts"]] == [text.text for text in session.texts]
    assert details["texts"][0]["char_times"] == session.texts[0].char_times
    assert details["segments"][0]["t_end"] == session.finished_segments[0].t


def test_video_comes_whole_or_in_part(client: Client, recordings: Path) -> None:
    name = client.json("GET", "")[1]["sessions"][0]["id"]
    video = (recordings / name / "video" / "000000.mp4").read_bytes()
    assert client.raw("GET", f"/{name}/video/000000.mp4") == (200, video)
    assert client.raw("GET", f"/{name}/video/000000.mp4", Range="bytes=10-19") == (206, video[10:20])


def test_export_is_the_whole_session(client: Client, recordings: Path, tmp_path: Path) -> None:
    name = client.json("GET", "")[1]["sessions"][0]["id"]
    with zipfile.ZipFile(io.BytesIO(client.raw("GET", f"/{name}/export")[1])) as archive:
        archive.extractall(tmp_path / "out")
    assert (tmp_path / "out" / name / "session.jsonl").read_bytes() == (
        recordings / name / "session.jsonl"
    ).read_bytes()
    assert Session(tmp_path / "out" / name).finished_segments


def test_an_export_leaves_nothing_behind(
    client: Client, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = client.json("GET", "")[1]["sessions"][0]["id"]
    passing = tmp_path / "passing"
    passing.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(passing))
    size = len(client.raw("GET", f"/{name}/export")[1])
    for wanted in (f"bytes={size}-", "bytes=x", "bytes=0-9"):
        client.raw("GET", f"/{name}/export", Range=wanted)
    assert not list(passing.iterdir())


def test_what_is_being_trained_on_stays_as_it_is(client: Client, recordings: Path) -> None:
    shutil.copytree(recordings / client.json("GET", "")[1]["sessions"][0]["id"], recordings / IN_USE)
    for method, path, body in (("DELETE", "", None), ("POST", "/keep", {"keep": "geometry"})):
        status, answer = client.json(method, f"/{IN_USE}{path}", body)
        assert status == 409
        assert "being trained on" in answer["detail"]
    assert list((recordings / IN_USE / "video").glob("*.mp4"))


def test_pictures_in_reports_and_segments_that_do_not_play_go_with_the_video(client: Client, recordings: Path) -> None:
    name = client.json("GET", "")[1]["sessions"][0]["id"]
    report = recordings.parent / "runs" / "run" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text(f'<head><meta name="nvllm-sessions" content="{Session(recordings / name).start.session_id}">')
    whole = (recordings / name / "video" / "000000.mp4").read_bytes()
    (recordings / name / "video" / "000099.mp4").write_bytes(whole[: len(whole) // 3])
    status, summary = client.json("POST", f"/{name}/keep", {"keep": "geometry"})
    assert (status, summary["video"], summary["latents"]) == (200, False, True)
    assert not list((recordings / name).rglob("*.mp4"))
    assert not report.exists()


def test_geometry_stays_where_the_video_goes(client: Client, recordings: Path) -> None:
    name = client.json("GET", "")[1]["sessions"][0]["id"]
    status, summary = client.json("POST", f"/{name}/keep", {"keep": "geometry"})
    assert (status, summary["video"], summary["latents"]) == (200, False, True)
    assert not list((recordings / name).rglob("*.mp4"))
    latents = load_session_latents(Session(recordings / name), "face-geometry")
    assert latents.present.mean() > 0.9


def test_video_that_its_recorder_did_not_close_gives_geometry_too(client: Client, recordings: Path) -> None:
    name = client.json("GET", "")[1]["sessions"][0]["id"]
    log = recordings / name / "session.jsonl"
    segments = len(Session(log.parent).finished_segments)
    log.write_text("".join(line for line in log.open() if '"video_segment_end"' not in line))
    assert not Session(log.parent).finished_segments
    status, summary = client.json("POST", f"/{name}/keep", {"keep": "geometry"})
    assert (status, summary["video"], summary["latents"]) == (200, False, True)
    assert len(Session(log.parent).finished_segments) == segments
    assert load_session_latents(Session(log.parent), "face-geometry").present.mean() > 0.9


def test_video_that_gives_no_geometry_stays(client: Client, recordings: Path) -> None:
    name = client.json("GET", "")[1]["sessions"][0]["id"]
    video = recordings / name / "video" / "000000.mp4"
    video.write_bytes(b"no video")
    status, answer = client.json("POST", f"/{name}/keep", {"keep": "geometry"})
    assert status == 409
    assert "video stays" in answer["detail"]
    assert video.is_file()


def test_deletion_leaves_nothing(client: Client, recordings: Path) -> None:
    name = client.json("GET", "")[1]["sessions"][0]["id"]
    with role_lock(recordings / name, "video"):
        status, answer = client.json("DELETE", f"/{name}")
        assert status == 409
        assert "recording" in answer["detail"]
    assert client.raw("DELETE", f"/{name}") == (204, b"")
    assert not list(recordings.rglob(f"*{name}*"))
    assert client.raw("GET", f"/{name}/details")[0] == 404


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e", "..%2f..%2fetc", ".deleted-other", "a%00b"])
def test_other_names_are_no_sessions(name: str, client: Client) -> None:
    for method, path in (("GET", "/details"), ("DELETE", ""), ("GET", "/export"), ("GET", "/video/000000.mp4")):
        assert client.raw(method, f"/{name}{path}")[0] in (404, 405)


def test_a_session_gives_out_nothing_but_its_videos(client: Client) -> None:
    name = client.json("GET", "")[1]["sessions"][0]["id"]
    for other in ("session.jsonl", "..%2fsession.jsonl", "../session.jsonl", ".video.lock"):
        assert client.raw("GET", f"/{name}/video/{other}")[0] == 404


def test_a_server_that_does_not_record_has_no_sessions() -> None:
    for client in _serving(None):
        assert client.json("GET", "") == (200, {"recording": False, "sessions": []})
        assert client.raw("GET", "/some/details")[0] == 404
