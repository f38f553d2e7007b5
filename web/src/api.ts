import { authorised, withToken } from "./access";
import type { Keep } from "./protocol";

/**
 * A recorded session at a glance; `replies` can be learned from, `face_share` is null where nothing has been made of its
 * pictures yet.
 */
export interface SessionSummary {
  id: string;
  started_utc: string;
  minutes: number;
  words: number;
  utterances: number;
  replies: number;
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

/** Training, as the server's `Job` has it. */
export interface Job {
  run: string;
  standing: "running" | "stopping" | "done" | "stopped" | "failed";
  stage: "extract" | "align" | "train" | "eval";
  done: number;
  total: number;
  left_s: number | null;
  error: string | null;
}

export interface TrainingState {
  possible: boolean;
  job: Job | null;
}

/** A trained model; `face` and `words` are the verdict of its evaluation, null where there is none. */
export interface Run {
  id: string;
  made_s: number;
  sessions: number;
  held_out: number;
  trained: boolean;
  report: boolean;
  can_go_on: boolean;
  face: string | null;
  words: string | null;
}

/** What new conversations get; `run` null is what the server was started with. */
export interface ModelState {
  model: string;
  run: string | null;
  first_model: string;
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
  training: () => call<TrainingState>("GET", "/api/training"),
  train: (sessions: string[], hold_out: boolean) =>
    call<TrainingState>("POST", "/api/training", { sessions, hold_out }),
  goOn: (run: string) => call<TrainingState>("POST", "/api/training", { go_on: run }),
  stopTraining: () => call<TrainingState>("DELETE", "/api/training"),
  runs: () => call<{ runs: Run[] }>("GET", "/api/runs").then(({ runs }) => runs),
  removeRun: (id: string) => call<void>("DELETE", `/api/runs/${encodeURIComponent(id)}`),
  reportAddress: (id: string) => withToken(`/api/runs/${encodeURIComponent(id)}/report`),
  model: () => call<ModelState>("GET", "/api/model"),
  switchModel: (run: string | null) => call<ModelState>("PUT", "/api/model", { run }),
  openRoom: () => call<{ room: string }>("POST", "/api/rooms").then(({ room }) => room),
  videoAddress: (id: string, name: string) => withToken(`${session(id)}/video/${encodeURIComponent(name)}`),
  exportAddress: (id: string) => withToken(`${session(id)}/export`),
};
