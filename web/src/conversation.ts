import { newId } from "./ids.ts";
import type { ServerEvent, ServerStateName, SessionInfo, Stages } from "./protocol";

/** A piece of a reply as it came: its text, and how far the face moved it; null where nobody knows. */
export interface Piece {
  text: string;
  movedBits: number | null;
}

export interface Turn {
  id: string;
  role: "user" | "assistant" | "other" | "note";
  pieces: Piece[];
  status: "sending" | "writing" | "done" | "stopped" | "cut" | "failed";
}

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
  | { type: "sent"; id: string; text: string }
  | { type: "not sent"; id: string }
  | { type: "cleared" }
  | { type: "error"; message: string | null }
  | { type: "recording settled" }
  | { type: "link lost" }
  | { type: "event"; event: ServerEvent; forgotten?: boolean };

export function empty(turns: Turn[]): Conversation {
  return {
    session: null,
    turns,
    responseId: null,
    server: { state: "idle", faceSeen: false, alarm: null, frames: 0, dropped: 0 },
    stagesMs: {},
    room: null,
    recordingId: null,
    endedRecordingId: null,
    error: null,
    spoken: "",
  };
}

export function textOf(turn: Turn): string {
  return turn.pieces.map((piece) => piece.text).join("");
}

export function reduce(now: Conversation, action: Action): Conversation {
  switch (action.type) {
    case "sent":
      return {
        ...now,
        error: null,
        turns: [
          ...now.turns,
          { id: action.id, role: "user", status: "sending", pieces: [{ text: action.text, movedBits: null }] },
        ],
      };
    case "not sent":
      return withTurn(now, action.id, (turn) => ({ ...turn, status: "failed" }));
    case "cleared":
      return { ...now, turns: [], error: null };
    case "error":
      return { ...now, error: action.message };
    case "recording settled":
      return { ...now, endedRecordingId: null };
    case "link lost":
      return {
        ...now,
        responseId: null,
        room: null,
        server: { ...now.server, state: "idle", faceSeen: false, alarm: null },
        turns: now.turns.map((turn) => (turn.status === "writing" ? { ...turn, status: "stopped" } : turn)),
      };
    case "event":
      return onEvent(now, action.event, action.forgotten ?? false);
  }
}

function onEvent(now: Conversation, event: ServerEvent, forgotten: boolean): Conversation {
  switch (event.type) {
    case "session.created":
      return {
        ...recordingEnded(now),
        session: event.session,
        turns: afterForgetting(now.turns, forgotten && toRetell(now.turns).length > 0 ? RETOLD : FORGOTTEN),
        error: null,
      };
    case "session.resumed": {
      const before = event.session.recording ? now : recordingEnded(now);
      return { ...before, session: event.session, turns: resumed(now.turns, event.turns), error: null };
    }
    case "session.updated":
      return { ...now, session: { ...now.session, ...event.session } };
    case "conversation.item.added":
      return withTurn(now, event.item.id, (turn) => ({
        ...turn,
        status: turn.status === "sending" ? "done" : turn.status,
      }));
    case "response.created":
      return { ...now, responseId: event.response.id };
    case "response.output_text.delta":
      return withDelta(now, event.response_id, event.delta, event.moved_bits ?? null);
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
      if (HARMLESS.has(event.error.code ?? "")) return now;
      return {
        ...withTurn(now, event.error.event_id ?? "", (turn) => ({ ...turn, status: "failed" })),
        error: event.error.message,
        spoken: event.error.message,
      };
    default:
      return now;
  }
}

/** A reply that ended while the word to stop it was on its way. */
const HARMLESS = new Set(["response_cancel_not_active"]);

function recordingEnded(now: Conversation): Conversation {
  return { ...now, recordingId: null, endedRecordingId: now.recordingId ?? now.endedRecordingId };
}

