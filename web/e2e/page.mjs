/**
 * The page in a real Chromium, against a real server. One JSON line a case: {name, ok, error}.
 *
 *   node page.mjs ADDRESS CHROMIUM OUT_FOLDER CAMERA SMILING DROOPING BLACK
 *
 * Cameras are MJPEG files: a real face, and a sample face that smiles or whose mouth droops; one is black.
 */
import { writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import {
  accessible,
  agree,
  answered,
  begin,
  black,
  camera,
  check,
  drooping,
  field,
  forgetToken,
  held,
  launch,
  open,
  out,
  run,
  say,
  shot,
  smiling,
  staysHere,
  withCamera,
  withoutCamera,
} from "./harness.mjs";
import { bitsByKeyboard, focusStays, frozenCamera, geometryAlone, inView, phone, serverAway } from "./parts.mjs";
import { leavingTalk, longHistory, lostMessage, outage, reloadWhileRecording } from "./staying.mjs";

const FIRST_LOAD_BYTES = 400_000;
const PICTURE = 1;
const GEOMETRY = 2;
const GEOMETRY_BYTES = [16 + 12, 16 + 16 + 478 * 3 * 4];

async function geometryOnly(browser) {
  const { context, page, wire } = await open(browser);
  await begin(page);
  await page.waitForTimeout(1000);
  check(wire.binary.length > 0, "nothing was sent");
  check(
    wire.binary.every(({ kind, bytes }) => kind === GEOMETRY && GEOMETRY_BYTES.includes(bytes)),
    "not geometry alone",
  );
  const longest = Math.max(...wire.text.map((message) => JSON.stringify(message).length));
  check(longest < 1000, "a text message is large enough to hold a picture");
  staysHere(wire);
  await context.close();
}

async function videoByChoice(browser) {
  const { context, page, wire } = await open(browser);
  await page.getByLabel("Video").check();
  await begin(page);
  check(wire.binary.length > 0 && wire.binary.every(({ kind }) => kind === PICTURE), "no pictures were sent");
  staysHere(wire);
  await context.close();
}

async function conversation(browser) {
  const { context, page, wire } = await open(browser);
  await begin(page);
  const reply = await answered(page, await say(page, "My dad wants to come to my match"));
  check(reply.length > 0, "the reply is empty");
  check((await page.locator(".word").count()) > 0, "no word says how far the face moved it");
  const { item } = wire.text.find(({ type }) => type === "conversation.item.create");
  const times = item.char_times;
  check(times.length === Array.from(item.content[0].text).length, "not one time for each character");
  check(times.every((time, at) => at === 0 || time >= times[at - 1]) && times.at(-1) > times[0], "times do not rise");
  check(
    wire.text.some(({ type }) => type === "input_text.draft"),
    "no draft was sent while typing",
  );
  await shot(page, "conversation");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot(page, "dark");
  await page.setViewportSize({ width: 390, height: 760 });
  await shot(page, "phone");
  await accessible(page, "conversation, dark, phone");
  await page.reload();
  await page.locator(".state:not(.off)").waitFor();
  await page.getByText(reply.slice(0, 30)).first().waitFor();
  check(wire.links.at(-1).includes("resume="), "the reload did not resume");
  staysHere(wire);
  await context.close();
}

/** Until the sample face has done what it does. */
async function beginAndMove(page) {
  await begin(page);
  await page.waitForTimeout(1500);
}

const LIKELIEST = { seed: 7, temperature: 0, max_output_tokens: 8 };

/** How the likeliest reply begins, from the same seed each time, when `start` has shown a face, or none. */
async function likeliestReply(browser, start, name) {
  const { context, page } = await held(browser, LIKELIEST);
  await start(page);
  await field(page).fill("My dad wants to come to my match");
  await page.getByRole("button", { name: "Send" }).and(page.locator(":enabled")).waitFor();
  await field(page).press("Enter");
  await page.locator(".turn.assistant .under > *").first().waitFor({ timeout: 60_000 });
  const reply = (await page.locator(".turn.assistant .text").first().textContent()).trim();
  if (name) await shot(page, name);
  await context.close();
  return reply;
}

async function textOnly(browser) {
  const { context, page, wire } = await open(browser);
  await withoutCamera(page);
  const before = await page.locator(".turn.assistant").count();
  await say(page, "Hello");
  await page.locator(".turn.assistant .text").nth(before).waitFor({ timeout: 60_000 });
  check(wire.binary.length === 0, "something of a camera was sent");
  check((await page.locator("video").count()) === 0, "there is a self-view");
  staysHere(wire);
  await context.close();
}

async function strangeText(browser) {
  const { context, page, wire } = await open(browser);
  await withoutCamera(page);
  for (const text of ["<img src=x onerror=alert(1)><b>bold</b> 👩‍👧‍👦", "שלום, מה שלומך?"]) await say(page, text);
  const shown = page.locator(".turn.user .text");
  check((await shown.nth(0).textContent()).startsWith("<img src=x"), "markup was not shown as it was typed");
  check((await page.locator(".text img, .text b").count()) === 0, "markup became elements");
  check(
    (await shown.nth(1).evaluate((text) => getComputedStyle(text).direction)) === "rtl",
    "Hebrew runs from the left",
  );
  await field(page).fill("word ".repeat(30_000));
  await page.getByText(/Too long by \d+ characters/).waitFor();
  check(await page.getByRole("button", { name: "Send" }).isDisabled(), "a text that is too long can be sent");
  staysHere(wire);
  await context.close();
}

/** So hot that hardly any reply ends by itself before it is interrupted. */
const ENDLESS = { seed: 7, temperature: 2, max_output_tokens: 200 };

async function interruption(browser) {
  const { context, page, link } = await held(browser, ENDLESS);
  await withoutCamera(page);
  for (const interrupt of [() => field(page).press("w"), () => page.keyboard.press("Escape")]) {
    const cancels = link.text.filter(({ type }) => type === "response.cancel").length;
    await field(page).fill("Tell me a long story about your summer.");
    await page.getByRole("button", { name: "Send" }).and(page.locator(":enabled")).waitFor();
    await field(page).press("Enter");
    await page.locator(".turn.assistant .text").nth(cancels).filter({ hasText: /\w/ }).waitFor({ timeout: 60_000 });
    await interrupt();
    await page.getByRole("button", { name: "Stop" }).waitFor({ state: "detached" });
    check(link.text.filter(({ type }) => type === "response.cancel").length === cancels + 1, "not cancelled once");
  }
  check((await page.getByText("Interrupted").count()) === 2, "an interrupted reply does not say so");
  await context.close();
}

async function reconnect(browser) {
  const { context, page, link } = await held(browser);
  await withoutCamera(page);
  await page.getByText("Ready", { exact: true }).waitFor();
  await say(page, "Remember me");
  await page.locator(".turn.assistant .text").filter({ hasText: /\w/ }).waitFor({ timeout: 60_000 });
  await page.getByRole("button", { name: "Stop" }).waitFor({ state: "detached", timeout: 60_000 });
  await link.cut();
  await page.getByText(/Server not reached|Connecting/).waitFor();
  await page.getByText("Ready", { exact: true }).waitFor({ timeout: 20_000 });
  check(link.urls.at(-1).includes("resume="), "the conversation was not resumed");
  await historyIsWhole(page);
  await forgotten(page);
  await context.close();
}

/** One message and its reply, which may well repeat the words. */
async function historyIsWhole(page) {
  check((await page.locator(".turn.user .text").allTextContents()).join() === "Remember me", "not one message");
  check((await page.locator(".turn.assistant").count()) === 1, "not one reply");
}

/** As after a restart of the server: it is told the words again. */
async function forgotten(page) {
  await forgetToken(page);
  const sent = [];
  page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => sent.push(String(payload))));
  await page.reload();
  await page.getByText("It was told the words above again").waitFor({ timeout: 20_000 });
  const told = () => sent.filter((text) => text.includes("conversation.item.create"));
  for (let tries = 0; told().length < 2 && tries < 50; tries++) await page.waitForTimeout(100);
  const items = told().map((text) => JSON.parse(text).item);
  check(items.map((item) => item.role).join() === "user,assistant", `retold: ${JSON.stringify(items)}`);
  await historyIsWhole(page);
  check((await page.locator("[role=alert]").count()) === 0, "an error is shown");
}

