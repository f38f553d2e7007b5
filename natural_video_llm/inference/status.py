"""What a conversation is doing, and whether it is blind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from natural_video_llm.inference.live_face import View

State = Literal["idle", "watching", "thinking", "writing", "away"]

VIDEO_GONE_S = 2.0
AWAY_S = 5.0
_UNMOVED_BITS = 1e-3
_UNMOVED_REPLIES = 3


@dataclass(frozen=True)
class Status:
    """What a person should know of a conversation.

    Args:
        state: idle (no video comes), watching, away (a face was seen, and none has been for a while), thinking (from
            the message to the first word), writing.
        face_seen: a face is in view now.
        alarm: in words, why the model is blind although there is video; None where it is not.
        frames, dropped: of the video, see `View`.
        stages_ms: medians of the last times, see `Stages`.
    """

    state: State
    face_seen: bool
    alarm: str | None
    frames: int
    dropped: dict[str, int]
    stages_ms: dict[str, float]


def watching_state(view: View) -> State:
    """What the video alone says."""
    if view.video_s > VIDEO_GONE_S:
        return "idle"
    return "away" if view.met and view.without_face_s > AWAY_S else "watching"


def blindness(view: View, moved_bits: Sequence[float]) -> str | None:
    """The alarm: video arrives but no face of it reaches the model, or the face moves nothing.

    Args:
        moved_bits: of the last replies that were written with a face in view, the mean a token.
    """
    if view.video_s <= VIDEO_GONE_S and view.without_face_s > AWAY_S:
        dropped = sum(view.dropped.values())
        if dropped > 10 * max(view.frames, 1):
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(view.dropped.items()))
            return f"video arrives, but hardly any of it reaches the model (dropped: {reasons})"
        return "video arrives, but no face is found in it: replies are written as if nobody were there"
    last = list(moved_bits)[-_UNMOVED_REPLIES:]
    if len(last) == _UNMOVED_REPLIES and max(last) < _UNMOVED_BITS:
        return f"the face has moved no token in the last {_UNMOVED_REPLIES} replies: the model does not use it"
    return None
