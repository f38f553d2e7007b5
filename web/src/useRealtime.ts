import { useCallback, useEffect, useMemo, useReducer, useRef, useState } from "react";
import { Connection, type Link } from "./connection";
import { type Conversation, empty, reduce, textOf, toRetell } from "./conversation";
import { newId } from "./ids";
import type { Keep, ServerEvent } from "./protocol";
import { Memory } from "./storage";

export interface Realtime {
  conversation: Conversation;
  memory: Memory;
  link: Link;
  /** Frames that this page had to drop, since the network was slower than the camera. */
  dropped: () => number;
  say: (text: string, charTimes: number[]) => boolean;
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

/** The conversation with the model, or in a room with another person, for as long as the page is open. */
export function useRealtime(room: string | null): Realtime {
  const memory = useMemo(() => new Memory(room), [room]);
  const [conversation, dispatch] = useReducer(reduce, null, () => empty(memory.turns));
  const [link, setLink] = useState<Link>("connecting");
  const connection = useRef<Connection | null>(null);
  const latest = useRef(conversation);
  /** One reply at a time: that to a message sent meanwhile is asked for once the one before has ended. */
  const reply = useRef<"asked for" | "next wanted" | null>(null);
  latest.current = conversation;

  useEffect(() => {
    let gone = false;
    void memory.claim().then(() => {
      if (gone) return;
      if (!memory.resume) dispatch({ type: "cleared" });
      connection.current = new Connection({ event: heard, link: changed }, memory.resume, room);
    });
    function heard(event: ServerEvent, forgotten: boolean): void {
      if ((event.type === "session.created" || event.type === "session.resumed") && event.session.resume) {
        memory.keep({ resume: event.session.resume });
        memory.hold(event.session.resume);
      }
      if (forgotten && !room) retell();
      dispatch({ type: "event", event, forgotten: forgotten && !room });
      if (event.type === "response.done" || (event.type === "error" && event.error.code === "nothing_to_answer")) {
        reply.current = reply.current === "next wanted" ? askForReply() : null;
      }
    }
    function retell(): void {
      for (const turn of toRetell(latest.current.turns)) {
        const role = turn.role === "assistant" ? "assistant" : "user";
        const type = role === "assistant" ? "output_text" : "input_text";
        const content: [{ type: typeof type; text: string }] = [{ type, text: textOf(turn) }];
        connection.current?.send({
          type: "conversation.item.create",
          item: { id: turn.id, type: "message", role, content },
        });
      }
    }
    function askForReply(): "asked for" {
      connection.current?.send({ type: "response.create" });
      return "asked for";
    }
    function changed(now: Link): void {
      setLink(now);
      reply.current = null;
      if (now !== "open" && now !== "connecting") dispatch({ type: "link lost" });
    }
    return () => {
      gone = true;
      connection.current?.close();
      connection.current = null;
    };
  }, [memory, room]);

  const { turns } = conversation;
  useEffect(() => {
    const timer = setTimeout(() => memory.keep({ turns }), KEEP_TURNS_MS);
    return () => clearTimeout(timer);
  }, [memory, turns]);
  useEffect(() => {
    const keepNow = () => memory.keep({ turns: latest.current.turns });
    addEventListener("pagehide", keepNow);
    return () => removeEventListener("pagehide", keepNow);
  }, [memory]);

  const drafted = useRef({ text: "", timer: 0 });
  const draft = useCallback((text: string) => {
    const waiting = drafted.current;
    waiting.text = text;
    waiting.timer ||= window.setTimeout(() => {
      waiting.timer = 0;
      connection.current?.send({ type: "input_text.draft", text: waiting.text });
    }, DRAFT_EVERY_MS);
  }, []);

  const interrupt = useCallback(() => {
    if (latest.current.responseId) connection.current?.send({ type: "response.cancel" });
  }, []);

  const say = useCallback(
    (text: string, charTimes: number[]) => {
      clearTimeout(drafted.current.timer);
      drafted.current.timer = 0;
      const id = newId();
      const item = {
        id,
        type: "message" as const,
        role: "user" as const,
        content: [{ type: "input_text" as const, text }] as [{ type: "input_text"; text: string }],
        char_times: charTimes,
      };
      const sent = connection.current?.send({ type: "conversation.item.create", event_id: id, item }) ?? false;
      if (sent) {
        dispatch({ type: "sent", id, text });
        if (room) return sent;
        if (reply.current) {
          reply.current = "next wanted";
          connection.current?.send({ type: "response.cancel" });
        } else {
          connection.current?.send({ type: "response.create" });
          reply.current = "asked for";
        }
      }
      return sent;
    },
    [room],
  );

  const sendFrame = useCallback((frame: ArrayBuffer) => connection.current?.sendFrame(frame), []);
  const record = useCallback((recording: { keep: Keep; consent: string } | null) => {
    connection.current?.send({ type: "session.update", session: { recording } });
  }, []);
  return {
    conversation,
    memory,
    link,
    dropped: useCallback(() => connection.current?.dropped ?? 0, []),
    say,
    draft,
    interrupt,
    sendFrame,
    record,
    beginAnew: useCallback(() => connection.current?.beginAnew(), []),
    recordingSettled: useCallback(() => dispatch({ type: "recording settled" }), []),
    dismissError: useCallback(() => dispatch({ type: "error", message: null }), []),
    retryNow: useCallback(() => connection.current?.retryNow(), []),
  };
}
