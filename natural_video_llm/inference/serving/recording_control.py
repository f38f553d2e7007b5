"""Begins and ends the recordings of one session, at most one at a time, and tells the client."""

import asyncio
from collections.abc import Callable

from natural_video_llm.errors import UserError
from natural_video_llm.inference.serving import events, messages
from natural_video_llm.inference.serving.house import House
from natural_video_llm.inference.serving.messages import BadMessageError
from natural_video_llm.inference.serving.recording import EncoderPool, LiveRecording
from natural_video_llm.sessions.clock import SessionClock


class RecordingControl:
    """The event loop's thread alone calls its methods.

    Args:
        clock: the conversation's.
        put: sends an event to the client.
        failed: called with a line for the person where a recording cannot go on.
        changed: called when one has begun or ended.
    """

    def __init__(
        self,
        house: House,
        clock: SessionClock,
        put: Callable[[events.ServerEvent], None],
        failed: Callable[[str], None],
        changed: Callable[[], None],
    ):
        self.now: LiveRecording | None = None
        self._house, self._clock, self._put = house, clock, put
        self._failed, self._changed = failed, changed
        self._loop = asyncio.get_running_loop()
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, wanted: messages.Recording, event_id: str | None) -> None:
        """Begin one.

        Raises:
            BadMessageError: this server records nothing.
        """
        house = self._house
        folder = house.record_folder
        if folder is None:
            raise BadMessageError("recording_off", "this server records nothing (nvllm serve --record)", event_id)
        encoders = EncoderPool(house.engine.take_encoder, house.engine.give_back)

        def trouble(line: str) -> None:
            self._loop.call_soon_threadsafe(self._give_up, line)

        def begin() -> LiveRecording:
            return LiveRecording(folder, wanted.keep, wanted.consent, self._clock, encoders, trouble)

        begun = asyncio.create_task(asyncio.to_thread(begin))
        try:
            self.now = await asyncio.shield(begun)
        except asyncio.CancelledError:  # the client has gone meanwhile
            begun.add_done_callback(self._end_unwanted)
            raise
        except UserError as error:
            self._failed(str(error))
            return
        self._put(events.RecordingStarted(session_id=self.now.id))
        self._changed()

    async def stop(self) -> None:
        """End the one that runs, if one does; what it was given is on the disk then."""
        recording, self.now = self.now, None
        if recording is not None:
            await asyncio.to_thread(recording.stop)
            self._put(events.RecordingStopped(session_id=recording.id))
            self._changed()

    def _end_unwanted(self, begun: asyncio.Task[LiveRecording]) -> None:
        if not begun.cancelled() and begun.exception() is None:
            self._loop.run_in_executor(None, begun.result().stop)

    def _give_up(self, line: str) -> None:
        self._failed(line)
        self._stopping = self._loop.create_task(self.stop())
