/** What the page makes of the server's events, and what becomes of its turns over a reconnect: node --test */
import assert from "node:assert/strict";
import test from "node:test";
import { type Action, type Conversation, empty, reduce } from "../src/conversation.ts";
import { toRetell } from "../src/history.ts";
import { Outbox } from "../src/outbox.ts";
import type { ClientEvent, ServerEvent, SessionInfo } from "../src/protocol.ts";
import { type Turn, textOf } from "../src/turns.ts";

const session: SessionInfo = {
  id: "s",
  model: "m",
  resume: "t",
  limits: { text_chars: 20_000 },
  accepts: ["picture"],
  recording: null,
  can_record: true,
  room: null,
};
const created = { type: "session.created", session } as const;
const resumed = (...turns: [role: "user" | "assistant" | "other", text: string][]) =>
  ({ type: "session.resumed", session, turns: turns.map(([role, text]) => ({ role, text })) }) as const;
const resumedInRoom = (...turns: Parameters<typeof resumed>) => ({
  ...resumed(...turns),
  session: { ...session, room: "r" },
});

const turn = (role: Turn["role"], text: string, status: Turn["status"] = "done"): Turn => ({
  id: `${role} ${text}`,
  role,
  status,
  pieces: [{ text, movedBits: role === "assistant" ? 0.5 : null }],
});
const [hello, hi] = [turn("user", "Hello"), turn("assistant", "Hi!")];

const after = (now: Conversation, ...events: ServerEvent[]) =>
  events.map((event) => ({ type: "event", event }) as Action).reduce(reduce, now);
const sent = reduce(reduce(empty([]), { type: "said", id: "m1", text: "Hello" }), { type: "sent", id: "m1" });
const told = (...events: ServerEvent[]) => after(sent, ...events);
const outline = ({ turns }: Conversation) => turns.map((turn) => `${turn.role} ${textOf(turn)} (${turn.status})`);

const delta = (text: string, bits: number) =>
  ({ type: "response.output_text.delta", response_id: "r1", delta: text, moved_bits: bits }) as const;
const done = (status: "completed" | "cancelled") =>
  ({ type: "response.done", response: { id: "r1", status, stages_ms: {} } }) as const;

test("a reply is put together from its pieces", () => {
  const now = told(delta("Good", 0.5), delta(" mor", 0.2), delta("ning", 0.3), done("completed"));
  assert.equal(textOf(now.turns[1] as Turn), "Good morning");
  assert.equal(now.spoken, "Good morning");
});

test("pieces that come after the next message stay in their own reply", () => {
  let now = told(delta("Good", 0.5));
  now = reduce(now, { type: "said", id: "m2", text: "Wait" });
  now = after(now, delta(" morning", 0.2));
  assert.deepEqual(outline(now), ["user Hello (sending)", "assistant Good morning (writing)", "user Wait (queued)"]);
});

test("a word has no figure where no face was seen", () => {
  assert.equal(told(delta("Good", 0)).turns[1]?.pieces[0]?.movedBits, null);
  const seen = { state: "watching", face_seen: true, alarm: null, frames: 1, dropped: 0, stages_ms: {} } as const;
  assert.equal(told({ type: "state.changed", ...seen }, delta("Good", 0)).turns[1]?.pieces[0]?.movedBits, 0);
});

test("a reply that ended before its first word is not shown", () => {
  for (const status of ["cancelled", "completed"] as const)
    assert.deepEqual(outline(told(done(status))), ["user Hello (sending)"]);
  assert.deepEqual(outline(told(delta("Good", 0.5), done("cancelled")))[1], "assistant Good (stopped)");
});

test("a message counts as sent when the server says that it is there", () => {
  assert.deepEqual(outline(sent), ["user Hello (sending)"]);
  assert.deepEqual(outline(told({ type: "conversation.item.added", item: { id: "m1" } })), ["user Hello (done)"]);
});

test("a reply that was being written has ended when a conversation begins or goes on", () => {
  for (const event of [created, resumed(["user", "Hello"], ["assistant", "Good"])]) {
    const now = told({ type: "response.created", response: { id: "r1" } }, delta("Good", 0.5), event);
    assert.equal(now.responseId, null);
    assert.equal(now.turns[1]?.status, "stopped");
  }
});

