import { begunAnew, resumed } from "./history.ts";
import type { ServerEvent, ServerStateName, SessionInfo, Stages } from "./protocol";
import { stopped, type Turn, textOf } from "./turns.ts";

export interface Conversation {
  session: SessionInfo | null;
  turns: Turn[];
  /** The reply that is being written, by its response's id. */
  responseId: string | null;
  server: { state: ServerStateName; faceSeen: boolean; alarm: string | null; frames: number; dropped: number };
  stagesMs: Stages;
  /** Of a conversation of two; null while nothing is known. */
  room: { people: number; otherRecording: boolean } | null;
  recordingId: string | null;
  /** Of a recording that has just ended and waits for a word on what to keep. */
  endedRecordingId: string | null;
  error: string | null;
  /** Read out by screen readers: whole replies, not their pieces. */
  spoken: string;
}

export type Action =
  | { type: "said"; id: string; text: string }
  | { type: "sent"; id: string }
  | { type: "taken back"; id: string }
  | { type: "cleared" }
  | { type: "error"; message: string | null }
  | { type: "recording settled" }
  | { type: "link lost" }
  | { type: "event"; event: ServerEvent; forgotten?: boolean };

export function empty(turns: Turn[], endedRecordingId: string | null = null): Conversation {
  return {
    session: null,
    turns,
    responseId: null,
    server: { state: "idle", faceSeen: false, alarm: null, frames: 0, dropped: 0 },
    stagesMs: {},
    room: null,
    recordingId: null,
    endedRecordingId,
    error: null,
    spoken: "",
  };
}

export function reduce(now: Conversation, action: Action): Conversation {
  switch (action.type) {
    case "said": {
      const pieces = [{ text: action.text, movedBits: null }];
      return { ...now, error: null, turns: [...now.turns, { id: action.id, role: "user", status: "queued", pieces }] };
    }
    case "sent":
      return withTurn(now, action.id, (turn) => ({ ...turn, status: "sending" }));
    case "taken back":
      return { ...now, turns: now.turns.filter((turn) => turn.id !== action.id) };
    case "cleared":
      return empty([]);
    case "error":
      return { ...now, error: action.message };
    case "recording settled":
      return { ...now, endedRecordingId: null };
    case "link lost":
      return {
        ...recordingEnded(replyEnded(now)),
        room: null,
        server: { ...now.server, state: "idle", faceSeen: false, alarm: null },
      };
    case "event":
      return onEvent(now, action.event, action.forgotten ?? false);
  }
}

function onEvent(now: Conversation, event: ServerEvent, forgotten: boolean): Conversation {
  switch (event.type) {
    case "session.created": {
      const before = greeted(now, event.session);
      return { ...before, turns: begunAnew(before.turns, forgotten, event.session.room !== null) };
    }
    case "session.resumed": {
      const before = greeted(now, event.session);
      return { ...before, turns: resumed(before.turns, event.turns, event.session.room !== null) };
    }
    case "session.updated":
      return { ...now, session: event.session };
    case "conversation.item.added":
      return withTurn(now, event.item.id, (turn) => ({
        ...turn,
        status: turn.status === "sending" ? "done" : turn.status,
      }));
    case "response.created":
      return { ...now, responseId: event.response.id };
    case "response.output_text.delta":
      return withDelta(now, event.response_id, event.delta, movedBy(now, event.moved_bits));
    case "response.done":
      return withEnd(now, event.response.id, event.response.status, event.response.stages_ms);
    case "state.changed":
      return {
        ...now,
        server: {
          state: event.state,
          faceSeen: event.face_seen,
          alarm: event.alarm,
          frames: event.frames,
          dropped: event.dropped,
        },
        stagesMs: { ...now.stagesMs, ...event.stages_ms },
      };
    case "room.changed":
      return { ...now, room: { people: event.people, otherRecording: event.other_recording } };
    case "room.message": {
      const pieces = [{ text: event.text, movedBits: null }];
      const turn: Turn = { id: event.item_id, role: "other", status: "done", pieces };
      return { ...now, turns: [...now.turns, turn], spoken: event.text };
    }
    case "recording.started":
      return { ...now, recordingId: event.session_id };
    case "recording.stopped":
      return { ...now, recordingId: null, endedRecordingId: event.session_id };
    case "error":
      if (HARMLESS.has(event.error.code)) return now;
      return {
        ...withTurn(now, event.error.event_id ?? "", (turn) => ({ ...turn, status: "failed" })),
        error: event.error.message,
        spoken: event.error.message,
      };
    default:
      return now;
  }
}

/** A reply that ended while the word to stop it was on its way; one that is asked for again when the one before ends. */
const HARMLESS = new Set(["response_cancel_not_active", "conversation_already_has_active_response"]);

function greeted(now: Conversation, session: SessionInfo): Conversation {
  return { ...replyEnded(session.recording ? now : recordingEnded(now)), session, error: null };
}

function recordingEnded(now: Conversation): Conversation {
  return { ...now, recordingId: null, endedRecordingId: now.recordingId ?? now.endedRecordingId };
}

/** Nothing more comes of a reply whose connection or conversation has ended. */
function replyEnded(now: Conversation): Conversation {
  return { ...now, responseId: null, turns: now.turns.map(stopped) };
}

/** A word that was chosen without any face has no figure. */
function movedBy({ server }: Conversation, bits: number): number | null {
  return bits === 0 && !server.faceSeen ? null : bits;
}

function withDelta(now: Conversation, id: string, text: string, movedBits: number | null): Conversation {
  const piece = { text, movedBits };
  if (now.turns.some((turn) => turn.id === id))
    return withTurn(now, id, (turn) => ({ ...turn, pieces: [...turn.pieces, piece] }));
  return {
    ...now,
    responseId: id,
    turns: [...now.turns, { id, role: "assistant", status: "writing", pieces: [piece] }],
  };
}

const ENDS: Record<string, Turn["status"]> = { completed: "done", incomplete: "cut", failed: "failed" };

/** A reply that ended before its first word is shown only where something went wrong. */
function withEnd(now: Conversation, id: string, how: string, stagesMs: Stages): Conversation {
  const status = ENDS[how] ?? "stopped";
  const reply: Turn = now.turns.find((turn) => turn.id === id) ?? { id, role: "assistant", status, pieces: [] };
  const nothing = reply.pieces.length === 0 && (status === "done" || status === "stopped");
  const others = nothing || now.turns.some((turn) => turn.id === id) ? now.turns : [...now.turns, reply];
  return {
    ...withTurn({ ...now, turns: others }, id, (turn) => ({ ...turn, status })),
    responseId: now.responseId === id ? null : now.responseId,
    stagesMs: { ...now.stagesMs, ...stagesMs },
    spoken: textOf(reply) || now.spoken,
  };
}

function withTurn(now: Conversation, id: string, change: (turn: Turn) => Turn): Conversation {
  return { ...now, turns: now.turns.map((turn) => (turn.id === id ? change(turn) : turn)) };
}
