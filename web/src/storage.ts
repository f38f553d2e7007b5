import { stopped, type Turn } from "./turns.ts";

const SEEING = "nvllm.seeing";
const ROOM = "nvllm.room";
const RECORDING = "nvllm.recording";

export type Seeing = "geometry" | "video" | "text";

/** What was agreed to before a reload; null asks anew. */
export function agreedSeeing(): Seeing | null {
  const found = sessionStorage.getItem(SEEING);
  return found === "geometry" || found === "video" || found === "text" ? found : null;
}

export function agreeToSeeing(seeing: Seeing | null): void {
  put(SEEING, seeing);
}

/** The room of two that this tab is in, also while another place of the page is shown. */
export function enteredRoom(): string | null {
  return sessionStorage.getItem(ROOM);
}

export function enterRoom(room: string | null): void {
  put(ROOM, room);
}

function put(key: string, value: string | null): void {
  try {
    if (value === null) sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, value);
  } catch {
    // The browser's room for this tab is full: a reload then begins with what fitted last.
  }
}

/** What a reload must not lose of a conversation, kept for this tab alone and gone when it is closed. */
export class Memory {
  private readonly room: string | null;

  /** `room` is that of two people; null with the model. */
  constructor(room: string | null) {
    this.room = room;
  }

  get resume(): string | null {
    return sessionStorage.getItem(this.key("resume"));
  }

  get turns(): Turn[] {
    try {
      const turns = JSON.parse(sessionStorage.getItem(this.key("turns")) ?? "[]") as Turn[];
      return turns.map(stopped);
    } catch {
      return [];
    }
  }

  get draft(): string {
    return sessionStorage.getItem(this.key("draft")) ?? "";
  }

  /** The recording that ran, or had ended and waited for a word on it; of whichever conversation, for it ends with that. */
  get recording(): string | null {
    return sessionStorage.getItem(RECORDING);
  }

  keep(what: { resume?: string; turns?: Turn[]; draft?: string; recording?: string | null }): void {
    if (what.resume !== undefined) put(this.key("resume"), what.resume);
    if (what.turns !== undefined) put(this.key("turns"), JSON.stringify(what.turns));
    if (what.draft !== undefined) put(this.key("draft"), what.draft);
    if (what.recording !== undefined) put(RECORDING, what.recording);
  }

  /**
   * Whether this tab alone goes on with the remembered conversation. A duplicated tab carries a copy of the memory: it
   * begins a conversation of its own.
   */
  async claim(): Promise<boolean> {
    const token = this.resume;
    if (!token || (await holdLock(token))) return true;
    for (const name of ["resume", "turns", "draft"]) put(this.key(name), null);
    put(RECORDING, null);
    return false;
  }

  hold(token: string): void {
    void holdLock(token);
  }

  private key(name: string): string {
    return `nvllm.${name}${this.room ? `.${this.room}` : ""}`;
  }
}

const held = new Set<string>();

function holdLock(token: string): Promise<boolean> {
  if (held.has(token) || !navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    void navigator.locks.request(`nvllm.${token}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      if (lock === null) return undefined;
      held.add(token);
      return new Promise(() => {}); // held until the tab goes
    });
  });
}
