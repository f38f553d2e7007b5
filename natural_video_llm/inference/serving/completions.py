"""/v1/chat/completions and /v1/models: a conversation in one request, the face of its last message among it."""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

import numpy as np
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.requests import Request

from natural_video_llm.inference.conversation import Reply, Sampling
from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.live_face import MOST_PIXELS
from natural_video_llm.inference.serving import chat_messages as chat
from natural_video_llm.inference.serving.messages import without_controls
from natural_video_llm.inference.serving.pictures import BadPictureError, data_of_url, decode_clip, decode_picture
from natural_video_llm.inference.serving.registry import Registry
from natural_video_llm.sessions.clock import SessionClock

_STILL_S, _STILL_RATE_HZ = 1.0, 10
_LOOK_EVERY_S = 0.5
_PICTURES = ("JPEG", "WEBP", "PNG")
_LONGEST_CLIP_SIDES_PX = 1920 * 1088


class RequestError(Exception):
    """What is wrong with a request, as OpenAI's API says it."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param


class _PlayedClock(SessionClock):
    """Stands still but for what it is told: a clip's frames come as fast as they can be encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s


class StopAt:
    """Text piece by piece up to the first of some words; what may be the beginning of one waits for the next piece."""

    def __init__(self, stops: list[str]):
        self._stops, self._waiting = stops, ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """The text that is certain now."""
        text = self._waiting + piece
        found = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        if found:
            self.stopped, self._waiting = True, ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._waiting = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        return self._waiting


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(frozen=True)
class _Answered:
    """A reply that has ended, and what was seen with it."""

    reply: Reply | None
    stopped: bool
    face: chat.FaceUse

    @property
    def finish(self) -> chat.FinishReason:
        return "length" if self.reply is not None and self.reply.finish == "length" and not self.stopped else "stop"

    @property
    def usage(self) -> chat.CompletionUsage:
        prompt = self.reply.input_tokens if self.reply else 0
        tokens = len(self.reply.pieces) if self.reply else 0
        return chat.CompletionUsage(prompt_tokens=prompt, completion_tokens=tokens, total_tokens=prompt + tokens)


def _frames_of(message: chat.ChatMessage) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, rgb) of the message's pictures, each held for a second, and clips, one after the other."""
    from_s = 0.0
    for part in message.face:
        time_s = 0.0
        for time_s, rgb in _frames_of_part(part):
            yield from_s + time_s, rgb
        from_s += time_s + 1 / _STILL_RATE_HZ


def _frames_of_part(
    part: chat.ImagePart | chat.VideoPart | chat.InputVideoPart,
) -> Iterator[tuple[float, np.ndarray]]:
    match part:
        case chat.ImagePart():
            rgb = decode_picture(data_of_url(part.image_url.url), MOST_PIXELS, _PICTURES)
            yield from ((i / _STILL_RATE_HZ, rgb) for i in range(int(_STILL_S * _STILL_RATE_HZ)))
        case chat.VideoPart():
            yield from decode_clip(data_of_url(part.video_url.url), _LONGEST_CLIP_SIDES_PX)
        case chat.InputVideoPart():
            yield from decode_clip(data_of_url(f"data:;base64,{part.input_video.data}"), _LONGEST_CLIP_SIDES_PX)


def answer(
    engine: Engine, request: chat.ChatRequest, show: Callable[[str], None], cancelled: threading.Event
) -> _Answered:
    """Write the reply to the last message, a piece at a time to `show`; blocks. No text, and the assistant's own, are
    answered with nothing.

    Raises:
        RequestError: the last message's picture or clip is not taken.
    """
    *before, last = request.messages
    text = "" if last.role == "assistant" else without_controls(last.text, None)[0]
    turns = [("assistant" if m.role == "assistant" else "user", without_controls(m.text, None)[0]) for m in before]
    clock, default = _PlayedClock(), Sampling()
    sampling = Sampling(
        default.temperature if request.temperature is None else request.temperature,
        default.top_p if request.top_p is None else request.top_p,
        request.seed,
        request.max_completion_tokens or request.max_tokens or default.max_tokens,
    )
    stop = StopAt(request.stops)
    with closing(engine.open(clock, sampling, turns=[turn for turn in turns if turn[1].strip()])) as conversation:
        frames = 0
        try:
            for clock.time_s, rgb in _frames_of(last):
                if cancelled.is_set():
                    break
                conversation.see(clock.time_s, rgb)
                conversation.settle()
                frames += 1
        except BadPictureError as error:
            raise RequestError(400, str(error), "invalid_image", "messages") from None
        with closing(conversation.reply(text)) as pieces:
            for piece in pieces:
                show(stop.add(piece.text))
                if stop.stopped or cancelled.is_set():
                    break
        show(stop.rest())
        reply = conversation.last_reply
        moved_bits = round(reply.moved_bits, 5) if reply else 0.0
        face = chat.FaceUse(frames=frames, seen=bool(frames) and conversation.status().face_seen, moved_bits=moved_bits)
    return _Answered(reply, stop.stopped, face)


