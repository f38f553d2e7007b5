import type { Turn } from "./conversation";

const SEEING = "nvllm.seeing";

export type Seeing = "geometry" | "video" | "text";

/** What was agreed to before a reload; null asks anew. */
export function agreedSeeing(): Seeing | null {
  const found = sessionStorage.getItem(SEEING);
  return found === "geometry" || found === "video" || found === "text" ? found : null;
}

export function agreeToSeeing(seeing: Seeing | null): void {
  if (seeing === null) sessionStorage.removeItem(SEEING);
  else put(SEEING, seeing);
}

function put(key: string, value: string): void {
  try {
    sessionStorage.setItem(key, value);
  } catch {
    // The browser's room for this tab is full: a reload then begins with what fitted last.
  }
}

/** What a reload must not lose of a conversation, kept for this tab alone and gone when it is closed. */
export class Memory {
  /** `room` is that of two people; null with the model. */
  constructor(private readonly room: string | null) {}

  get resume(): string | null {
    return sessionStorage.getItem(this.key("resume"));
  }

  get turns(): Turn[] {
    try {
      return JSON.parse(sessionStorage.getItem(this.key("turns")) ?? "[]") as Turn[];
    } catch {
      return [];
    }
  }

  get draft(): string {
    return sessionStorage.getItem(this.key("draft")) ?? "";
  }

  keep(what: { resume?: string; turns?: Turn[]; draft?: string }): void {
    if (what.resume !== undefined) put(this.key("resume"), what.resume);
    if (what.turns !== undefined) put(this.key("turns"), JSON.stringify(what.turns));
    if (what.draft !== undefined) put(this.key("draft"), what.draft);
  }

  /**
   * Whether this tab alone goes on with the remembered conversation. A duplicated tab carries a copy of the memory: it
   * begins a conversation of its own.
   */
  async claim(): Promise<void> {
    const token = this.resume;
    if (token && !(await holdLock(token)))
      for (const name of ["resume", "turns", "draft"]) sessionStorage.removeItem(this.key(name));
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
