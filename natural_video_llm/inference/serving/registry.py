"""The sessions of one server: so many at a time, and those that wait for their client to come back."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.serving.house import House
from natural_video_llm.inference.serving.live_session import LiveSession
from natural_video_llm.inference.serving.rooms import Rooms


class ServerFullError(Exception):
    """There are as many sessions as the server takes."""


class Registry:
    """The event loop's thread alone touches it."""

    def __init__(self, house: House):
        self.house, self._limits = house, house.limits
        self._first_engine, self._engines = house.engine, list[Engine]()
        self.rooms = Rooms()
        self._live: dict[str, LiveSession] = {}
        self._parked: OrderedDict[str, tuple[LiveSession, float]] = OrderedDict()
        self._requests = 0
        self._count()

    @property
    def sessions(self) -> list[LiveSession]:
        """All of them, parked ones too."""
        return [*self._live.values(), *(session for session, _ in self._parked.values())]

    def open(self, room: str | None = None) -> LiveSession:
        """A new session, with the model or in a room.

        Raises:
            ServerFullError, RoomError.
        """
        found = None if room is None else self.rooms.find(room)
        self._need_room()
        session = LiveSession(self.house, room=found)
        if found is not None:
            found.seat(session)
        self._live[session.resume_token] = session
        self._count()
        return session

    def resume(self, token: str) -> LiveSession | None:
        """The session that a client left, also where its old connection has not been found dead yet; None where there
        is none any more.

        Raises:
            ServerFullError: it is there, but has no place now; it stays for later.
            RoomError: others have taken its place in its room.
        """
        if token in self._live:
            return self._live[token]
        if token not in self._parked:
            return None
        self._need_room()
        session, _ = self._parked[token]
        if session.room is not None:
            session.room.seat(session)
        self._live[token], _ = self._parked.pop(token)
        self._count()
        return self._live[token]

    async def park(self, session: LiveSession) -> None:
        """Its client has gone and may come back; the ones that wait longest make room."""
        if self._live.pop(session.resume_token, None) is None:
            return
        self._parked[session.resume_token] = (session, time.monotonic())
        self._count()
        await session.detach()
        await self.expire()

    async def end(self, session: LiveSession) -> None:
        """The session is over for good."""
        self._live.pop(session.resume_token, None)
        self._parked.pop(session.resume_token, None)
        self._count()
        await session.close()

    async def expire(self) -> None:
        """End parked sessions, and forget rooms, that nobody came back to."""
        now = time.monotonic()
        over = [
            session
            for place, (session, since) in enumerate(reversed(self._parked.values()))
            if place >= self._limits.parked or now - since > self._limits.parked_s
        ]
        for session in over:  # before anything is awaited: none of them can be resumed while it is being closed
            del self._parked[session.resume_token]
        self._count()
        self.rooms.forget_unused()
        await asyncio.gather(*(session.close() for session in over))
        if not self._requests:
            used = [self.house.engine, *(session.house.engine for session in self.sessions)]
            await self._close_engines([engine for engine in self._engines if engine not in used])

    async def move(self, house: House) -> None:
        """New sessions and requests live in `house`; those that are there stay in theirs. An engine that came so is
        closed when nobody uses it any more; the first one is the caller's to close."""
        if house.engine is not self._first_engine:
            self._engines.append(house.engine)
        self.house = house
        await self.expire()

    async def _close_engines(self, engines: list[Engine]) -> None:
        self._engines = [engine for engine in self._engines if engine not in engines]
        for engine in engines:
            await asyncio.to_thread(engine.close)

    @contextmanager
    def request(self) -> Iterator[None]:
        """A place for a request that needs the engine. Raises `ServerFullError`."""
        self._need_room()
        self._requests += 1
        self._count()
        try:
            yield
        finally:
            self._requests -= 1
            self._count()

    async def close(self) -> None:
        await asyncio.gather(*(self.end(session) for session in self.sessions))
        await self._close_engines(self._engines)

    def _need_room(self) -> None:
        if len(self._live) + self._requests >= self._limits.sessions:
            self.house.metrics.refused.inc()
            raise ServerFullError(f"this server takes {self._limits.sessions} conversations at a time; try again later")

    def _count(self) -> None:
        sessions = self.house.metrics.sessions
        sessions.labels("connected").set(len(self._live))
        sessions.labels("parked").set(len(self._parked))
        sessions.labels("request").set(self._requests)