async function twoTabs(browser) {
  const { context, page, wire } = await open(browser);
  await withoutCamera(page);
  await page.getByText("Ready", { exact: true }).waitFor();
  await say(page, "Only in the first tab");
  // A tab opened by a page begins with a copy of its memory, as a duplicated one does.
  const opened = context.waitForEvent("page");
  await page.evaluate(() => window.open(location.href));
  const second = await opened;
  const links = [];
  second.on("websocket", (socket) => links.push(socket.url()));
  await second.getByText("Ready", { exact: true }).waitFor();
  check(
    links.every((url) => !url.includes("resume=")),
    "the second tab took the first one's conversation",
  );
  check((await second.getByText("Only in the first tab").count()) === 0, "the second tab shows the first one's words");
  check(wire.links.length === 1, "the first tab lost its connection");
  await context.close();
}

async function unplugged(browser) {
  const { context, page, wire } = await open(browser);
  await begin(page);
  await page.evaluate(() => {
    document.querySelector("video").srcObject.getVideoTracks()[0].dispatchEvent(new Event("ended"));
  });
  await page.getByText("The camera was disconnected.").waitFor();
  await page.waitForTimeout(300);
  const sent = wire.binary.length;
  await page.waitForTimeout(700);
  check(wire.binary.length === sent, "frames are sent without a camera");
  await page.evaluate(() => navigator.mediaDevices.dispatchEvent(new Event("devicechange")));
  await page.getByText("Face seen", { exact: true }).waitFor({ timeout: 30_000 });
  check((await page.getByText("The camera was disconnected.").count()) === 0, "the notice stays");
  await context.close();
}

