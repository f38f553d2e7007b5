import { useCallback, useEffect, useReducer, useRef, useState } from "react";
import { Connection, type Link } from "./connection";
import { type Conversation, empty, reduce } from "./conversation";
import { newId } from "./ids";
import type { Keep, ServerEvent } from "./protocol";
import { claimConversation, holdConversation, remember, remembered } from "./storage";

export interface Realtime {
  conversation: Conversation;
  link: Link;
  /** Frames that this page had to drop, since the network was slower than the camera. */
  dropped: () => number;
  say: (text: string, charTimes: number[]) => boolean;
  draft: (text: string) => void;
  interrupt: () => void;
  sendFrame: (frame: ArrayBuffer) => void;
  record: (recording: { keep: Keep; consent: string } | null) => void;
  recordingSettled: () => void;
  dismissError: () => void;
  retryNow: () => void;
}

const DRAFT_EVERY_MS = 150;
const KEEP_TURNS_MS = 500;

/** The conversation with the server, for as long as the page is open. */
export function useRealtime(): Realtime {
  const [conversation, dispatch] = useReducer(reduce, null, () => empty(remembered.turns));
  const [link, setLink] = useState<Link>("connecting");
  const connection = useRef<Connection | null>(null);
  const latest = useRef(conversation);
  /** One reply at a time: that to a message sent meanwhile is asked for once the one before has ended. */
  const reply = useRef<"asked for" | "next wanted" | null>(null);
  latest.current = conversation;

  useEffect(() => {
    let gone = false;
    void claimConversation().then(() => {
      if (gone) return;
      if (!remembered.resume) dispatch({ type: "cleared" });
      connection.current = new Connection({ event: heard, link: changed }, remembered.resume);
    });
    function heard(event: ServerEvent): void {
      if ((event.type === "session.created" || event.type === "session.resumed") && event.session.resume) {
        remember({ resume: event.session.resume });
        holdConversation(event.session.resume);
      }
      dispatch({ type: "event", event });
      if (event.type === "response.done" || (event.type === "error" && event.error.code === "nothing_to_answer")) {
        reply.current = reply.current === "next wanted" ? askForReply() : null;
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
  }, []);

  const { turns } = conversation;
  useEffect(() => {
    const timer = setTimeout(() => remember({ turns }), KEEP_TURNS_MS);
    return () => clearTimeout(timer);
  }, [turns]);
  useEffect(() => {
    const keepNow = () => remember({ turns: latest.current.turns });
    addEventListener("pagehide", keepNow);
    return () => removeEventListener("pagehide", keepNow);
  }, []);

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

  const say = useCallback((text: string, charTimes: number[]) => {
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
      if (reply.current) {
        reply.current = "next wanted";
        connection.current?.send({ type: "response.cancel" });
      } else {
        connection.current?.send({ type: "response.create" });
        reply.current = "asked for";
      }
    }
    return sent;
  }, []);

  const sendFrame = useCallback((frame: ArrayBuffer) => connection.current?.sendFrame(frame), []);
  const record = useCallback((recording: { keep: Keep; consent: string } | null) => {
    connection.current?.send({ type: "session.update", session: { recording } });
  }, []);
  return {
    conversation,
    link,
    dropped: useCallback(() => connection.current?.dropped ?? 0, []),
    say,
    draft,
    interrupt,
    sendFrame,
    record,
    recordingSettled: useCallback(() => dispatch({ type: "recording settled" }), []),
    dismissError: useCallback(() => dispatch({ type: "error", message: null }), []),
    retryNow: useCallback(() => connection.current?.retryNow(), []),
  };
}
