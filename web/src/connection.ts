import { authorised, withToken } from "./access.ts";
import { nowS } from "./clock.ts";
import type { ClientEvent, ServerEvent } from "./protocol";

export type Link = "connecting" | "open" | "lost" | "full" | "refused" | "room full" | "room over";

/** More than this waiting in the socket means that the network is slower than the camera. */
const BACKLOG_BYTES = 32_000;
const FLUSH_MS = 15;
const SILENCE_S = 25;
const LONGEST_WAIT_MS = 8_000;
const FULL_WAIT_MS = 10_000;
const NO_ACCESS = [401, 403];
/** Refusals that another try would meet again. */
const FINAL: Record<string, Link> = { room_full: "room full", room_unknown: "room over" };

interface Listener {
  /** `forgotten`: the server does not know the conversation any more that was to be resumed. */
  event(event: ServerEvent, forgotten: boolean): void;
  link(link: Link): void;
}

/**
 * A WebSocket that comes back: grows its waits, resumes the conversation, answers pings. Frames wait in a place for
 * one; a newer frame takes the place of the one that waits, which counts as dropped.
 */
export class Connection {
  dropped = 0;
  private socket: WebSocket | null = null;
  private waiting: ArrayBuffer | null = null;
  private failures = 0;
  private retryTimer = 0;
  private flushTimer = 0;
  private silenceTimer = 0;
  private heardS = 0;
  private greeted = false;
  private closed = false;
  private refusal: Link | null = null;
  private readonly listener: Listener;
  private resume: string | null;
  private readonly room: string | null;

  constructor(listener: Listener, resume: string | null, room: string | null) {
    this.listener = listener;
    this.resume = resume;
    this.room = room;
    addEventListener("online", this.retryNow);
    this.silenceTimer = window.setInterval(this.checkSilence, 5_000);
    this.open();
  }

  readonly retryNow = (): void => {
    if (this.socket || this.closed) return;
    clearTimeout(this.retryTimer);
    this.open();
  };

  /** Another conversation; the server forgets the one before after a while. */
  beginAnew(): void {
    const old = this.socket;
    this.resume = null;
    this.socket = null;
    clearTimeout(this.retryTimer);
    if (old) old.onclose = null;
    old?.close(1000);
    this.open();
  }

  close(): void {
    this.closed = true;
    removeEventListener("online", this.retryNow);
    for (const timer of [this.retryTimer, this.flushTimer, this.silenceTimer]) clearTimeout(timer);
    this.socket?.close(1000);
  }

  send(message: ClientEvent): boolean {
    if (!this.greeted || this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  sendFrame(frame: ArrayBuffer): void {
    if (!this.greeted || this.socket?.readyState !== WebSocket.OPEN) return;
    if (this.waiting) this.dropped++;
    this.waiting = frame;
    this.flush();
  }

  private readonly flush = (): void => {
    clearTimeout(this.flushTimer);
    const socket = this.socket;
    if (!this.waiting || socket?.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount > BACKLOG_BYTES) {
      this.flushTimer = window.setTimeout(this.flush, FLUSH_MS);
      return;
    }
    socket.send(this.waiting);
    this.waiting = null;
  };

  private open(): void {
    this.greeted = false;
    this.refusal = null;
    this.listener.link("connecting");
    const address = new URL(withToken("/v1/realtime"), location.href);
    address.protocol = address.protocol.replace("http", "ws");
    if (this.resume) address.searchParams.set("resume", this.resume);
    if (this.room) address.searchParams.set("room", this.room);
    const socket = new WebSocket(address);
    this.socket = socket;
    this.heardS = nowS();
    socket.onmessage = (message) => {
      if (socket === this.socket) this.receive(message.data);
    };
    socket.onclose = (event) => this.lost(socket, event.code);
  }

  private receive(data: unknown): void {
    this.heardS = nowS();
    if (typeof data !== "string") return;
    const event = JSON.parse(data) as ServerEvent;
    if (event.type === "clock.ping") {
      this.socket?.send(
        JSON.stringify({ type: "clock.pong", server_time_s: event.server_time_s, client_time_s: nowS() }),
      );
      return;
    }
    const forgotten = event.type === "session.created" && this.resume !== null;
    if (event.type === "session.created" || event.type === "session.resumed") {
      this.failures = 0;
      this.greeted = true;
      this.resume = event.session.resume;
      this.listener.link("open");
    }
    if (event.type === "error") this.refusal = FINAL[event.error.code] ?? this.refusal;
    this.listener.event(event, forgotten);
  }

  private lost(socket: WebSocket, code: number): void {
    if (socket !== this.socket || this.closed) return;
    this.socket = null;
    this.waiting = null;
    this.greeted = false;
    this.failures++;
    if (this.refusal) {
      this.listener.link(this.refusal);
      return;
    }
    const link: Link = code === 1013 ? "full" : "lost";
    this.listener.link(link);
    if (code === 1006) void this.checkAccess();
    const growing = Math.min(LONGEST_WAIT_MS, 400 * 2 ** Math.min(this.failures, 6)) * (0.75 + Math.random() / 2);
    this.retryTimer = window.setTimeout(this.retryNow, link === "lost" ? growing : FULL_WAIT_MS);
  }

  /** Browsers do not say why a WebSocket was not opened. */
  private async checkAccess(): Promise<void> {
    const answer = await fetch("/v1/models", { headers: authorised() }).catch(() => null);
    if (answer && NO_ACCESS.includes(answer.status) && !this.socket) this.listener.link("refused");
  }

  private readonly checkSilence = (): void => {
    const socket = this.socket;
    if (!socket || nowS() - this.heardS < SILENCE_S) return;
    // A close of a dead network takes minutes to be noticed.
    socket.onclose = null;
    socket.close();
    this.lost(socket, 1006);
  };
}
