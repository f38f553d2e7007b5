"""What clients send over the WebSocket, checked: JSON events by name, and frames as binary messages.

The names are those of OpenAI's Realtime API where it has them.
"""

import struct
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter, ValidationError, model_validator
from pydantic_core import from_json

POINTS = 478
MOST_OUTPUT_TOKENS = 512
_MOST_SIDE_PX = 16_384
_HEADER = struct.Struct("<B7sd")
_GEOMETRY = struct.Struct("<III")
_SCORE = struct.Struct("<f")
_POINTS_BYTES = POINTS * 3 * 4
_FACE_SCORE = 0.5  # nobody is in view below

EventId = Annotated[str, Field(max_length=200)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
OutputTokens = Annotated[int, Field(ge=1, le=MOST_OUTPUT_TOKENS)]


class BadMessageError(Exception):
    """A client's mistake: `code` for programs, a sentence for people, and the event that it is about."""

    def __init__(self, code: str, message: str, event_id: str | None = None):
        super().__init__(message)
        self.code, self.message, self.event_id = code, message, event_id


class _Message(BaseModel):
    event_id: EventId | None = None


class Recording(BaseModel):
    """What may be kept of a live session, and the words that were agreed to."""

    keep: Literal["video", "geometry"]
    consent: Annotated[str, Field(min_length=1, max_length=20_000)]

    @model_validator(mode="after")
    def _says_something(self) -> "Recording":
        if not self.consent.strip():
            raise ValueError("consent must be the text of what was agreed to")
        return self


class SessionSettings(BaseModel):
    """Only what is given changes; `recording` null stops it."""

    temperature: Temperature | None = None
    seed: Seed | None = None
    max_output_tokens: OutputTokens | None = None
    recording: Recording | None = None


class SessionUpdate(_Message):
    type: Literal["session.update"]
    session: SessionSettings


class Draft(_Message):
    """What stands in the input field now."""

    type: Literal["input_text.draft"]
    text: str


class ItemText(BaseModel):
    type: Literal["input_text", "output_text"]
    text: str


class Item(BaseModel):
    """A message of the person's; char_times in seconds of the client's clock, one for each character. With the role
    assistant, what was answered in an earlier conversation to the messages before it."""

    id: EventId | None = None
    type: Literal["message"]
    role: Literal["user", "assistant"]
    content: Annotated[list[ItemText], Field(min_length=1, max_length=50)]
    char_times: list[FiniteFloat] | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content)


class ItemCreate(_Message):
    type: Literal["conversation.item.create"]
    item: Item


class ResponseSettings(BaseModel):
    temperature: Temperature | None = None
    seed: Seed | None = None
    max_output_tokens: OutputTokens | None = None


class ResponseCreate(_Message):
    type: Literal["response.create"]
    response: ResponseSettings | None = None


class ResponseCancel(_Message):
    type: Literal["response.cancel"]


class ClockPong(_Message):
    type: Literal["clock.pong"]
    server_time_s: FiniteFloat
    client_time_s: FiniteFloat


ClientMessage = Annotated[
    SessionUpdate | Draft | ItemCreate | ResponseCreate | ResponseCancel | ClockPong, Field(discriminator="type")
]
_ADAPTER: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)


def parse_message(text: str) -> ClientMessage:
    """Raises `BadMessageError`, which repeats nothing of what a person wrote."""
    try:
        found = from_json(text)
    except ValueError:
        raise BadMessageError("invalid_json", "this is not JSON") from None
    if not isinstance(found, dict):
        raise BadMessageError("invalid_json", "an event must be a JSON object")
    event_id = _event_id(found)
    try:
        return _ADAPTER.validate_python(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
            raise BadMessageError("unknown_event", "unknown event type", event_id) from None
        where = ".".join(map(str, first["loc"][1:]))
        raise BadMessageError("invalid_value", f"{where}: {first['msg']}"[:300], event_id) from None


def _event_id(found: dict[str, Any]) -> str | None:
    event_id = found.get("event_id")
    return event_id if isinstance(event_id, str) and len(event_id) <= 200 else None


def without_controls(text: str, char_times: list[float] | None) -> tuple[str, list[float] | None]:
    """The text without control characters other than line ends and tabs, and the times of what is left."""
    kept = [i for i, char in enumerate(text) if char in "\n\t" or unicodedata.category(char) != "Cc"]
    if len(kept) == len(text):
        return text, char_times
    return "".join(text[i] for i in kept), None if char_times is None else [char_times[i] for i in kept]


def joined_texts(pending: list[tuple[str, list[float] | None]]) -> tuple[str, list[float] | None]:
    """Several messages as one, a line each."""
    text = "\n".join(part for part, _ in pending)
    times: list[float] = []
    for _, part_times in pending:
        if part_times is None:
            return text, None
        times += [times[-1], *part_times] if times else part_times
    return text, times


@dataclass(frozen=True)
class PictureFrame:
    """JPEG or WebP bytes, with the time of capture on the client's clock."""

    client_time_s: float
    content: bytes


@dataclass(frozen=True)
class GeometryFrame:
    """points [478, 3] float32 in pixels of the picture, of the largest of `faces`; None where nobody is in view."""

    client_time_s: float
    width_px: int
    height_px: int
    faces: int
    points: np.ndarray | None


def parse_frame(content: bytes) -> PictureFrame | GeometryFrame:
    """Raises `BadMessageError`."""
    if len(content) <= _HEADER.size:
        raise BadMessageError("invalid_frame", "a binary message needs 16 bytes of header and something behind them")
    kind, zeros, time_s = _HEADER.unpack_from(content)
    body = content[_HEADER.size :]
    if kind not in (1, 2) or any(zeros):
        raise BadMessageError("invalid_frame", "a binary message begins with 1 (picture) or 2 (geometry), 7 zero bytes")
    if not np.isfinite(time_s):
        raise BadMessageError("invalid_frame", "a frame needs a time of capture in seconds")
    return PictureFrame(time_s, body) if kind == 1 else _geometry(time_s, body)


def _geometry(time_s: float, body: bytes) -> GeometryFrame:
    if len(body) < _GEOMETRY.size:
        raise BadMessageError("invalid_frame", "geometry needs width, height and the number of faces")
    width_px, height_px, faces = _GEOMETRY.unpack_from(body)
    if not (0 < width_px <= _MOST_SIDE_PX and 0 < height_px <= _MOST_SIDE_PX):
        raise BadMessageError("invalid_frame", f"a picture's sides are 1 to {_MOST_SIDE_PX} pixels")
    nobody = GeometryFrame(time_s, width_px, height_px, 0, None)
    if not faces:
        return nobody
    rest = body[_GEOMETRY.size :]
    if len(rest) != _SCORE.size + _POINTS_BYTES:
        raise BadMessageError("invalid_frame", f"a face is a score and {POINTS} points of three float32")
    (score,) = _SCORE.unpack_from(rest)
    points = np.frombuffer(rest, "<f4", offset=_SCORE.size).reshape(POINTS, 3)
    if not (np.isfinite(score) and np.isfinite(points).all()):
        raise BadMessageError("invalid_frame", "score and points must be finite numbers")
    return GeometryFrame(time_s, width_px, height_px, faces, points) if score >= _FACE_SCORE else nobody