async function nobodyInView(browser) {
  const { context, page, wire } = await open(browser);
  await agree(page);
  await page.getByText("Face not seen", { exact: true }).waitFor({ timeout: 60_000 });
  await page
    .getByRole("alert")
    .getByText(/no face/)
    .waitFor({ timeout: 60_000 });
  check(wire.binary.length > 0 && wire.binary.every(({ bytes }) => bytes === GEOMETRY_BYTES[0]), "a face was sent");
  await context.close();
}

async function recording(browser) {
  const { context, page, wire } = await open(browser);
  await page.getByLabel("Video").check();
  await begin(page);
  await page.getByRole("button", { name: "Record this conversation" }).click();
  await page.getByRole("button", { name: "Do not record" }).click();
  check(!wire.text.some(({ type }) => type === "session.update"), "recorded without consent");
  await page.getByRole("button", { name: "Record this conversation" }).click();
  await page.getByRole("button", { name: "I agree, record" }).click();
  await page.getByText("Recording", { exact: true }).waitFor();
  await answered(page, await say(page, "I lost my keys"));
  await page.getByRole("button", { name: "Stop recording" }).click();
  await page.getByRole("button", { name: "Keep", exact: true }).click();
  await page.getByRole("link", { name: "Recordings" }).click();
  await page.getByRole("button", { name: "Play back" }).first().click();
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await page.locator(".player .text", { hasText: "I lost my keys" }).waitFor({ timeout: 30_000 });
  await shot(page, "recordings");
  await accessible(page, "recordings");
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Export" }).click(),
  ]);
  await download.saveAs(`${out}/export.zip`);
  staysHere(wire);
  await context.close();
}

