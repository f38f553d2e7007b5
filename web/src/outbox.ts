import type { ClientEvent, ServerEvent } from "./protocol";

export interface Message {
  id: string;
  text: string;
  /** On this page's clock; null where the text was not typed just now. */
  charTimes: number[] | null;
}

/**
 * Messages on their way: in order, none lost while there is no link, and one reply at a time. The reply to a message that
 * is sent while another one is being written is asked for once that has ended.
 */
export class Outbox {
  private reply: "asked for" | "next wanted" | null = null;
  private readonly send: (event: ClientEvent) => boolean;
  private readonly sent: (id: string) => void;
  private readonly modelAnswers: boolean;
  private waiting: Message[];

  /** `send` says whether the link has taken the event; `sent` hears of each message that it took. */
  constructor(
    send: (event: ClientEvent) => boolean,
    sent: (id: string) => void,
    modelAnswers: boolean,
    waiting: Message[],
  ) {
    this.send = send;
    this.sent = sent;
    this.modelAnswers = modelAnswers;
    this.waiting = waiting;
  }

  say(message: Message): void {
    this.waiting.push(message);
    this.deliver();
  }

  forget(): void {
    this.waiting = [];
  }

  heard(event: ServerEvent): void {
    const code = event.type === "error" ? event.error.code : null;
    if (event.type === "session.created" || event.type === "session.resumed") {
      this.reply = null;
      this.deliver();
    } else if (code === "conversation_already_has_active_response") {
      this.reply = "next wanted";
    } else if (event.type === "response.done" || code === "nothing_to_answer") {
      const next = this.reply === "next wanted";
      this.reply = null;
      if (next) this.wantReply();
    }
  }

  private deliver(): void {
    const left = this.waiting.findIndex((message) => !this.send(creationOf(message)));
    const sent = this.waiting.splice(0, left < 0 ? this.waiting.length : left);
    for (const { id } of sent) this.sent(id);
    if (sent.length > 0 && this.modelAnswers) this.wantReply();
  }

  private wantReply(): void {
    this.send({ type: this.reply ? "response.cancel" : "response.create" });
    this.reply = this.reply ? "next wanted" : "asked for";
  }
}

function creationOf({ id, text, charTimes }: Message): ClientEvent {
  const times = charTimes && { char_times: charTimes };
  return {
    type: "conversation.item.create",
    event_id: id,
    item: { id, type: "message", role: "user", content: [{ type: "input_text", text }], ...times },
  };
}