test("resuming keeps all turns, with their figures, however few the server remembers", () => {
  const own = [hello, hi, turn("user", "And?"), turn("assistant", "Well.")];
  const now = after(empty(own), resumed(["user", "And?"], ["assistant", "Well."]));
  assert.deepEqual(now.turns, own);
});

test("resuming adds what this page has missed, once", () => {
  const missed = [["assistant", "Hi!"] as const, ["user", "Bye"] as const];
  const now = after(
    empty([hello]),
    resumed(["user", "Hello"], ...missed.map(([role, text]): ["user" | "assistant", string] => [role, text])),
  );
  assert.deepEqual(outline(now), ["user Hello (done)", "assistant Hi! (done)", "user Bye (done)"]);
  assert.deepEqual(
    outline(after(now, resumed(["user", "Hello"], ["assistant", "Hi!"], ["user", "Bye"]))),
    outline(now),
  );
});

test("resuming tells words that were said twice apart", () => {
  const own = [hello, hi, hello, hi].map((turn, at) => ({ ...turn, id: String(at) }));
  assert.deepEqual(after(empty(own), resumed(["user", "Hello"], ["assistant", "Hi!"])).turns, own);
  const now = after(
    empty(own.slice(0, 3)),
    resumed(
      ...Array(2)
        .fill([
          ["user", "Hello"],
          ["assistant", "Hi!"],
        ])
        .flat(),
    ),
  );
  assert.deepEqual(outline(now), [
    "user Hello (done)",
    "assistant Hi! (done)",
    "user Hello (done)",
    "assistant Hi! (done)",
  ]);
});

test("resuming completes a reply of which this page has seen the beginning", () => {
  const now = told(delta("Good mor", 0.5), resumed(["user", "Hello"], ["assistant", "Good morning"]));
  assert.deepEqual(outline(now), ["user Hello (done)", "assistant Good morning (stopped)"]);
});

test("messages that got one answer are one turn of the server's", () => {
  const own = [turn("user", "A"), turn("user", "B"), hi];
  assert.deepEqual(after(empty(own), resumed(["user", "A\nB"], ["assistant", "Hi!"])).turns, own);
});

test("a message that the server does not know was not sent, even if it had it before", () => {
  assert.deepEqual(outline(told(resumed())), ["user Hello (failed)"]);
  const own = [hello, hi, turn("user", "And?"), turn("user", "So?", "sending"), turn("user", "Later", "queued")];
  const now = after(empty(own), resumed(["user", "Hello"], ["assistant", "Hi!"]));
  assert.deepEqual(outline(now).slice(2), ["user And? (failed)", "user So? (failed)", "user Later (queued)"]);
  const refused = { type: "error", error: { code: "text_too_long", message: "no", event_id: "m1" } } as const;
  assert.equal(told(refused).turns[0]?.status, "failed");
});

test("a long message of which the server has kept the end was sent", () => {
  const own = [turn("user", "a long beginning, and its end"), hi];
  const now = after(empty(own), resumed(["user", "and its end"], ["assistant", "Hi!"]));
  assert.deepEqual(now.turns, own);
});

test("a message that was not sent can be taken back, to be said again", () => {
  const now = reduce(empty([hello, turn("user", "lost", "failed")]), { type: "taken back", id: "user lost" });
  assert.deepEqual(now.turns, [hello]);
});

test("a server that has forgotten begins anew under the old words, and over those that wait", () => {
  const own = [hello, hi, turn("user", "And?"), turn("user", "Later", "queued")];
  const now = reduce(empty(own), { type: "event", event: created, forgotten: true });
  assert.deepEqual(
    now.turns.map(({ role, status }) => [role, status]),
    [
      ["user", "done"],
      ["assistant", "done"],
      ["user", "failed"],
      ["note", "done"],
      ["user", "queued"],
    ],
  );
});

test("after being told the words again the server's memory of them adds nothing", () => {
  const anew = reduce(empty([hello, hi]), { type: "event", event: created, forgotten: true });
  const now = after(anew, resumed(["user", "Hello"], ["assistant", "Hi!"]));
  assert.deepEqual(now.turns, anew.turns);
  assert.equal(new Set(now.turns.map(({ id }) => id)).size, 3);
});

