import { authorised, withToken } from "./access";
import type { Keep } from "./protocol";

/** A recorded session at a glance; `faceShare` is null where nothing has been made of its pictures yet. */
export interface SessionSummary {
  id: string;
  started_utc: string;
  minutes: number;
  words: number;
  utterances: number;
  face_share: number | null;
  video: boolean;
  latents: boolean;
  consent: string;
}

export interface SessionDetails extends SessionSummary {
  filmed_speaker: string;
  segments: { name: string; t_start: number; t_end: number; frames: number; video: boolean }[];
  texts: { speaker: string; text: string; t_start: number; t_end: number; char_times: number[] | null }[];
}

export interface SessionList {
  recording: boolean;
  sessions: SessionSummary[];
}

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers = new Headers(authorised());
  if (body !== undefined) headers.set("Content-Type", "application/json");
  let response: Response;
  try {
    response = await fetch(path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  } catch {
    throw new Error("The server cannot be reached. Is it still running?");
  }
  if (!response.ok) {
    const said = (await response.json().catch(() => null)) as {
      detail?: unknown;
      error?: { message?: unknown };
    } | null;
    const why = said?.detail ?? said?.error?.message;
    throw new Error(typeof why === "string" ? why : `The server answered ${response.status}.`);
  }
  return (response.status === 204 ? undefined : await response.json()) as T;
}

const session = (id: string) => `/api/sessions/${encodeURIComponent(id)}`;

export const api = {
  sessions: () => call<SessionList>("GET", "/api/sessions"),
  session: (id: string) => call<SessionDetails>("GET", `${session(id)}/details`),
  keep: (id: string, keep: Keep) => call<SessionSummary>("POST", `${session(id)}/keep`, { keep }),
  remove: (id: string) => call<void>("DELETE", session(id)),
  videoAddress: (id: string, name: string) => withToken(`${session(id)}/video/${encodeURIComponent(name)}`),
  exportAddress: (id: string) => withToken(`${session(id)}/export`),
};