_ERRORS: dict[int | str, dict] = {
    400: {"model": chat.ErrorResponse, "description": "Something is wrong with the request"},
    401: {"description": "A token is needed"},
    403: {"model": chat.ErrorResponse, "description": "Asked from a page of another site"},
    404: {"model": chat.ErrorResponse, "description": "There is no such model"},
    413: {"description": "The body is too large"},
    503: {"model": chat.ErrorResponse, "description": "The server is full"},
}


def completions_router(registry: Callable[[], Registry]) -> APIRouter:
    """`registry` gives that of the running server."""
    router = APIRouter(prefix="/v1")

    def served() -> chat.Model:
        house = registry().house
        return chat.Model(id=house.model, created=house.made_s)

    def check(name: str) -> chat.Model:
        model = served()
        if name != model.id:
            raise RequestError(404, f"this server has the model {model.id!r} only", "model_not_found", "model")
        return model

    @router.get("/models", responses={status: _ERRORS[status] for status in (401, 403)})
    async def models() -> chat.ModelList:
        return chat.ModelList(data=[served()])

    @router.get("/models/{name}", responses={status: _ERRORS[status] for status in (401, 403, 404)})
    async def model_named(name: str) -> chat.Model:
        return check(name)

    streamed = {"content": {"text/event-stream": {}}, "description": "The reply"}

    @router.post(
        "/chat/completions",
        response_model=chat.Completion,
        responses={200: streamed, **_ERRORS},
        response_model_exclude_none=True,
    )
    async def complete(request: chat.ChatRequest, connection: Request) -> chat.Completion | StreamingResponse:
        check(request.model)
        writing = _Writing(registry(), request)
        if request.stream:
            await writing.begin()
            return StreamingResponse(writing.chunks(), media_type="text/event-stream")
        return await writing.whole(connection)

    return router


class _Writing:
    """One request's reply: a thread writes it, the event loop sends it."""

    def __init__(self, registry: Registry, request: chat.ChatRequest):
        self._house, self._registry, self._request = registry.house, registry, request
        self._pieces: asyncio.Queue[str | _Answered | Exception] = asyncio.Queue()
        self._cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self.id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    async def begin(self) -> None:
        """Start, and wait for the first piece, so that an error is still an answer of its own.

        Raises:
            ServerFullError, RequestError.
        """
        self._place = self._registry.request()
        self._place.__enter__()
        self._house.replies.submit(self._write)
        try:
            first = await self._pieces.get()
        except BaseException:
            self._cancelled.set()
            raise
        if isinstance(first, Exception):
            raise first
        self._first: str | _Answered = first

    def _write(self) -> None:
        ended: _Answered | Exception
        try:
            ended = answer(self._house.engine, self._request, lambda piece: self._put(piece or None), self._cancelled)
            stages = ended.reply.stages_ms() if ended.reply else {}
            status = "completed" if ended.finish == "stop" else "incomplete"
            self._house.metrics.replied(status, ended.usage.completion_tokens, stages)
        except Exception as error:
            ended = error
        self._put(ended)
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._place.__exit__, None, None, None)

    def _put(self, piece: str | _Answered | Exception | None) -> None:
        if piece is not None:
            with suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    async def _read(self) -> AsyncIterator[str | _Answered]:
        """The pieces, then how it ended; whoever stops reading ends the reply."""
        try:
            yield self._first
            found: str | _Answered | Exception = self._first
            while not isinstance(found, _Answered):
                found = await self._pieces.get()
                if isinstance(found, Exception):
                    raise found
                yield found
        finally:
            self._cancelled.set()

    async def whole(self, connection: Request) -> chat.Completion:
        """From the beginning to the end.

        Raises:
            ServerFullError, RequestError.
        """
        watching = asyncio.create_task(self._end_without(connection))
        try:
            await self.begin()
            return await self._whole()
        finally:
            watching.cancel()

    async def _end_without(self, connection: Request) -> None:
        """A client that does not wait any more ends the reply."""
        while not await connection.is_disconnected():
            await asyncio.sleep(_LOOK_EVERY_S)
        self._cancelled.set()

    async def _whole(self) -> chat.Completion:
        text = ""
        async for found in self._read():
            if isinstance(found, str):
                text += found
                continue
            choice = chat.Choice(message=chat.Answer(content=text), finish_reason=found.finish)
            return chat.Completion(
                id=self.id,
                created=self.created,
                model=self._house.model,
                choices=[choice],
                usage=found.usage,
                face=found.face,
            )
        raise AssertionError("a reply has an end")

    async def chunks(self) -> AsyncIterator[str]:
        """Server-sent events."""
        yield self._chunk(chat.Delta(role="assistant", content=""))
        async for found in self._read():
            if isinstance(found, str):
                yield self._chunk(chat.Delta(content=found))
                continue
            yield self._chunk(chat.Delta(), found.finish)
            if self._request.stream_options and self._request.stream_options.include_usage:
                yield self._event([], found.usage)
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: chat.Delta, finish: chat.FinishReason | None = None) -> str:
        return self._event([chat.ChunkChoice(delta=delta, finish_reason=finish)])

    def _event(self, choices: list[chat.ChunkChoice], usage: chat.CompletionUsage | None = None) -> str:
        chunk = chat.Chunk(id=self.id, created=self.created, model=self._house.model, choices=choices, usage=usage)
        return f"data: {chunk.model_dump_json(exclude_none=True)}\n\n"
