/** Cases of page.mjs: nothing is lost by going elsewhere on the page, by a reload, or while the server is away. */
import { begin, check, field, forgetToken, held, open, say, withoutCamera } from "./harness.mjs";

const OUTAGE_MS = 5000;
const SHORT = { max_output_tokens: 3 };
const EXCHANGES = 8;
const LONG_TEXT = "and then we went on to the next town, where the others waited for us; ".repeat(12);

const recordingNow = (page) => page.getByText("Recording", { exact: true });
const ended = (page) => page.getByRole("dialog", { name: "What is to become of the recording?" });
const stopReply = (page) => page.getByRole("button", { name: "Stop", exact: true });

async function record(page) {
  await page.getByRole("button", { name: "Record this conversation" }).click();
  await page.getByRole("button", { name: "I agree, record" }).click();
  await recordingNow(page).waitFor();
}

async function deleteIt(page) {
  await ended(page).getByRole("button", { name: "Delete" }).click();
  await ended(page).waitFor({ state: "detached" });
}

/** The reply and the recording go on meanwhile. */
export async function leavingTalk(browser) {
  const { context, page, wire } = await open(browser);
  await begin(page);
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByRole("banner").getByText("Camera on", { exact: true }).waitFor();
  await page.getByRole("link", { name: "Talk" }).click();
  await page.getByRole("banner").getByText("Camera on").waitFor({ state: "detached" });
  await record(page);
  await say(page, "Tell me a long story about your summer.");
  await page.locator(".turn.assistant .word").first().waitFor({ timeout: 60_000 });
  await page.getByRole("link", { name: "Recordings" }).click();
  await page.getByRole("heading", { name: "Recordings" }).waitFor();
  check(await recordingNow(page).isVisible(), "the page does not say that it records");
  const sent = wire.binary.length;
  await page.waitForTimeout(2000);
  check(wire.binary.length >= sent + 4, `${wire.binary.length - sent} pictures were seen in two seconds elsewhere`);
  await page.keyboard.press("Escape");
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByRole("link", { name: "Talk" }).click();
  check(await field(page).evaluate((box) => box === document.activeElement), "the focus is not in the message field");
  await stopReply(page).waitFor({ state: "detached", timeout: 60_000 });
  check((await page.getByText("Interrupted").count()) === 0, "the reply was cut");
  check(wire.links.length === 1, "the connection was lost");

  await page.getByRole("button", { name: "Change" }).click();
  await page.getByRole("heading", { level: 1 }).waitFor();
  check(await recordingNow(page).isVisible(), "choosing anew ended the recording, or hides it");
  check((await page.locator("video").count()) === 0, "the camera is on while one chooses anew");
  await withoutCamera(page);
  await page.getByRole("button", { name: "Stop recording" }).click();
  await deleteIt(page);
  check((await recordingNow(page).count()) === 0, "it still says that it records");
  await context.close();
}

export async function reloadWhileRecording(browser) {
  const { context, page } = await open(browser);
  await begin(page);
  await record(page);
  await page.reload();
  await ended(page).waitFor();
  check((await recordingNow(page).count()) === 0, "it says that it records");
  await page.reload();
  await deleteIt(page);
  await page.reload();
  await page.getByText("Face seen", { exact: true }).waitFor({ timeout: 60_000 });
  check((await ended(page).count()) === 0, "it asks again");
  await context.close();
}

async function send(page, text) {
  await field(page).fill(text);
  await field(page).press("Enter");
}

const turns = (page) =>
  page.locator(".messages > li").evaluateAll((items) => items.map((item) => item.querySelector(".text")?.textContent));

async function heldWithoutCamera(browser, settings) {
  const opened = await held(browser, settings);
  await withoutCamera(opened.page);
  await opened.page.getByText("Ready", { exact: true }).waitFor();
  return opened;
}

export async function outage(browser) {
  const { context, page, link } = await heldWithoutCamera(browser);
  link.goesAfter = "response.output_text.delta";
  await send(page, "Tell me a long story about your summer.");
  await page.getByText("Interrupted").waitFor({ timeout: 60_000 });
  const wentMs = Date.now();
  for (const text of ["Are you there?", "I wait."]) await send(page, text);
  await page.getByText("Waits for the server").nth(1).waitFor();
  await page.waitForTimeout(OUTAGE_MS - (Date.now() - wentMs));
  link.away = false;
  await page.locator(".turn.assistant .text").nth(1).filter({ hasText: /\w/ }).waitFor({ timeout: 60_000 });
  await stopReply(page).waitFor({ state: "detached", timeout: 60_000 });
  check(link.urls.length >= 4, `${link.urls.length - 1} tries to come back`);
  check(
    link.urls.slice(1).every((url) => url.includes("resume=")),
    "a try did not ask for the conversation",
  );
  const said = link.text
    .filter(({ type }) => type === "conversation.item.create")
    .map(({ item }) => item.content[0].text);
  check(said.slice(1).join() === "Are you there?,I wait.", `sent: ${said.join()}`);
  check((await page.locator(".note, .bad, [role=alert]").count()) === 0, "something was lost");
  check((await turns(page)).length === 5, "not three messages and two replies");
  await context.close();
}

export async function lostMessage(browser) {
  const { context, page, link } = await heldWithoutCamera(browser);
  link.deaf = true;
  await send(page, "Into the void");
  await page.getByText("Sending", { exact: true }).waitFor();
  await link.cut();
  link.deaf = false;
  await page.getByText("Not sent").waitFor({ timeout: 20_000 });
  await page.getByRole("button", { name: "Send again" }).click();
  await page.locator(".turn.assistant .text").filter({ hasText: /\w/ }).waitFor({ timeout: 60_000 });
  check((await page.locator(".turn.user").count()) === 1, "the message stands there twice");
  check((await page.getByText(/Not sent|Sending/).count()) === 0, "it does not count as sent");
  await context.close();
}

/** Longer than the server remembers. */
export async function longHistory(browser) {
  const { context, page } = await heldWithoutCamera(browser, SHORT);
  const answers = page.locator(".turn.assistant .under", { hasText: "Ended at its longest length" });
  for (let exchange = 0; exchange < EXCHANGES; exchange++) {
    await send(page, `Part ${exchange}: ${LONG_TEXT}`);
    await answers.nth(exchange).waitFor({ timeout: 60_000 });
  }
  const before = await turns(page);
  check(before.length === 2 * EXCHANGES, `${before.length} turns`);
  await page.reload();
  await page.getByText("Ready", { exact: true }).waitFor();
  check(JSON.stringify(await turns(page)) === JSON.stringify(before), "the reload changed what was said");
  await forgetToken(page);
  await page.reload();
  await page.getByText("It was told the words above again").waitFor({ timeout: 20_000 });
  await page.reload();
  await page.getByText("Ready", { exact: true }).waitFor();
  const after = (await turns(page)).filter((text) => text !== undefined);
  check(JSON.stringify(after) === JSON.stringify(before), "what was told again stands there twice, or not at all");
  await context.close();
}
