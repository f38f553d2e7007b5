"""What one server takes on, and how often a client may do something."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; a client is told those that concern it.

    Args:
        sessions: conversations at a time, completions that are being answered among them.
        session_s: how long a conversation may last, in seconds.
        parked: conversations that wait for their client to come back.
        parked_s: for how long they do.
        message_bytes: the largest message on the WebSocket.
        text_chars: the longest text.
        picture_px: the largest picture of a live face.
        frames_hz: frames a second; those above it are dropped and counted.
        messages_hz: messages a second; above it for long, the connection is closed.
        outbox_events: events that may wait for a client which does not read.
        unread_s: how long they may do so.
        silent_s: a client that has answered no ping for so long has vanished.
        body_bytes: the largest HTTP body.
    """

    sessions: int = 8
    session_s: float = 4 * 3600.0
    parked: int = 8
    parked_s: float = 300.0
    message_bytes: int = 2_000_000
    text_chars: int = 20_000
    picture_px: int = 1920 * 1088
    frames_hz: float = 60.0
    messages_hz: float = 200.0
    outbox_events: int = 500
    unread_s: float = 20.0
    silent_s: float = 30.0
    body_bytes: int = 24_000_000

    def told(self) -> dict[str, float]:
        """Those that a client should know."""
        names = ("session_s", "parked_s", "message_bytes", "text_chars", "picture_px", "frames_hz", "messages_hz")
        return {name: getattr(self, name) for name in names}


class Allowance:
    """So many a second, and at most two seconds' worth at once (a token bucket)."""

    def __init__(self, rate_hz: float):
        self._rate_hz, self._left, self._last_s = rate_hz, 2 * rate_hz, 0.0

    def take(self, now_s: float) -> bool:
        """Whether there is one more, at `now_s` of any steady clock."""
        self._left = min(2 * self._rate_hz, self._left + max(0.0, now_s - self._last_s) * self._rate_hz)
        self._last_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
