/** The link to the server, and what a tab remembers, with a browser's parts in small: node --test */
import assert from "node:assert/strict";
import test from "node:test";
import type { ServerEvent } from "../src/protocol.ts";
import type { Turn } from "../src/turns.ts";

class Socket {
  static readonly OPEN = 1;
  static all: Socket[] = [];
  readyState = Socket.OPEN;
  onmessage: ((message: { data: string }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  readonly url: URL;
  constructor(url: URL) {
    this.url = url;
    Socket.all.push(this);
  }
  send(): void {}
  close(): void {}
  /** As the server does it. */
  says(event: object): void {
    this.onmessage?.({ data: JSON.stringify(event) });
  }
}

const stored = new Map<string, string>();
Object.assign(globalThis, {
  window: globalThis,
  WebSocket: Socket,
  location: new URL("http://here/"),
  addEventListener: () => {},
  removeEventListener: () => {},
  sessionStorage: {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => stored.set(key, value),
    removeItem: (key: string) => stored.delete(key),
  },
});
const { Connection } = await import("../src/connection.ts");
const { Memory } = await import("../src/storage.ts");

function connected(resume: string | null) {
  Socket.all = [];
  const heard: [type: ServerEvent["type"], forgotten: boolean][] = [];
  const connection = new Connection(
    { event: ({ type }, forgotten) => heard.push([type, forgotten]), link: () => {} },
    resume,
    null,
  );
  const last = () => Socket.all.at(-1) as Socket;
  return { connection, heard, last };
}
const created = { type: "session.created", session: { resume: "new" } };

test("however often the server is not reached, the conversation is asked for", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const { connection, heard, last } = connected("old");
  for (let tries = 0; tries < 6; tries++) {
    assert.equal(last().url.searchParams.get("resume"), "old");
    last().onclose?.({ code: 1001 });
    t.mock.timers.tick(12_000);
    assert.equal(Socket.all.length, tries + 2);
  }
  last().says(created);
  last().onclose?.({ code: 1001 });
  connection.retryNow();
  assert.equal(last().url.searchParams.get("resume"), "new");
  assert.deepEqual(heard, [["session.created", true]]);
  connection.close();
});

test("a conversation that was left says nothing any more", () => {
  const { connection, heard, last } = connected(null);
  last().says(created);
  const old = last();
  connection.beginAnew();
  old.says({ type: "response.output_text.delta" });
  last().says(created);
  assert.equal(last().url.searchParams.get("resume"), null);
  assert.deepEqual(heard, Array(2).fill(["session.created", false]));
  connection.close();
});

test("nothing is taken before the server has greeted", () => {
  const { connection, last } = connected(null);
  assert.equal(connection.send({ type: "response.create" }), false);
  last().says(created);
  assert.equal(connection.send({ type: "response.create" }), true);
  connection.close();
});

test("a reply that was being written is remembered as broken off", () => {
  const turn = (status: Turn["status"]): Turn => ({ id: status, role: "assistant", status, pieces: [] });
  new Memory(null).keep({ turns: [turn("done"), turn("writing"), turn("queued")] });
  assert.deepEqual(
    new Memory(null).turns.map(({ status }) => status),
    ["done", "stopped", "queued"],
  );
});

test("a recording is remembered over a reload and in whichever conversation comes next, until it is settled", () => {
  new Memory("room").keep({ recording: "rec" });
  assert.equal(new Memory(null).recording, "rec");
  new Memory(null).keep({ recording: null });
  assert.equal(new Memory("room").recording, null);
});
