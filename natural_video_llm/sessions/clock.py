"""Seconds since session start, on the monotonic clock."""

import time
from datetime import UTC, datetime
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SessionClock:
    """Reads the session's time. Processes on one machine share it through `session_start.monotonic_s`."""

    def __init__(self, monotonic_s: float | None = None):
        self.monotonic_s = time.monotonic() if monotonic_s is None else monotonic_s

    def now_s(self) -> float:
        return time.monotonic() - self.monotonic_s


def utc_now() -> str:
    """Wall-clock UTC in ISO 8601, for the first line of a session."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def boot_id() -> str | None:
    """What tells this run of the machine from others, on Linux; the monotonic clock starts anew with each."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except OSError:
        return None
