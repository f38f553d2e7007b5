import { useCallback, useEffect, useMemo, useReducer, useRef, useState } from "react";
import { Connection, type Link } from "./connection";
import { type Conversation, empty, reduce } from "./conversation";
import { toRetell } from "./history";
import { newId } from "./ids";
import { Outbox } from "./outbox";
import type { ClientEvent, Keep, ServerEvent } from "./protocol";
import { Memory } from "./storage";
import { type Turn, textOf } from "./turns";

export interface Realtime {
  conversation: Conversation;
  memory: Memory;
  link: Link;
  /** Frames that this page had to drop, since the network was slower than the camera. */
  dropped: () => number;
  say: (text: string, charTimes: number[] | null) => void;
  sayAgain: (turn: Turn) => void;
  draft: (text: string) => void;
  interrupt: () => void;
  sendFrame: (frame: ArrayBuffer) => void;
  record: (recording: { keep: Keep; consent: string } | null) => void;
  recordingSettled: () => void;
  beginAnew: () => void;
  dismissError: () => void;
  retryNow: () => void;
}

const DRAFT_EVERY_MS = 150;
const KEEP_TURNS_MS = 500;

/** The conversation with the model, or in a room with another person, for as long as it is on the page. */
export function useRealtime(room: string | null): Realtime {
  const memory = useMemo(() => new Memory(room), [room]);
  const [conversation, dispatch] = useReducer(reduce, null, () => empty(memory.turns, memory.recording));
  const [link, setLink] = useState<Link>("connecting");
  const connection = useRef<Connection | null>(null);
  const latest = useRef(conversation);
  latest.current = conversation;
  const send = useCallback((event: ClientEvent) => connection.current?.send(event) ?? false, []);
  const outbox = useMemo(() => {
    const waiting = memory.turns.filter(({ status }) => status === "queued");
    const messages = waiting.map((turn) => ({ id: turn.id, text: textOf(turn), charTimes: null }));
    return new Outbox(send, (id) => dispatch({ type: "sent", id }), room === null, messages);
  }, [memory, room, send]);

  useEffect(() => {
    let gone = false;
    void memory.claim().then((ours) => {
      if (gone) return;
      if (!ours) {
        outbox.forget();
        dispatch({ type: "cleared" });
      }
      connection.current = new Connection({ event: heard, link: changed }, memory.resume, room);
    });
    function heard(event: ServerEvent, forgotten: boolean): void {
      if (event.type === "session.created" || event.type === "session.resumed") {
        memory.keep({ resume: event.session.resume });
        memory.hold(event.session.resume);
      }
      if (forgotten && !room) toRetell(latest.current.turns).map(retelling).forEach(send);
      dispatch({ type: "event", event, forgotten });
      outbox.heard(event);
    }
    function changed(now: Link): void {
      setLink(now);
      if (now !== "open" && now !== "connecting") dispatch({ type: "link lost" });
    }
    return () => {
      gone = true;
      connection.current?.close();
      connection.current = null;
    };
  }, [memory, room, outbox, send]);
  useKeeping(memory, conversation);

  const { draft, drop } = useDraft(send);
  const interrupt = useCallback(() => {
    if (latest.current.responseId) send({ type: "response.cancel" });
  }, [send]);
  const say = useCallback(
    (text: string, charTimes: number[] | null) => {
      drop();
      const id = newId();
      dispatch({ type: "said", id, text });
      outbox.say({ id, text, charTimes });
    },
    [drop, outbox],
  );
  const sayAgain = useCallback(
    (turn: Turn) => {
      dispatch({ type: "taken back", id: turn.id });
      say(textOf(turn), null);
    },
    [say],
  );
  return {
    conversation,
    memory,
    link,
    dropped: useCallback(() => connection.current?.dropped ?? 0, []),
    say,
    sayAgain,
    draft,
    interrupt,
    sendFrame: useCallback((frame: ArrayBuffer) => connection.current?.sendFrame(frame), []),
    record: (recording) => send({ type: "session.update", session: { recording } }),
    beginAnew: () => connection.current?.beginAnew(),
    recordingSettled: () => dispatch({ type: "recording settled" }),
    dismissError: () => dispatch({ type: "error", message: null }),
    retryNow: () => connection.current?.retryNow(),
  };
}

function retelling(turn: Turn): ClientEvent {
  const role = turn.role === "assistant" ? "assistant" : "user";
  const type = role === "assistant" ? "output_text" : "input_text";
  return {
    type: "conversation.item.create",
    event_id: turn.id,
    item: { id: turn.id, type: "message", role, content: [{ type, text: textOf(turn) }] },
  };
}

/** Keeps what a reload must not lose: now and then, and at once where the page or the conversation goes. */
function useKeeping(memory: Memory, conversation: Conversation): void {
  const { turns, recordingId, endedRecordingId } = conversation;
  const recording = recordingId ?? endedRecordingId;
  const latest = useRef(turns);
  latest.current = turns;
  useEffect(() => memory.keep({ recording }), [memory, recording]);
  useEffect(() => {
    const timer = setTimeout(() => memory.keep({ turns }), KEEP_TURNS_MS);
    return () => clearTimeout(timer);
  }, [memory, turns]);
  useEffect(() => {
    const keepNow = () => memory.keep({ turns: latest.current });
    addEventListener("pagehide", keepNow);
    return () => {
      removeEventListener("pagehide", keepNow);
      keepNow();
    };
  }, [memory]);
}

/** Sends what stands in the input field, so many times a second; `drop` what was not sent yet. */
function useDraft(send: (event: ClientEvent) => boolean) {
  const drafted = useRef({ text: "", timer: 0 });
  const draft = useCallback(
    (text: string) => {
      const waiting = drafted.current;
      waiting.text = text;
      waiting.timer ||= window.setTimeout(() => {
        waiting.timer = 0;
        send({ type: "input_text.draft", text: waiting.text });
      }, DRAFT_EVERY_MS);
    },
    [send],
  );
  const drop = useCallback(() => {
    clearTimeout(drafted.current.timer);
    drafted.current.timer = 0;
  }, []);
  return { draft, drop };
}