async function deletion(browser) {
  const { context, page } = await open(browser);
  await page.getByRole("link", { name: "Recordings" }).click();
  const rows = page.locator(".recordings > li");
  await rows.first().waitFor();
  const count = await rows.count();
  await rows.first().getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.waitForFunction((left) => document.querySelectorAll(".recordings > li").length === left, count - 1);
  await context.close();
}

async function firstLoad(browser) {
  const { context, page, wire } = await open(browser);
  await page.getByRole("heading", { level: 1 }).waitFor();
  let bytes = 0;
  for (const url of wire.requests) bytes += gzipSync(await (await context.request.get(url)).body()).length;
  await writeFile(`${out}/first-load.json`, JSON.stringify({ files: wire.requests.length, gzip_bytes: bytes }));
  check(bytes < FIRST_LOAD_BYTES, `the first load is ${bytes} bytes compressed`);
  await accessible(page, "consent");
  await shot(page, "consent");
  await context.close();
}

async function keyboardOnly(browser) {
  const { context, page } = await open(browser);
  for (let presses = 0; presses < 12; presses++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement?.matches("input[type=radio]"))) break;
  }
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await field(page).waitFor();
  check(await field(page).evaluate((box) => box === document.activeElement), "the focus is not in the message field");
  await page.getByText("Ready", { exact: true }).waitFor();
  await page.keyboard.type("By keyboard alone");
  await page.keyboard.press("Enter");
  await page.locator(".turn.user", { hasText: "By keyboard alone" }).waitFor();
  await context.close();
}

async function troubled(browser, title) {
  const { context, page, wire } = await open(browser);
  await agree(page);
  await page.getByText(title).waitFor();
  await page.getByRole("button", { name: "Try again" }).waitFor();
  await page.getByText("Ready", { exact: true }).waitFor();
  await say(page, "Can you hear me?");
  await page.locator(".turn.user", { hasText: "Can you hear me?" }).waitFor();
  await shot(page, "camera-trouble");
  await page.setViewportSize({ width: 360, height: 740 });
  await inView(page);
  check(wire.binary.length === 0, "something of a camera was sent");
  await context.close();
}

const only = process.env.CASES?.split(",");
async function all(browser, cases) {
  for (const [name, work] of Object.entries(cases))
    if (!only || only.includes(name)) await run(name, () => work(browser));
  await browser.close();
}

await all(await withCamera(camera), {
  firstLoad,
  geometryOnly,
  conversation,
  videoByChoice,
  textOnly,
  strangeText,
  interruption,
  reconnect,
  twoTabs,
  unplugged,
  keyboardOnly,
  focusStays,
  bitsByKeyboard,
  phone,
  frozenCamera,
  geometryAlone,
  serverAway,
  leavingTalk,
  reloadWhileRecording,
  outage,
  lostMessage,
  longHistory,
  recording,
  deletion,
});
if (!only || only.includes("otherFace")) {
  await run("otherFace", async () => {
    const found = [];
    for (const file of [smiling, drooping]) {
      const browser = await withCamera(file);
      found.push(await likeliestReply(browser, beginAndMove, file === smiling ? "smile" : "droop"));
      if (file === smiling)
        found.push(await likeliestReply(browser, withoutCamera), await likeliestReply(browser, withoutCamera));
      await browser.close();
    }
    await writeFile(`${out}/replies.json`, JSON.stringify(found));
    const [smile, noFace, noFaceEither, droop] = found;
    check(smile !== droop, `two faces, one reply: ${smile}`);
    check(noFace === noFaceEither, `no face, two replies: ${noFace} | ${noFaceEither}`);
    check(noFace !== smile && noFace !== droop, `a reply is the same without the face: ${noFace}`);
  });
}
await all(await withCamera(black), { nobodyInView });
await all(await launch("--use-fake-ui-for-media-stream=deny", "--use-fake-device-for-media-stream"), {
  cameraDenied: (browser) => troubled(browser, "The browser keeps the camera from this page."),
});
await all(await launch("--use-fake-ui-for-media-stream"), {
  cameraMissing: (browser) => troubled(browser, "No camera was found."),
});
