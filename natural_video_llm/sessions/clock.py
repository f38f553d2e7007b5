"""Seconds since session start, on the monotonic clock."""

import time
from datetime import UTC, datetime


class SessionClock:
    """Reads the session's time. Processes on one machine share it through `session_start.monotonic_s`."""

    def __init__(self, monotonic_s: float | None = None):
        self.monotonic_s = time.monotonic() if monotonic_s is None else monotonic_s

    def now_s(self) -> float:
        return time.monotonic() - self.monotonic_s


def utc_now() -> str:
    """Wall-clock UTC in ISO 8601, for the first line of a session."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
