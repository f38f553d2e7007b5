/** Parts of the page that need no browser: node --test units.test.ts */
import assert from "node:assert/strict";
import test from "node:test";
import { type Action, empty, meanBits, reduce, textOf, toRetell, wordsOf } from "../src/conversation.ts";
import { Stillness } from "../src/face/stillness.ts";
import { Pace } from "../src/pace.ts";
import { packGeometry, packPicture } from "../src/protocol.ts";
import { TypedText } from "../src/typedText.ts";

test("each character keeps the time at which it was typed", () => {
  const typed = new TypedText();
  for (const [text, timeS] of [
    ["h", 1],
    ["hi", 2],
    ["hi!", 3],
    ["hoi!", 4],
    ["hoi! 👍", 5],
    ["oi! 👍", 6],
    ["oi! 👍 ", 7],
  ] as const)
    typed.change(text, timeS);
  assert.deepEqual(typed.take(), { text: "oi! 👍", charTimes: [4, 2, 3, 5, 5] });
  assert.deepEqual(typed.take(), { text: "", charTimes: [] });
});

test("a repeated character and a lone surrogate have one time each", () => {
  const typed = new TypedText();
  typed.change("aa", 1);
  typed.change("aaa\ud83d", 2);
  const { text, charTimes } = typed.take();
  assert.equal(text, "aaa\ufffd");
  assert.equal(charTimes.length, Array.from(text).length);
});

test("a slow machine gets fewer pictures at once, a quick one more only after a while", () => {
  const pace = new Pace();
  assert.equal(pace.rateHz, 15);
  for (let at = 0; at < 20; at++) pace.took(0.3, at / 10);
  assert.equal(pace.rateHz, 3);
  for (let at = 0; at < 40; at++) pace.took(0.01, 2 + at / 20);
  assert.equal(pace.rateHz, 3);
  for (let at = 0; at < 60; at++) pace.took(0.01, 6 + at / 10);
  assert.equal(pace.rateHz, 15);
});

test("one slow picture, the first one say, lowers nothing", () => {
  const pace = new Pace();
  for (const workS of [0.5, ...Array(40).fill(0.02), 0.3, ...Array(40).fill(0.02)]) {
    pace.took(workS, 0);
    assert.equal(pace.rateHz, 15);
  }
});

test("at most as many pictures are due as the rate says", () => {
  const pace = new Pace();
  const due = Array.from({ length: 300 }, (_, frame) => pace.due(frame / 30)).filter(Boolean).length;
  assert.ok(due >= 140 && due <= 151, String(due));
});

test("a camera stands still that gives no picture for three seconds while it is looked at, or says so", () => {
  const camera = new Stillness();
  const asked = (frames: number[], looked = true) => frames.map((count) => camera.ask(count, looked));
  assert.deepEqual(asked([30, 60, 60, 60, 60, 61]), [false, false, false, false, true, false]);
  assert.deepEqual(asked([61, 61, 61, 61], false), Array(4).fill(false));
  assert.deepEqual(asked([61, 61, 61]), [false, false, true]);
  assert.deepEqual(asked([62]), [false]);
  camera.muted(70);
  assert.deepEqual(asked([70, 71]), [true, false]);
});

test("geometry goes out as points, nobody in view as none", () => {
  const points = new Float32Array(478 * 3).map((_, at) => at);
  const face = new DataView(packGeometry(12.5, { widthPx: 640, heightPx: 480, faces: 2, points }));
  assert.deepEqual([face.getUint8(0), face.getFloat64(8, true)], [2, 12.5]);
  assert.deepEqual(
    [16, 20, 24].map((at) => face.getUint32(at, true)),
    [640, 480, 2],
  );
  assert.equal(face.getFloat32(32 + 4 * 1433, true), 1433);
  assert.equal(face.byteLength, 32 + 4 * 1434);
  const nobody = new DataView(packGeometry(1, { widthPx: 640, heightPx: 480, faces: 0, points: null }));
  assert.deepEqual([nobody.byteLength, nobody.getUint32(24, true)], [28, 0]);
  assert.deepEqual(new Uint8Array(packPicture(1, new Uint8Array([7, 8]).buffer)).slice(16), new Uint8Array([7, 8]));
});

function told(...events: object[]) {
  const actions = events.map((event) => ({ type: "event", event }) as Action);
  return actions.reduce(reduce, reduce(empty([]), { type: "sent", id: "m1", text: "Hello" }));
}

