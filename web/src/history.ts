/** What becomes of a page's turns when its conversation is taken up again, or begins anew. */
import { newId } from "./ids.ts";
import type { RememberedTurn } from "./protocol";
import { type Turn, textOf } from "./turns.ts";

const FORGOTTEN = "A new conversation begins here: the model does not remember the words above.";

const RETOLD = "The server began anew here. It was told the words above again, not the face that went with them.";
const MOST_RETOLD = 20;

/** Where the words begin that the server may know. */
function sinceForgotten(turns: Turn[]): number {
  return turns.findLastIndex((turn) => turn.role === "note" && textOf(turn) === FORGOTTEN) + 1;
}

/** What a server that has forgotten this conversation is told: its newest exchanges, up to the last answer. */
export function toRetell(turns: Turn[]): Turn[] {
  const last = turns.findLastIndex((turn) => turn.role === "assistant" && textOf(turn).trim() !== "");
  const said = turns.slice(sinceForgotten(turns), last + 1);
  return said
    .filter((turn) => turn.role !== "note" && turn.status !== "failed" && textOf(turn).trim() !== "")
    .slice(-MOST_RETOLD);
}

/**
 * A conversation has begun in which the server knows nothing of these turns. They stay to be read, over a line that says
 * what the model was told; people need none.
 */
export function begunAnew(own: Turn[], forgotten: boolean, inRoom: boolean): Turn[] {
  const { said, queued } = apart(own);
  const ends = said.findLastIndex(({ role }) => role !== "user");
  const settled = said.map((turn, at) => (at > ends ? unknown(turn, forgotten && !inRoom) : turn));
  if (inRoom || said.length === 0) return [...settled, ...queued];
  if (settled.at(-1)?.role === "note") settled.pop();
  const text = forgotten && toRetell(said).length > 0 ? RETOLD : FORGOTTEN;
  return [...settled, { id: newId(), role: "note", status: "done", pieces: [{ text, movedBits: null }] }, ...queued];
}

/**
 * This page's own turns, and what the server has remembered beyond them. Messages at the end which the server does not
 * know were not sent; with a model, that clears what it had not answered when the link was lost, confirmed ones too.
 */
export function resumed(own: Turn[], remembered: RememberedTurn[], inRoom: boolean): Turn[] {
  const { said, queued } = apart(own);
  const theirs = remembered.flatMap(({ role, text }, turn) => split(turn, role, text, false));
  const [at, place] = lastInCommon(linesOf(said, sinceForgotten(said)), theirs);
  const known = said.map((turn, index) =>
    index > at || turn.status !== "sending" ? turn : { ...turn, status: "done" as const },
  );
  const met = known[at];
  const whole = remembered[place];
  if (met && whole) known[at] = completed(met, whole.text);
  const missed = remembered.slice(place + 1).map(({ role, text }): Turn => {
    return { id: newId(), role, status: "done", pieces: [{ text, movedBits: null }] };
  });
  const ends = Math.max(
    at,
    known.findLastIndex(({ role }) => role !== "user"),
  );
  const lost = known.slice(ends + 1).map((turn) => unknown(turn, !inRoom));
  return [...known.slice(0, ends + 1), ...missed, ...lost, ...queued];
}

function apart(turns: Turn[]): { said: Turn[]; queued: Turn[] } {
  const isQueued = (turn: Turn) => turn.status === "queued";
  return { said: turns.filter((turn) => !isQueued(turn)), queued: turns.filter(isQueued) };
}

/** A message that the server does not know; `cleared` where it may have known it before. */
function unknown(turn: Turn, cleared: boolean): Turn {
  return turn.status === "sending" || (cleared && turn.status === "done") ? { ...turn, status: "failed" } : turn;
}

/** A reply whose end this page has missed. */
function completed(turn: Turn, whole: string): Turn {
  const shown = textOf(turn);
  const goesOn = turn.status === "stopped" && whole.trim().startsWith(shown.trim());
  const missed = goesOn ? whole.trim().slice(shown.trim().length) : "";
  return missed ? { ...turn, pieces: [...turn.pieces, { text: missed, movedBits: null }] } : turn;
}

/** A line of a turn: messages that wait for one answer become one turn of the server's, a line or more each. */
interface Line {
  turn: number;
  role: Turn["role"];
  text: string;
  /** More may have followed. */
  cut: boolean;
}

function linesOf(turns: Turn[], from: number): Line[] {
  return turns.flatMap((turn, at) =>
    at < from || turn.role === "note" || (turn.role === "user" && turn.status === "failed")
      ? []
      : split(at, turn.role, textOf(turn), turn.status === "stopped"),
  );
}

function split(turn: number, role: Turn["role"], text: string, cut: boolean): Line[] {
  const texts = text.split("\n").map((line) => line.trim());
  const lines = texts.filter((line) => line !== "");
  return lines.map((line, at) => ({ turn, role, text: line, cut: cut && at === lines.length - 1 }));
}

/** The turns of both in which their longest common subsequence ends, as late as it can; -1 where there is none. */
function lastInCommon(own: Line[], theirs: Line[]): [number, number] {
  let most = 1;
  let last: [number, number] = [-1, -1];
  let before = new Array<number>(theirs.length + 1).fill(0);
  for (const line of own) {
    const lengths = [0];
    theirs.forEach((other, place) => {
      const agree =
        line.role === other.role && (line.text === other.text || (line.cut && other.text.startsWith(line.text)));
      const length = agree ? (before[place] ?? 0) + 1 : 0;
      if (length >= most) {
        most = length;
        last = [line.turn, other.turn];
      }
      lengths.push(Math.max(length, before[place + 1] ?? 0, lengths[place] ?? 0));
    });
    before = lengths;
  }
  return last;
}
