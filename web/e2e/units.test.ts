/** Parts of the page that need no browser: node --test units.test.ts */
import assert from "node:assert/strict";
import test from "node:test";
import { Stillness } from "../src/face/stillness.ts";
import { Pace } from "../src/pace.ts";
import { packGeometry, packPicture } from "../src/protocol.ts";
import { meanBits, wordsOf } from "../src/turns.ts";
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

test("pieces are put together to words, each with the bits of all its pieces", () => {
  const pieces = [
    { text: "Good", movedBits: 0.5 },
    { text: " mor", movedBits: 0.2 },
    { text: "ning", movedBits: 0.3 },
  ];
  assert.deepEqual(wordsOf(pieces), [
    { text: "Good", movedBits: 0.5 },
    { text: " morning", movedBits: 0.5 },
  ]);
  assert.equal(meanBits(pieces), 0.5);
  assert.equal(meanBits([{ text: "Good", movedBits: null }]), null);
});
