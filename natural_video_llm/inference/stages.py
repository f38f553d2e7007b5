"""How long each stage takes: the last times of each, by name."""

import threading
from collections import defaultdict, deque
from statistics import median

_KEPT = 128


class Stages:
    """Medians over the last times of each stage; any thread may add.

    frame_to_latent: from a frame's arrival to its latent.
    face_age: how old the newest frame was when a token was begun.
    face_to_token: from that frame's capture to the token.
    token: computing one token; wait: waiting for one's turn before that.
    first_token: from the message to the first token.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_s: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._last_s[stage].append(seconds)

    def last_s(self, stage: str) -> list[float]:
        """Its last times in seconds, the newest one last."""
        with self._lock:
            return list(self._last_s[stage])

    def medians_ms(self) -> dict[str, float]:
        with self._lock:
            return {stage: round(1000 * median(times), 2) for stage, times in self._last_s.items() if times}
