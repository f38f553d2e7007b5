"""The live engine over HTTP and WebSocket: conversations with a face, OpenAI's chat completions, figures, the page."""

import asyncio
import errno
import logging
import secrets
import socket
import threading
import time
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from starlette.requests import Request
from starlette.routing import Match, Route

from natural_video_llm.assets import STARTER, starter_folder
from natural_video_llm.checkpoint import base_beside
from natural_video_llm.console import console
from natural_video_llm.errors import UserError
from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.serving.completions import RequestError, completions_router
from natural_video_llm.inference.serving.guard import SameSite, TokenGuard, TokenScheme, deny, is_local
from natural_video_llm.inference.serving.house import House
from natural_video_llm.inference.serving.limits import Limits
from natural_video_llm.inference.serving.metrics import Metrics
from natural_video_llm.inference.serving.model_switch import ModelSwitch, warm_up
from natural_video_llm.inference.serving.page import BUILD_PAGE, add_page, page_is_built
from natural_video_llm.inference.serving.realtime import converse
from natural_video_llm.inference.serving.recording import mend_recordings
from natural_video_llm.inference.serving.registry import Registry, ServerFullError
from natural_video_llm.inference.serving.rooms import RoomError, rooms_router
from natural_video_llm.inference.training_api import training_router
from natural_video_llm.inference.training_jobs import RECIPE, TrainingJobs
from natural_video_llm.inference.web_api import sessions_router
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.stop_signals import on_stop_signals

_HOUSEKEEPING_S = 5.0
_UNACKNOWLEDGED_MS = 30_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What is served, to whom.

    Args:
        run: a run folder, or the starter's name.
        token: what a client must show; None lets everyone in who reaches the port.
        local: only this machine reaches the port.
        record: the folder for recordings; None records nothing.
        recipe: how the page trains on them, options of `nvllm train` in TOML.
        alone: this process serves everybody; training from the page and conversations of two people need that.
        limits: of sessions and messages.
        execution: how a neural encoder of pictures runs.
        weights: the LLM's, as `Engine.load` takes them.
    """

    run: Path
    token: str | None = None
    local: bool = True
    record: Path | None = None
    recipe: Path = RECIPE
    alone: bool = True
    limits: Limits = field(default_factory=Limits)
    execution: Execution | None = None
    weights: str = "native"

    @property
    def folder(self) -> Path:
        starter = self.run == Path(STARTER) and not self.run.exists()
        return starter_folder() if starter else self.run

    @property
    def runs(self) -> Path | None:
        """Where training from the page writes: beside the recordings."""
        return None if self.record is None else self.record.absolute().parent / "runs"


class _Health(BaseModel):
    status: str


class _State:
    """The parts of a running server that an app's routes reach."""

    registry: Registry
    warm = False

    def __init__(self, jobs: TrainingJobs | None):
        self.jobs = jobs


def create_app(service: Service, engine: Engine) -> FastAPI:
    """The ASGI app around an engine, which stays the caller's to close."""
    metrics, limits, state = Metrics(), service.limits, _State(_jobs(service, engine))
    house = House(
        engine=engine,
        model=service.folder.resolve().name,
        made_s=int(service.folder.stat().st_mtime),
        limits=limits,
        replies=ThreadPoolExecutor(limits.sessions + limits.parked, thread_name_prefix="reply"),
        pictures=ThreadPoolExecutor(2, thread_name_prefix="picture"),
        metrics=metrics,
        record_folder=service.record,
    )
    guard = TokenGuard(service.token)
    app = FastAPI(
        title="Natural Video LLM",
        summary="A language model that reads the face in front of it. Live conversations go over the WebSocket "
        "/v1/realtime, see docs/server.md.",
        docs_url=None,
        redoc_url=None,
        lifespan=lambda _: _running(house, state),
    )
    only_local = service.local and service.token is None
    app.add_middleware(SameSite, only_local=only_local, most_bytes=limits.body_bytes)
    _add_error_answers(app)
    guarded = [Depends(guard), *([Depends(TokenScheme())] if service.token else [])]
    app.include_router(completions_router(lambda: state.registry), dependencies=guarded)
    app.include_router(_figures_router(state, metrics, guarded))
    in_use = state.jobs.uses if state.jobs else lambda session: False
    sessions = sessions_router(service.record, engine.model.config.encoder, service.runs, in_use)
    app.include_router(sessions, dependencies=guarded)
    switch = ModelSwitch(lambda: state.registry, lambda run: Engine.load(run, service.execution, service.weights))
    if service.alone:
        app.include_router(rooms_router(lambda: state.registry.rooms), dependencies=guarded)
    app.include_router(training_router(state.jobs, switch), dependencies=guarded)

    @app.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket) -> None:
        if not guard.lets_in(websocket):
            await deny(websocket)
            return
        await converse(websocket, state.registry, limits)

    add_page(app)
    _tell_no_422(app)
    return app


