"""Pictures of one session that wait to be decoded, in order, in threads that all sessions share."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress


class PictureQueue:
    """One picture of a session is decoded at a time; any thread may call.

    Args:
        threads: in which `decode` is called with (time in seconds, the picture's bytes); it must not raise.
    """

    def __init__(self, threads: ThreadPoolExecutor, decode: Callable[[float, bytes], None]):
        self._threads, self._decode = threads, decode
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._lock, self._decoding = threading.Lock(), False

    def put(self, time_s: float, content: bytes, most: int) -> int:
        """Add a picture; how many of those that waited longest had to go, so that no more than `most` wait."""
        gone = 0
        with self._lock:
            self._waiting.append((time_s, content))
            while len(self._waiting) > most:
                self._waiting.popleft()
                gone += 1
            if not self._decoding:
                self._decoding = True
                self._threads.submit(self._decode_next)
        return gone

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def _decode_next(self) -> None:
        """One picture; the next one waits its turn behind those of other sessions."""
        with self._lock:
            if not self._waiting:
                self._decoding = False
                return
            picture = self._waiting.popleft()
        self._decode(*picture)
        with suppress(RuntimeError):  # the server has ended
            self._threads.submit(self._decode_next)
