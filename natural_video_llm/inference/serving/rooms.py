"""Two people who write to each other with cameras on, and no model between them: each one's words are the other's
replies, to learn from."""

import secrets
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from natural_video_llm.inference.serving import events
from natural_video_llm.sessions.events import DEFAULT_SPEAKER

if TYPE_CHECKING:
    from natural_video_llm.inference.serving.live_session import LiveSession

PARTNER_SPEAKER = "partner"
_SEATS = 2
_REMEMBERED_TURNS = 200
_UNUSED_S = 12 * 3600.0
_MOST_ROOMS = 100


class RoomError(Exception):
    """Nobody is let in: `code` for programs, a sentence for people."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


class Room:
    """The event loop's thread alone touches it. `token` is all that one needs to come in."""

    def __init__(self) -> None:
        self.token, self.used_s = secrets.token_urlsafe(16), time.monotonic()
        # With each guest, how much had been said when they took their seat: nobody reads what was said before.
        self._seats: dict[LiveSession, int] = {}
        self._here: list[LiveSession] = []
        self._said: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED_TURNS)
        self._said_count = 0

    @property
    def is_unused(self) -> bool:
        """Nobody has been here for so long that the room may go."""
        return not self._here and time.monotonic() - self.used_s > _UNUSED_S

    def seat(self, guest: "LiveSession") -> None:
        """Give a newcomer, or one who comes back, a place; that of one who has gone is free where there is no other.

        Raises:
            RoomError: two others are here.
        """
        if guest in self._seats:
            return
        if len(self._seats) >= _SEATS:
            gone = next((seated for seated in self._seats if seated not in self._here), None)
            if gone is None:
                raise RoomError("room_full", "two people are in this conversation already")
            del self._seats[gone]
        self._seats[guest] = self._said_count

    def arrived(self, guest: "LiveSession") -> None:
        if guest not in self._here:
            self._here.append(guest)
        self.tell()

    def left(self, guest: "LiveSession") -> None:
        """The guest's connection has ended; the place is kept."""
        if guest in self._here:
            self._here.remove(guest)
        self.used_s = time.monotonic()
        self.tell()

    def forget(self, guest: "LiveSession") -> None:
        """The guest will not come back."""
        self.left(guest)
        self._seats.pop(guest, None)

    def tell(self) -> None:
        """Everybody is told who is here and who records."""
        for guest in self._here:
            others = [other for other in self._here if other is not guest]
            recording = any(other.recording is not None for other in others)
            guest.outbox.put(events.RoomChanged(people=1 + len(others), other_recording=recording), key="room")

    def say(self, guest: "LiveSession", item_id: str, text: str, times: list[float] | None) -> None:
        """Pass on what a guest has written. It is kept in another's recording only while its writer records as well,
        and so has agreed that it is kept.

        Args:
            times: when each character was typed, on the guest's clock.
        """
        self._said.append((guest.id, text))
        self._said_count += 1
        for other in self._seats:
            if other is guest:
                continue
            if other in self._here:
                other.outbox.put(events.RoomMessage(item_id=item_id, text=text))
            if other.recording is not None and guest.recording is not None:
                shift_s = guest.conversation.clock.monotonic_s - other.conversation.clock.monotonic_s
                shifted = None if times is None else [time_s + shift_s for time_s in times]
                other.recording.text(PARTNER_SPEAKER, text, shifted, "typed")
        if guest.recording is not None:
            guest.recording.text(DEFAULT_SPEAKER, text, times, "typed")

    def turns(self, guest: "LiveSession") -> list[tuple[str, str]]:
        """(role, text) of what was said since `guest` took their seat, as they see it: user or other."""
        forgotten = self._said_count - len(self._said)
        before = max(0, self._seats.get(guest, self._said_count) - forgotten)
        return [
            ("user" if speaker == guest.id else "other", text) for speaker, text in islice(self._said, before, None)
        ]


class Rooms:
    """Those of one server."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}

    def open(self) -> Room:
        """Raises `RoomError` where there are too many."""
        self.forget_unused()
        if len(self._rooms) >= _MOST_ROOMS:
            raise RoomError("too_many_rooms", f"this server keeps {_MOST_ROOMS} conversations of two; try again later")
        room = Room()
        self._rooms[room.token] = room
        return room

    def find(self, token: str) -> Room:
        """Raises `RoomError`."""
        room = self._rooms.get(token)
        if room is None or room.is_unused:
            raise RoomError("room_unknown", "this conversation of two is over; ask for a new link")
        return room

    def forget_unused(self) -> None:
        """Let go of the rooms, and of all that was said in them, where nobody has been for long."""
        self._rooms = {token: room for token, room in self._rooms.items() if not room.is_unused}


class OpenedRoom(BaseModel):
    """Connect to /v1/realtime?room=…"""

    room: Annotated[str, Field(min_length=1)]


def rooms_router(rooms: Callable[[], Rooms]) -> APIRouter:
    """`rooms` gives those of the running server."""
    router = APIRouter(prefix="/api/rooms", tags=["rooms"])

    responses: dict[int | str, dict[str, Any]] = {
        401: {"description": "A token is needed"},
        503: {"description": "There are too many rooms"},
    }

    @router.post("", status_code=201, responses=responses)
    async def open_room() -> OpenedRoom:
        return OpenedRoom(room=rooms().open().token)

    return router
