"""Events on their way to one client, in order; the event loop's thread alone touches it."""

import asyncio

from natural_video_llm.inference.serving.events import ServerEvent


class Outbox:
    """What is said once stays until it is sent; of what has a key the newest one alone waits.

    Args:
        most: events that may wait.
    """

    def __init__(self, most: int):
        self._most, self._count = most, 0
        self._waiting: dict[str | int, ServerEvent] = {}
        self._filled = asyncio.Event()
        self.overflowed = False

    def put(self, event: ServerEvent, key: str | None = None) -> None:
        """Add an event; with a `key`, in place of the one that waits under it."""
        if len(self._waiting) >= self._most:
            self.overflowed = True
            return
        self._count += 1
        if key is not None:
            self._waiting.pop(key, None)
        self._waiting[self._count if key is None else key] = event
        self._filled.set()

    async def get(self) -> ServerEvent:
        """The next one, when there is one."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        return self._waiting.pop(next(iter(self._waiting)))

    def __len__(self) -> int:
        return len(self._waiting)
