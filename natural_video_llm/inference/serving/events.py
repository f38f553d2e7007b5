"""What the server sends over the WebSocket."""

from typing import Any, Literal

from pydantic import BaseModel

from natural_video_llm.inference.status import State

ReplyStatus = Literal["in_progress", "completed", "cancelled", "incomplete", "failed"]


class ServerEvent(BaseModel):
    """Goes out as one JSON object."""

    type: str


class SessionInfo(BaseModel):
    """`resume` brings the conversation back after the connection was lost: connect with ?resume=…"""

    id: str
    model: str
    resume: str
    temperature: float
    seed: int | None
    max_output_tokens: int
    limits: dict[str, float]
    accepts: list[Literal["picture", "geometry"]]
    recording: Literal["video", "geometry"] | None
    can_record: bool
    room: str | None


class SessionCreated(ServerEvent):
    type: str = "session.created"
    session: SessionInfo


class SessionUpdated(ServerEvent):
    type: str = "session.updated"
    session: SessionInfo


class Turn(BaseModel):
    role: str
    text: str


class SessionResumed(ServerEvent):
    type: str = "session.resumed"
    session: SessionInfo
    turns: list[Turn]


class ClockPing(ServerEvent):
    type: str = "clock.ping"
    server_time_s: float


class ItemAdded(ServerEvent):
    type: str = "conversation.item.added"
    item: dict[str, Any]


class ResponseInfo(BaseModel):
    id: str
    status: ReplyStatus


class Usage(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0


class FinishedResponse(ResponseInfo):
    usage: Usage
    moved_bits: float
    stages_ms: dict[str, float]


class ResponseCreated(ServerEvent):
    type: str = "response.created"
    response: ResponseInfo


class TextDelta(ServerEvent):
    """`moved_bits`: how far the face moved this token; `time_s` on the server's clock."""

    type: str = "response.output_text.delta"
    response_id: str
    item_id: str
    delta: str
    moved_bits: float
    time_s: float


class TextDone(ServerEvent):
    type: str = "response.output_text.done"
    response_id: str
    item_id: str
    text: str


class ResponseDone(ServerEvent):
    type: str = "response.done"
    response: FinishedResponse


class StateChanged(ServerEvent):
    type: str = "state.changed"
    state: State
    face_seen: bool
    alarm: str | None
    frames: int
    dropped: int
    stages_ms: dict[str, float]


class RoomChanged(ServerEvent):
    """Of a conversation of two: how many are here, and whether the other one records."""

    type: str = "room.changed"
    people: int
    other_recording: bool


class RoomMessage(ServerEvent):
    """What the other one has written."""

    type: str = "room.message"
    item_id: str
    text: str


class RecordingStarted(ServerEvent):
    type: str = "recording.started"
    session_id: str


class RecordingStopped(ServerEvent):
    type: str = "recording.stopped"
    session_id: str


class ErrorInfo(BaseModel):
    type: Literal["invalid_request_error", "server_error", "server_full"] = "invalid_request_error"
    code: str
    message: str
    event_id: str | None = None


class ErrorEvent(ServerEvent):
    type: str = "error"
    error: ErrorInfo