def _jobs(service: Service, engine: Engine) -> TrainingJobs | None:
    """What trains on this server's recordings, on the LLM and the encoder that it was started with."""
    if service.record is None or service.runs is None or not service.alone:
        return None
    config = engine.model.config
    llm = base_beside(service.folder, config.base_llm)
    return TrainingJobs(service.runs, service.record, llm, config.encoder, service.recipe)


@asynccontextmanager
async def _running(house: House, state: _State) -> AsyncIterator[None]:
    state.registry = Registry(house)
    tasks = [asyncio.create_task(_warm_up(house, state)), asyncio.create_task(_keep_house(state.registry))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if state.jobs is not None:
            await asyncio.to_thread(state.jobs.close)
        await state.registry.close()
        house.replies.shutdown(wait=False, cancel_futures=True)
        house.pictures.shutdown(wait=False, cancel_futures=True)


async def _warm_up(house: House, state: _State) -> None:
    try:
        await asyncio.to_thread(warm_up, house.engine)
    except Exception as error:  # the first replies may be slow, or say themselves what is wrong
        _log.error("warming up failed (%s)", type(error).__name__)
    state.warm = True


async def _keep_house(registry: Registry) -> None:
    while True:
        await asyncio.sleep(_HOUSEKEEPING_S)
        try:
            await registry.expire()
        except Exception as error:  # the next round goes on with what is left
            _log.error("clearing up failed (%s)", type(error).__name__)


def _figures_router(state: _State, metrics: Metrics, guarded: Sequence[Any]) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> _Health:
        return _Health(status="ok")

    @router.get("/readyz", responses={503: {"model": _Health, "description": "The model is not warm yet"}})
    async def readyz() -> JSONResponse:
        return JSONResponse({"status": "ready" if state.warm else "warming up"}, 200 if state.warm else 503)

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        dependencies=guarded,
        responses={401: {"description": "A token is needed"}},
    )
    async def figures() -> PlainTextResponse:
        return PlainTextResponse(metrics.text())

    return router


def _add_error_answers(app: FastAPI) -> None:
    """Errors in the form of OpenAI's API; nothing of a request is repeated in them."""

    def answer(status: int, message: str, code: str | None = None, param: str | None = None) -> JSONResponse:
        kind = "invalid_request_error" if status < 500 else "server_error"
        return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)

    @app.exception_handler(RequestError)
    async def bad_request(_: Request, error: RequestError) -> JSONResponse:
        return answer(error.status, error.message, error.code, error.param)

    @app.exception_handler(ServerFullError)
    async def full(_: Request, error: ServerFullError) -> JSONResponse:
        response = answer(503, str(error), "server_full")
        response.headers["Retry-After"] = "10"
        return response

    @app.exception_handler(RoomError)
    async def no_room(_: Request, error: RoomError) -> JSONResponse:
        return answer(503, error.message, error.code)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return answer(400, f"{where}: {first['msg']}"[:300], "invalid_value", where[:100] or None)

    @app.exception_handler(405)
    async def other_method(request: Request, _: Exception) -> JSONResponse:
        # Of several routes on one path, Starlette names the first one's methods alone.
        there = [route for route in app.routes if isinstance(route, Route)]
        fits = [route for route in there if route.matches(request.scope)[0] != Match.NONE]
        allowed = {method for route in fits for method in route.methods or ()}
        return JSONResponse({"detail": "Method Not Allowed"}, 405, {"Allow": ", ".join(sorted(allowed))})

    @app.exception_handler(UserError)
    async def user_error(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)


