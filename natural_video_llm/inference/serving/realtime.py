"""/v1/realtime: one WebSocket connection of a session."""

import asyncio
import time
from contextlib import suppress

from fastapi import WebSocket, WebSocketDisconnect

from natural_video_llm.inference.serving import events
from natural_video_llm.inference.serving.limits import Allowance, Limits
from natural_video_llm.inference.serving.live_session import LiveSession
from natural_video_llm.inference.serving.messages import BadMessageError, parse_frame, parse_message
from natural_video_llm.inference.serving.outbox import Outbox
from natural_video_llm.inference.serving.registry import Registry, ServerFullError
from natural_video_llm.inference.serving.rooms import RoomError

_PING_EVERY_S = 5.0
_FIRST_PINGS_S = (0.0, 0.1, 0.2, 0.4, 0.8)
_LOOK_EVERY_S = 0.25
_CLOSING_S = 1.0

# RFC 6455, section 7.4.1, and its registry.
_NORMAL, _REFUSED, _TOO_LARGE, _TRY_LATER = 1000, 1008, 1009, 1013


class _EndError(Exception):
    """The connection ends: an error event, then this close code; `over` ends the session as well."""

    def __init__(self, code: int, name: str, message: str, over: bool = False):
        super().__init__(message)
        self.code, self.name, self.message, self.over = code, name, message, over


async def converse(websocket: WebSocket, registry: Registry, limits: Limits) -> None:
    """Serve a connection that the guard has let in, to its end."""
    await websocket.accept()
    try:
        query = websocket.query_params
        session, resumed = _enter(registry, query.get("resume"), query.get("room"))
    except ServerFullError as error:
        told = events.ErrorInfo(type="server_full", code="server_full", message=str(error))
        await _send_last(websocket, events.ErrorEvent(error=told), _TRY_LATER)
        return
    except RoomError as refused:
        why = events.ErrorInfo(code=refused.code, message=refused.message)
        await _send_last(websocket, events.ErrorEvent(error=why), _REFUSED)
        return
    connection = _Connection(websocket, session, limits)
    over = False
    try:
        await connection.greet(resumed)
        await connection.run()
    except _EndError as error:
        over = error.over
        told = events.ErrorInfo(code=error.name, message=error.message)
        await _send_last(websocket, events.ErrorEvent(error=told), error.code)
    finally:
        # Another connection may have taken the session over meanwhile.
        if session.outbox is connection.outbox:
            await (registry.end(session) if over else registry.park(session))


def _enter(registry: Registry, token: str | None, room: str | None) -> tuple[LiveSession, bool]:
    known = registry.resume(token) if token else None
    return (known, True) if known is not None else (registry.open(room), False)


async def _send_last(websocket: WebSocket, event: events.ServerEvent, code: int) -> None:
    """To a client that may not read any more."""
    with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
        async with asyncio.timeout(_CLOSING_S):
            await websocket.send_text(event.model_dump_json())
            await websocket.close(code)


class _Connection:
    def __init__(self, websocket: WebSocket, session: LiveSession, limits: Limits):
        self._websocket, self._session, self._limits = websocket, session, limits
        self.outbox: Outbox = session.attach()
        self._allowance = Allowance(limits.messages_hz)
        self._heard = self._sent = time.monotonic()
        self._sending = False

    async def greet(self, resumed: bool) -> None:
        session = self._session
        if resumed:
            await session.detach()  # which was not done where the old connection is not known to be dead
            told = [events.Turn(role=role, text=text) for role, text in await session.turns()]
            self.outbox.put(events.SessionResumed(session=session.info(), turns=told))
        else:
            self.outbox.put(events.SessionCreated(session=session.info()))
        if session.room is not None:
            session.room.arrived(session)

    async def run(self) -> None:
        """Until one of the parts ends: the client goes, or something is too much."""
        parts = [asyncio.create_task(part) for part in (self._receive(), self._send(), self._watch())]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            results = await asyncio.gather(*parts, return_exceptions=True)
        for result in results:
            if isinstance(result, _EndError):
                raise result
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _receive(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if not self._allowance.take(time.monotonic()):
                raise _EndError(_REFUSED, "flood", f"more than {self._limits.messages_hz:g} messages a second")
            try:
                await self._take(message.get("text"), message.get("bytes"))
            except BadMessageError as error:
                # Frames carry no event_id: one error stands for a row of bad ones.
                self._session.fail(error, key=error.code if message.get("text") is None else None)

    async def _take(self, text: str | None, content: bytes | None) -> None:
        size = len(content) if content is not None else len(text or "")
        if size > self._limits.message_bytes:
            raise _EndError(_TOO_LARGE, "message_too_large", f"{size} bytes; at most {self._limits.message_bytes}")
        if content is not None:
            self._session.take_frame(parse_frame(content))
            return
        message = parse_message(text or "")
        await self._session.take(message)
        if message.type == "clock.pong":
            self._heard = time.monotonic()

    async def _send(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # the client has gone in the middle of it
            while True:
                event = await self.outbox.get()
                self._sent, self._sending = time.monotonic(), True
                await self._websocket.send_text(event.model_dump_json())
                self._sending = False

    async def _watch(self) -> None:
        began = time.monotonic()
        pings = [began + after_s for after_s in _FIRST_PINGS_S]
        while True:
            now = time.monotonic()
            if now >= pings[0]:
                self._session.ping()
                pings = pings[1:] or [now + _PING_EVERY_S]
            self._session.tell_state()
            self._check(now)
            await asyncio.sleep(min(_LOOK_EVERY_S, max(0.0, pings[0] - now)))

    def _check(self, now: float) -> None:
        limits, session = self._limits, self._session
        if session.outbox is not self.outbox:
            raise _EndError(_NORMAL, "taken_over", "the conversation goes on over another connection")
        if now - session.began > limits.session_s:
            told = f"a conversation may last {limits.session_s / 60:.0f} minutes"
            raise _EndError(_NORMAL, "session_expired", told, over=True)
        if self.outbox.overflowed or (self._sending and now - self._sent > limits.unread_s):
            raise _EndError(_REFUSED, "unread", "this client does not read what is sent")
        if now - self._heard > limits.silent_s:
            raise _EndError(_REFUSED, "silent", f"no ping was answered for {limits.silent_s:.0f} seconds")
