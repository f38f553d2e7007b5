import type { Turn } from "./conversation";

/** What a reload must not lose, kept for this tab alone and gone when it is closed. */
const RESUME = "nvllm.resume";
const TURNS = "nvllm.turns";
const DRAFT = "nvllm.draft";
const SEEING = "nvllm.seeing";

export type Seeing = "geometry" | "video" | "text";

export const remembered = {
  get resume(): string | null {
    return sessionStorage.getItem(RESUME);
  },
  get turns(): Turn[] {
    try {
      return JSON.parse(sessionStorage.getItem(TURNS) ?? "[]") as Turn[];
    } catch {
      return [];
    }
  },
  get draft(): string {
    return sessionStorage.getItem(DRAFT) ?? "";
  },
  /** What was agreed to before a reload; null asks anew. */
  get seeing(): Seeing | null {
    const found = sessionStorage.getItem(SEEING);
    return found === "geometry" || found === "video" || found === "text" ? found : null;
  },
};

export function remember(what: { resume?: string; turns?: Turn[]; draft?: string; seeing?: Seeing | null }): void {
  try {
    if (what.resume !== undefined) sessionStorage.setItem(RESUME, what.resume);
    if (what.turns !== undefined) sessionStorage.setItem(TURNS, JSON.stringify(what.turns));
    if (what.draft !== undefined) sessionStorage.setItem(DRAFT, what.draft);
    if (what.seeing === null) sessionStorage.removeItem(SEEING);
    else if (what.seeing !== undefined) sessionStorage.setItem(SEEING, what.seeing);
  } catch {
    // The browser's room for this tab is full: a reload then begins with what fitted last.
  }
}

export function forgetConversation(): void {
  for (const key of [RESUME, TURNS, DRAFT]) sessionStorage.removeItem(key);
}

/**
 * Whether this tab alone goes on with the remembered conversation. A duplicated tab carries a copy of the memory: it
 * begins a conversation of its own.
 */
export async function claimConversation(): Promise<void> {
  const token = remembered.resume;
  if (token && !(await holdLock(token))) forgetConversation();
}

export function holdConversation(token: string): void {
  void holdLock(token);
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