function withDelta(now: Conversation, id: string, text: string, movedBits: number | null): Conversation {
  const last = now.turns.at(-1);
  if (last?.id === id) return withTurn(now, id, (turn) => ({ ...turn, pieces: [...turn.pieces, { text, movedBits }] }));
  const turn: Turn = { id, role: "assistant", status: "writing", pieces: [{ text, movedBits }] };
  return { ...now, responseId: id, turns: [...now.turns, turn] };
}

const ENDS: Record<string, Turn["status"]> = { completed: "done", incomplete: "cut", failed: "failed" };

/** A reply that ended before its first word is shown too, unless it was complete. */
function withEnd(now: Conversation, id: string, how: string, stagesMs: Stages | undefined): Conversation {
  const status = ENDS[how] ?? "stopped";
  const reply: Turn = now.turns.find((turn) => turn.id === id) ?? { id, role: "assistant", status, pieces: [] };
  const others = now.turns.some((turn) => turn.id === id) || status === "done" ? now.turns : [...now.turns, reply];
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

const FORGOTTEN = "A new conversation begins here: the model does not remember the words above.";

const RETOLD = "The server began anew here. It was told the words above again, not the face that went with them.";
const MOST_RETOLD = 20;

/** What a server that has forgotten this conversation is told: its newest exchanges, up to the last answer. */
export function toRetell(turns: Turn[]): Turn[] {
  const first = turns.findLastIndex((turn) => turn.role === "note" && textOf(turn) === FORGOTTEN) + 1;
  const last = turns.findLastIndex((turn) => turn.role === "assistant" && textOf(turn).trim() !== "");
  const said = turns.slice(first, last + 1).filter(({ role, status }) => role !== "note" && status !== "failed");
  return said.filter((turn) => textOf(turn).trim() !== "").slice(-MOST_RETOLD);
}

/** The server has begun anew: what stands there stays to be read, over a line that says so. */
function afterForgetting(turns: Turn[], line: string): Turn[] {
  if (turns.length === 0 || turns.at(-1)?.role === "note") return turns;
  const settled = turns.map((turn): Turn => (turn.status === "sending" ? { ...turn, status: "failed" } : turn));
  return [...settled, { id: newId(), role: "note", status: "done", pieces: [{ text: line, movedBits: null }] }];
}

/** What the server remembers, with this page's own figures for replies that it saw being written. */
function resumed(own: Turn[], remembered: { role: "user" | "assistant" | "other"; text: string }[]): Turn[] {
  const unused = [...own];
  const turns = remembered.map(({ role, text }): Turn => {
    const place = unused.findIndex((turn) => turn.role === role && textOf(turn).trim() === text.trim());
    const known = place < 0 ? undefined : unused.splice(0, place + 1).at(-1);
    if (known) return { ...known, status: known.status === "sending" ? "done" : known.status };
    return { id: newId(), role, status: "done", pieces: [{ text, movedBits: null }] };
  });
  const lastNote = own.findLastIndex((turn) => turn.role === "note");
  const unsent = unused
    .filter((turn) => turn.status === "sending")
    .map((turn): Turn => ({ ...turn, status: "failed" }));
  return [...own.slice(0, lastNote + 1), ...turns, ...unsent];
}

/** Pieces put together to words, each with the bits of all its pieces. */
export function wordsOf(pieces: Piece[]): Piece[] {
  const words: Piece[] = [];
  for (const piece of pieces) {
    const last = words.at(-1);
    if (last && !/^\s/u.test(piece.text) && !/\s$/u.test(last.text)) {
      last.text += piece.text;
      if (piece.movedBits !== null) last.movedBits = (last.movedBits ?? 0) + piece.movedBits;
    } else {
      words.push({ ...piece });
    }
  }
  return words;
}

/** Bits a word on average, or null where no word has any figure. */
export function meanBits(pieces: Piece[]): number | null {
  const bits = wordsOf(pieces).flatMap((word) => (word.movedBits === null ? [] : [word.movedBits]));
  return bits.length ? bits.reduce((sum, value) => sum + value, 0) / bits.length : null;
}
