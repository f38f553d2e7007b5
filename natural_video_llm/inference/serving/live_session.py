"""One person's live session: everything that the server remembers of them is in this object, the socket is not.

The event loop's thread alone calls its methods; what takes time is done in threads, which hand back to the loop.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from natural_video_llm.inference.conversation import Piece, Sampling
from natural_video_llm.inference.serving import events, messages
from natural_video_llm.inference.serving.clock_match import ClockMatch
from natural_video_llm.inference.serving.house import House
from natural_video_llm.inference.serving.limits import Allowance
from natural_video_llm.inference.serving.messages import BadMessageError, joined_texts, without_controls
from natural_video_llm.inference.serving.outbox import Outbox
from natural_video_llm.inference.serving.picture_queue import PictureQueue
from natural_video_llm.inference.serving.pictures import BadPictureError, decode_picture
from natural_video_llm.inference.serving.recording import LiveRecording
from natural_video_llm.inference.serving.recording_control import RecordingControl
from natural_video_llm.inference.serving.reply_in_hand import ReplyInHand
from natural_video_llm.inference.serving.rooms import Room
from natural_video_llm.sessions.events import DEFAULT_SPEAKER

# While a picture is decoded one more may wait; where pictures are kept, more, so that none is lost to a slow moment.
_WAITING_PICTURES, _WAITING_KEPT_PICTURES = 1, 30
_TELL_EVERY_S = 2.0


class LiveSession:
    """A conversation, its clock, its settings, what it waits for, and its recording."""

    def __init__(self, house: House, room: Room | None = None):
        self.id, self.resume_token = f"sess_{secrets.token_hex(8)}", secrets.token_urlsafe(24)
        self.began = time.monotonic()
        self.house, self._loop = house, asyncio.get_running_loop()
        self.conversation = house.engine.open(sampling=Sampling(seed=None), on_change=self._changed)
        self.room = room
        self._pending: list[tuple[str, list[float] | None]] = []
        self._response: ReplyInHand | None = None
        self._seed_next: int | None = None
        self._recordings = RecordingControl(
            house,
            self.conversation.clock,
            put=lambda event: self.outbox.put(event),
            failed=partial(self._server_error, "recording_failed"),
            changed=self._tell_room,
        )
        self._pictures = PictureQueue(house.pictures, self._decode)
        self._dropped = 0
        self._told: tuple[Any, ...] = ()
        self._told_s = 0.0
        self.attach()

    def attach(self) -> Outbox:
        """A client is there, for the first time or again, with a clock that may be another one."""
        limits = self.house.limits
        self.outbox, self.clock = Outbox(limits.outbox_events), ClockMatch()
        self._frame_allowance = Allowance(limits.frames_hz)
        self._told = ()
        return self.outbox

    async def detach(self) -> None:
        """The client has gone: nothing is computed for it, nothing of it is recorded any more."""
        self.cancel()
        self._pending.clear()
        self._pictures.clear()
        if self.room is not None:  # before anything is awaited: the client may be back by then
            self.room.left(self)
        await self.stop_recording()

    async def close(self) -> None:
        """The end; frees what it holds."""
        await self.detach()
        if self.room is not None:
            self.room.forget(self)
        await asyncio.to_thread(self.conversation.close)

    async def turns(self) -> list[tuple[str, str]]:
        """(role, text) of what was said."""
        return self.room.turns(self) if self.room else await asyncio.to_thread(self.conversation.turns)

    def now_s(self) -> float:
        return self.conversation.clock.now_s()

    def info(self) -> events.SessionInfo:
        sampling, house = self.conversation.sampling, self.house
        return events.SessionInfo(
            id=self.id,
            model=house.model,
            resume=self.resume_token,
            temperature=sampling.temperature,
            seed=sampling.seed,
            max_output_tokens=sampling.max_tokens,
            limits=house.limits.told(),
            accepts=["picture", "geometry"] if house.engine.takes_geometry else ["picture"],
            recording=self.recording.keep if self.recording else None,
            can_record=house.record_folder is not None,
            room=self.room.token if self.room else None,
        )

    def fail(self, error: BadMessageError, key: str | None = None) -> None:
        """Tell the client of its mistake."""
        self.house.metrics.errors.labels(error.code).inc()
        told = events.ErrorInfo(code=error.code, message=error.message, event_id=error.event_id)
        self.outbox.put(events.ErrorEvent(error=told), key)

    def ping(self) -> None:
        self.outbox.put(events.ClockPing(server_time_s=self.clock.ping(self.now_s())))

    async def take(self, message: messages.ClientMessage) -> None:
        """Do what a client asks.

        Raises:
            BadMessageError: it cannot be done.
        """
        match message:
            case messages.ClockPong():
                if not self.clock.pong(message.server_time_s, message.client_time_s, self.now_s()):
                    raise BadMessageError("unknown_ping", "no such ping is waiting for an answer", message.event_id)
            case messages.Draft():
                text, _ = self._checked(message.text, None, message.event_id)
                if self.room is None:
                    self.conversation.draft(text)
            case messages.ItemCreate():
                await self._add_item(message)
            case messages.ResponseCreate():
                self._respond(message)
            case messages.ResponseCancel():
                if not self.cancel():
                    raise BadMessageError("response_cancel_not_active", "no reply is being written", message.event_id)
            case messages.SessionUpdate():
                await self._update(message)

    def _checked(
        self, text: str, char_times: list[float] | None, event_id: str | None
    ) -> tuple[str, list[float] | None]:
        most = self.house.limits.text_chars
        if len(text) > most:
            raise BadMessageError("text_too_long", f"{len(text)} characters; at most {most} are taken", event_id)
        return without_controls(text, char_times)

    async def _add_item(self, message: messages.ItemCreate) -> None:
        item = message.item
        if item.char_times is not None and len(item.char_times) != len(item.text):
            count = f"{len(item.text)} characters need as many char_times, not {len(item.char_times)}"
            raise BadMessageError("invalid_value", count, message.event_id)
        text, client_times = self._checked(item.text, item.char_times, message.event_id)
        if not text.strip():
            raise BadMessageError("empty_text", "the message holds no text", message.event_id)
        if len(self._pending) >= 20:
            raise BadMessageError("too_many_items", "ask for a response first", message.event_id)
        times = self._server_times(client_times)
        item_id = item.id or f"item_{secrets.token_hex(8)}"
        if item.role == "assistant":
            await self._recall(text, message.event_id)
        elif self.room is not None:
            self.room.say(self, item_id, text, times)
        else:
            self._pending.append((text, times))
            if self.recording is not None:
                self.recording.text(DEFAULT_SPEAKER, text, times, "typed")
        content = [{"type": "input_text" if item.role == "user" else "output_text", "text": text}]
        added = {"id": item_id, "type": "message", "role": item.role, "content": content}
        self.outbox.put(events.ItemAdded(item=added))

    async def _recall(self, answer: str, event_id: str | None) -> None:
        """What waits for an answer was answered elsewhere, before this conversation."""
        self._need_idle_model(event_id)
        asked, self._pending = self._pending, []
        turns = [("user", text) for text, _ in asked] + [("assistant", answer)]
        await asyncio.to_thread(self.conversation.recall, turns)

    def _server_times(self, client_times: list[float] | None) -> list[float] | None:
        offset_s = self.clock.offset_s
        if client_times is None or offset_s is None:
            return None
        now_s = self.now_s()
        return [min(now_s, max(0.0, time_s + offset_s)) for time_s in client_times]

    async def _update(self, message: messages.SessionUpdate) -> None:
        wanted, sampling = message.session, self.conversation.sampling
        given = wanted.model_fields_set
        if "temperature" in given and wanted.temperature is not None:
            sampling = replace(sampling, temperature=wanted.temperature)
        if "max_output_tokens" in given and wanted.max_output_tokens is not None:
            sampling = replace(sampling, max_tokens=wanted.max_output_tokens)
        if "seed" in given:
            self._seed_next = wanted.seed
            sampling = replace(sampling, seed=wanted.seed)
        self.conversation.sampling = sampling
        if "recording" in given:
            await self.stop_recording()
            if wanted.recording is not None:
                await self._recordings.start(wanted.recording, message.event_id)
        self.outbox.put(events.SessionUpdated(session=self.info()))

    @property
    def recording(self) -> LiveRecording | None:
        """The one that runs."""
        return self._recordings.now

    async def stop_recording(self) -> None:
        """What is shown by now of a reply in hand is kept."""
        if self._response is not None:
            self._response.record()
        await self._recordings.stop()

    def _tell_room(self) -> None:
        if self.room is not None:
            self.room.tell()

    def _respond(self, message: messages.ResponseCreate) -> None:
        self._need_idle_model(message.event_id)
        if not self._pending:
            raise BadMessageError("nothing_to_answer", "create a conversation item first", message.event_id)
        text, times = joined_texts(self._pending)
        self._pending = []
        self._response = response = ReplyInHand(self.recording)
        created = events.ResponseInfo(id=response.id, status="in_progress")
        self.outbox.put(events.ResponseCreated(response=created))
        sampling = self._sampling_of(message.response)
        self.house.replies.submit(self._write, response, text, times, sampling)

    def _need_idle_model(self, event_id: str | None) -> None:
        """Raises `BadMessageError` in a room, which has none, and while it writes."""
        if self.room is not None:
            raise BadMessageError("room_has_no_model", "people alone write in a room", event_id)
        if self._response is not None:
            code = "conversation_already_has_active_response"
            raise BadMessageError(code, "a reply is being written; cancel it or wait", event_id)

    def _sampling_of(self, wanted: messages.ResponseSettings | None) -> Sampling | None:
        """None leaves the draws where they are; a seed that was asked for begins them anew, once."""
        asked = {} if wanted is None else wanted.model_dump(exclude_none=True)
        sampling = replace(
            self.conversation.sampling,
            seed=asked.get("seed", self._seed_next),
            temperature=asked.get("temperature", self.conversation.sampling.temperature),
            max_tokens=asked.get("max_output_tokens", self.conversation.sampling.max_tokens),
        )
        seeded = "seed" in asked or self._seed_next is not None
        self._seed_next = None
        return sampling if asked or seeded else None

    def cancel(self) -> bool:
        """End the reply that is being written before its next token; whether there was one."""
        if self._response is None:
            return False
        self._response.cancelled = True
        self.conversation.interrupt()
        return True

    def _write(self, response: ReplyInHand, text: str, times: list[float] | None, sampling: Sampling | None) -> None:
        """In a thread of its own: the engine's reply, piece by piece to the event loop."""
        status: events.ReplyStatus = "failed"
        try:
            reply = self.conversation.reply(text, times, sampling)
            for piece in reply:
                self._soon(partial(self._show, response, piece))
                if response.cancelled:
                    reply.close()
                    break
            status = self._finish_of(response)
        except Exception as error:  # the connection and the other conversations go on
            name = type(error).__name__
            self._soon(lambda: self._server_error("reply_failed", f"the reply failed ({name})"))
        self._soon(lambda: self._done(response, status))

    def _finish_of(self, response: ReplyInHand) -> events.ReplyStatus:
        last = self.conversation.last_reply
        if response.cancelled or last is None or last.finish == "cancelled":
            return "cancelled"
        return "completed" if last.finish == "stop" else "incomplete"

    def _show(self, response: ReplyInHand, piece: Piece) -> None:
        if piece.text:
            self.outbox.put(response.take(piece))

    def _done(self, response: ReplyInHand, status: events.ReplyStatus) -> None:
        self._response = None
        metrics, reply = self.house.metrics, self.conversation.last_reply
        self.outbox.put(events.TextDone(text=response.text, response_id=response.id, item_id=response.item_id))
        response.record()
        usage, moved_bits, stages_ms = events.Usage(), 0.0, dict[str, float]()
        if reply is not None and status != "failed":
            usage = events.Usage(input_tokens=reply.input_tokens, output_tokens=len(reply.pieces))
            moved_bits, stages_ms = round(reply.moved_bits, 5), reply.stages_ms()
        metrics.replied(status, usage.output_tokens, stages_ms)
        finished = events.FinishedResponse(
            id=response.id, status=status, usage=usage, moved_bits=moved_bits, stages_ms=stages_ms
        )
        self.outbox.put(events.ResponseDone(response=finished))

    def take_frame(self, frame: messages.PictureFrame | messages.GeometryFrame) -> None:
        """Look at a frame; one too many is dropped and counted.

        Raises:
            BadMessageError: this run takes no such frame.
        """
        metrics, now_s = self.house.metrics, self.now_s()
        if not self._frame_allowance.take(now_s):
            self._dropped += 1
            metrics.frames.labels("dropped").inc()
            return
        # Before the first answer to a ping a frame counts as captured when it came.
        mapped_s = self.clock.to_server(frame.client_time_s)
        time_s = now_s if mapped_s is None else mapped_s
        if isinstance(frame, messages.PictureFrame):
            most = _WAITING_PICTURES if self.recording is None else _WAITING_KEPT_PICTURES
            gone = self._pictures.put(time_s, frame.content, most)
            self._dropped += gone
            metrics.frames.labels("dropped").inc(gone)
            return
        try:
            taken = self.conversation.see_points(time_s, frame.points, frame.width_px, frame.height_px)
        except ValueError as error:
            raise BadMessageError("invalid_frame", str(error)) from None
        metrics.frames.labels("taken" if taken else "dropped").inc()
        if taken and self.recording is not None:
            self.recording.points(time_s, frame.points, frame.width_px, frame.height_px, frame.faces)

    def _decode(self, time_s: float, content: bytes) -> None:
        frames, recording = self.house.metrics.frames, self.recording
        try:
            rgb = decode_picture(content, self.house.limits.picture_px)
            taken = self.conversation.see(time_s, rgb)
        except (BadPictureError, ValueError) as error:
            frames.labels("bad").inc()
            told = BadMessageError("invalid_image", str(error))
            self._soon(lambda: self.fail(told, key="invalid_image"))
            return
        except Exception as error:  # what ended the encoder; status() says it too
            name = type(error).__name__
            self._soon(lambda: self._server_error("encoder_failed", f"the face is not read any more ({name})"))
            return
        frames.labels("taken" if taken else "dropped").inc()
        if recording is not None:
            recording.picture(time_s, rgb)

    def tell_state(self) -> None:
        """Send the state where it has changed; the newest one alone waits for a slow client."""
        try:
            now = self.conversation.status()
        except Exception as error:
            self._server_error("encoder_failed", f"the face is not read any more ({type(error).__name__})")
            return
        dropped = sum(now.dropped.values()) + self._dropped
        what, counts = (now.state, now.face_seen, now.alarm), (now.frames, dropped)
        due = self._told[3:] != counts and self.now_s() - self._told_s > _TELL_EVERY_S
        if self._told[:3] == what and not due:
            return
        self._told, self._told_s = (*what, *counts), self.now_s()
        state = events.StateChanged(
            state=now.state,
            face_seen=now.face_seen,
            alarm=now.alarm,
            frames=now.frames,
            dropped=dropped,
            stages_ms=now.stages_ms,
        )
        self.outbox.put(state, key="state")

    def _server_error(self, code: str, message: str) -> None:
        self.house.metrics.errors.labels(code).inc()
        told = events.ErrorInfo(type="server_error", code=code, message=message)
        self.outbox.put(events.ErrorEvent(error=told), key=code)

    def _changed(self, _: object) -> None:
        self._soon(self.tell_state)

    def _soon(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(call)