def _tell_no_422(app: FastAPI) -> None:
    """FastAPI's schema promises an answer that this server never gives: bad requests get 400, as OpenAI's do."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        schema = original()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema.get("components", {}).get("schemas", {}).pop(name, None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def open_port(host: str, port: int) -> socket.socket:
    """A socket that has the address, and does not listen yet.

    Raises:
        UserError: another program has it, or the address is not this machine's.
    """
    if not 0 <= port < 2**16:  # the system's resolver takes others, and cuts them
        raise UserError(f"--port {port}: no such address; ports are 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: no such address ({error}); choose another") from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a client that is gone, or never reads, is let go
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        taken.bind(address)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use; stop the program that has it, or choose another --port") from error
        raise UserError(f"--host {host} --port {port} cannot be used ({error.strerror}); choose another") from error
    return taken


def choose_token(host: str, token: str | None) -> str | None:
    """The token that is given; where others reach the port, one is needed and made up."""
    return token or (None if is_local(host) else secrets.token_urlsafe(24))


def prepare_recordings(folder: Path | None) -> None:
    """Raises `UserError` where `folder` cannot be written; mends what a killed server left in it."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--record {folder} cannot be made ({error.strerror}); choose another folder") from error
    mend_recordings(folder)


def serve(service: Service, host: str, port: int, open_page: bool = False) -> None:
    """Serve until Ctrl-C.

    Raises:
        UserError: no such run, the port is in use, or the folder for recordings cannot be written.
    """
    with closing(open_port(host, port)) as taken:
        prepare_recordings(service.record)
        with Engine.load(service.run, service.execution, service.weights) as engine:
            server = _Server(server_config(create_app(service, engine), service.limits))
            url = announce(host, taken.getsockname()[1], service)
            if open_page:
                threading.Thread(target=_open_when_up, args=(url, taken.getsockname()), daemon=True).start()
            server.run(sockets=[taken])


def server_config(app: Callable[..., Awaitable[None]], limits: Limits) -> uvicorn.Config:
    """No line in a log names an address with its query, where a token may be."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Up to twice the limit a client is told why; above that the connection just ends with code 1009.
        ws_max_size=2 * limits.message_bytes,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
        limit_concurrency=16 * limits.sessions + 64,
    )


class _Server(uvicorn.Server):
    """Ends in good order at the first signal, at once at the second; uvicorn's own would raise them again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with on_stop_signals(self._stop):
            yield

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def announce(host: str, port: int, service: Service) -> str:
    """Say where the server is; the address, with the token where there is one."""
    shown = "localhost" if host == "127.0.0.1" else host
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
    if service.token is not None:
        url += f"?token={service.token}"
    console.print(f"serving {service.run} at {url} (Ctrl-C stops)", markup=False, highlight=False, soft_wrap=True)
    if not service.local:
        said = "others reach this port: whoever has the token may talk to the model; cameras need https in browsers"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    if not page_is_built():
        console.print(f"there is no page: {BUILD_PAGE}", markup=False, highlight=False, soft_wrap=True)
    return url


def _open_when_up(url: str, address: tuple[Any, ...]) -> None:
    for _ in range(50):
        with suppress(OSError), socket.create_connection(address[:2], timeout=1):
            webbrowser.open(url)
            return
        time.sleep(0.2)