const delta = (text: string, bits: number) => ({
  type: "response.output_text.delta",
  response_id: "r1",
  delta: text,
  moved_bits: bits,
});
const done = (status: string) => ({ type: "response.done", response: { id: "r1", status } });

test("a reply is put together from its pieces, its words from theirs", () => {
  const now = told(delta("Good", 0.5), delta(" mor", 0.2), delta("ning", 0.3), done("completed"));
  const reply = now.turns[1];
  assert.ok(reply);
  assert.equal(textOf(reply), "Good morning");
  assert.equal(now.spoken, "Good morning");
  assert.deepEqual(wordsOf(reply.pieces), [
    { text: "Good", movedBits: 0.5 },
    { text: " morning", movedBits: 0.5 },
  ]);
  assert.equal(meanBits(reply.pieces), 0.5);
});

test("a reply that is broken off before its first word is shown as that", () => {
  assert.deepEqual(
    told(done("cancelled")).turns.map(({ status }) => status),
    ["sending", "stopped"],
  );
  assert.equal(told(done("completed")).turns.length, 1);
});

test("resuming shows what the server remembers, with this page's own figures", () => {
  const session = { id: "s", model: "m" };
  const turns = [
    { role: "user", text: "Hello" },
    { role: "assistant", text: "Good" },
  ];
  const now = told(delta("Good", 0.5), { type: "session.resumed", session, turns });
  assert.deepEqual(
    now.turns.map(({ role, pieces }) => [role, pieces[0]?.movedBits]),
    [
      ["user", null],
      ["assistant", 0.5],
    ],
  );
});

test("a message that did not arrive is shown as not sent", () => {
  const session = { id: "s", model: "m" };
  assert.equal(told({ type: "session.resumed", session, turns: [] }).turns[0]?.status, "failed");
  const refused = { type: "error", error: { type: "invalid_request_error", message: "no", event_id: "m1" } };
  assert.equal(told(refused).turns[0]?.status, "failed");
});

test("a server that has forgotten begins anew under the old words", () => {
  const now = told({ type: "session.created", session: { id: "s", model: "m" } });
  assert.deepEqual(
    now.turns.map(({ role }) => role),
    ["user", "note"],
  );
});

test("what the other person writes stands beside one's own words, and is found again after a reconnect", () => {
  const session = { id: "s", model: "m", room: "r" };
  let now = reduce(empty([]), { type: "event", event: { type: "session.created", session } });
  now = reduce(now, { type: "sent", id: "1", text: "Hello" });
  now = reduce(now, { type: "event", event: { type: "room.message", item_id: "2", text: "Hi" } });
  assert.deepEqual(
    now.turns.map(({ role }) => role),
    ["user", "other"],
  );
  assert.equal(now.spoken, "Hi");
  now = reduce(now, { type: "event", event: { type: "room.changed", people: 2, other_recording: true } });
  now = reduce(now, { type: "link lost" });
  assert.equal(now.room, null);
  const turns = [
    { role: "user" as const, text: "Hello" },
    { role: "other" as const, text: "Hi" },
  ];
  now = reduce(now, { type: "event", event: { type: "session.resumed", session, turns } });
  assert.deepEqual(
    now.turns.map(({ id }) => id),
    ["1", "2"],
  );
});

test("a server that has forgotten is told the exchanges that had an answer", () => {
  const turn = (role: "user" | "assistant" | "note", text: string, status: "done" | "failed" = "done") => ({
    id: text,
    role,
    status,
    pieces: [{ text, movedBits: null }],
  });
  const said = [turn("user", "Hello"), turn("assistant", "Hi!"), turn("user", "lost", "failed"), turn("user", "And?")];
  assert.deepEqual(
    toRetell(said).map((turn) => turn.id),
    ["Hello", "Hi!"],
  );
  const session = { id: "s", model: "m" };
  const event = { type: "session.created", session } as const;
  const retold = reduce(empty(said), { type: "event", event, forgotten: true });
  assert.match(textOf(retold.turns[4] as (typeof said)[0]), /told the words above again/);
  assert.equal(toRetell(retold.turns).length, 2);
  const anew = reduce(empty(said), { type: "event", event });
  assert.match(textOf(anew.turns[4] as (typeof said)[0]), /does not remember/);
  assert.deepEqual(toRetell(anew.turns), []);
});