test("a server that has forgotten is told the exchanges that had an answer", () => {
  const said = [hello, hi, turn("user", "lost", "failed"), turn("user", "And?")];
  assert.deepEqual(toRetell(said), [hello, hi]);
  const retold = reduce(empty(said), { type: "event", event: created, forgotten: true });
  assert.match(textOf(retold.turns[4] as Turn), /told the words above again/);
  assert.equal(toRetell(retold.turns).length, 2);
  const anew = reduce(retold, { type: "event", event: created });
  assert.match(textOf(anew.turns[4] as Turn), /does not remember/);
  assert.equal(anew.turns.length, 5);
  assert.deepEqual(toRetell(anew.turns), []);
});

test("what the other person writes stands beside one's own words, and is found again after a reconnect", () => {
  const inRoom = { ...session, room: "r" };
  let now = after(empty([]), { type: "session.created", session: inRoom });
  now = reduce(reduce(now, { type: "said", id: "1", text: "Hello" }), { type: "sent", id: "1" });
  now = after(now, { type: "room.message", item_id: "2", text: "Hi" });
  assert.deepEqual(
    now.turns.map(({ role }) => role),
    ["user", "other"],
  );
  assert.equal(now.spoken, "Hi");
  now = after(now, { type: "room.changed", people: 2, other_recording: true });
  now = reduce(now, { type: "link lost" });
  assert.equal(now.room, null);
  now = after(now, resumedInRoom(["user", "Hello"], ["other", "Hi"]));
  assert.deepEqual(
    now.turns.map(({ id }) => id),
    ["1", "2"],
  );
});

test("in a room nothing is said of a model, and what has reached the other one stays sent", () => {
  const own = [hello, turn("other", "Hi"), turn("user", "And?"), turn("user", "So?", "sending")];
  const lost = ["user And? (done)", "user So? (failed)"];
  const event = { ...created, session: { ...session, room: "r" } };
  assert.deepEqual(outline(reduce(empty(own), { type: "event", event, forgotten: true })).slice(2), lost);
  assert.deepEqual(outline(after(empty(own), resumedInRoom())).slice(2), lost);
});

test("a recording has ended when the link is lost, and when the conversation goes on without it", () => {
  const started = { type: "recording.started", session_id: "rec" } as const;
  for (const now of [reduce(told(started), { type: "link lost" }), told(started, resumed()), told(started, created)])
    assert.deepEqual([now.recordingId, now.endedRecordingId], [null, "rec"]);
  assert.equal(after(empty([], "before the reload"), resumed()).endedRecordingId, "before the reload");
  assert.equal(told(started, { ...created, session: { ...session, recording: "video" } }).recordingId, "rec");
});

/** An outbox whose link can be taken away; what went over it, in short. */
function posted(waiting: string[] = []) {
  const wire: string[] = [];
  const link = { open: false };
  const send = (event: ClientEvent) => {
    if (link.open) wire.push(event.type === "conversation.item.create" ? event.item.content[0].text : event.type);
    return link.open;
  };
  const message = (text: string) => ({ id: text, text, charTimes: null });
  const outbox = new Outbox(send, (id) => wire.push(`sent ${id}`), true, waiting.map(message));
  const say = (text: string) => outbox.say(message(text));
  const open = () => {
    link.open = true;
    outbox.heard(created);
  };
  return { outbox, wire, link, say, open };
}

test("what is said without a link is sent in order once it is there, and gets one reply", () => {
  const { wire, say, open } = posted(["before the reload"]);
  say("A");
  assert.deepEqual(wire, []);
  open();
  assert.deepEqual(wire, ["before the reload", "A", "sent before the reload", "sent A", "response.create"]);
});

test("a message during a reply ends it, and is answered after it", () => {
  const { outbox, wire, say, open } = posted();
  open();
  for (const text of ["A", "B", "C"]) say(text);
  outbox.heard(done("cancelled"));
  outbox.heard(done("completed"));
  const first = ["A", "sent A", "response.create"];
  const next = ["B", "sent B", "response.cancel", "C", "sent C", "response.cancel", "response.create"];
  assert.deepEqual(wire, [...first, ...next]);
});

test("a reply of before a reconnect that is still being ended is waited for", () => {
  const { outbox, wire, say, open } = posted();
  say("A");
  open();
  const busy = "conversation_already_has_active_response";
  outbox.heard({ type: "error", error: { code: busy, message: "wait", event_id: null } });
  outbox.heard(done("cancelled"));
  assert.deepEqual(wire, ["A", "sent A", "response.create", "response.create"]);
});
