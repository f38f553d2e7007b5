/**
 * Two people in a room, then training on what they recorded: the page in a real Chromium, against a real server. One
 * JSON line a case, as page.mjs.
 *
 *   node together.mjs ADDRESS CHROMIUM OUT_FOLDER CAMERA
 */
import {
  accessible,
  address,
  agree,
  begin,
  camera,
  check,
  field,
  open,
  run,
  shot,
  staysHere,
  withCamera,
} from "./harness.mjs";

const EXCHANGES = 2;

async function record(page) {
  await page.getByRole("button", { name: "Record this conversation" }).click();
  await page.getByRole("dialog").getByText("the other person's recording").waitFor();
  await page.getByRole("button", { name: "I agree, record" }).click();
  await page.getByText("Recording", { exact: true }).waitFor();
}

async function write(from, to, text) {
  await field(from).pressSequentially(text, { delay: 10 });
  await field(from).press("Enter");
  await to.locator(".turn.other .text", { hasText: text }).waitFor();
}

async function twoPeople(browser) {
  const { context, page: host, wire } = await open(browser);
  await begin(host);
  await host.getByRole("button", { name: "Invite a second person" }).click();
  await host.getByText("The other person is not here").waitFor();
  const link = await host.getByLabel("Link for the other person").inputValue();
  const { context: elsewhere, page: guest, wire: guestWire } = await open(browser, {}, link);
  await guest.getByRole("heading", { name: "A conversation of two people" }).waitFor();
  await agree(guest);
  for (const page of [host, guest]) {
    await page.getByText("Both here", { exact: true }).waitFor();
    await page.getByText("Face seen", { exact: true }).waitFor({ timeout: 60_000 });
  }
  await record(host);
  await guest.getByText("The other person records").waitFor();
  await record(guest);
  for (let exchange = 0; exchange < EXCHANGES; exchange++) {
    await write(host, guest, `How was it, part ${exchange}?`);
    await write(guest, host, `It went well, part ${exchange}.`);
  }
  await shot(host, "two-people");
  await accessible(host, "two people");
  check(
    ![...wire.text, ...guestWire.text].some(({ type }) => type === "response.create"),
    "the model was asked for a reply",
  );

  const { context: third, page: stranger } = await open(browser, {}, link);
  await stranger.getByLabel("No camera").check();
  await stranger.getByRole("button", { name: "Begin without camera" }).click();
  await stranger.getByText("Two people are in this conversation already", { exact: true }).waitFor();
  await third.close();

  await guest.getByRole("link", { name: "Recordings" }).click();
  await guest.getByRole("heading", { name: "Recordings" }).waitFor();
  await guest.getByRole("link", { name: "Talk" }).click();
  await guest.getByText("Both here", { exact: true }).waitFor();
  check(guestWire.links.length === 1, "going elsewhere on the page left the room");
  await guest.getByRole("button", { name: "Stop recording" }).click();
  await guest.getByRole("button", { name: "Keep", exact: true }).click();
  await guest.reload();
  await guest.getByText("Both here", { exact: true }).waitFor();
  check((await guest.locator(".turn").count()) === 2 * EXCHANGES, "the words are not what they were");
  await guest.getByRole("link", { name: "Recordings" }).click();
  await guest.reload();
  await guest.getByRole("link", { name: "Talk" }).click();
  await guest.getByRole("link", { name: "Leave" }).click();
  await host.getByText("The other person is not here").waitFor();
  await elsewhere.close();
  await host.getByRole("button", { name: "Stop recording" }).click();
  await host.getByRole("button", { name: "Keep", exact: true }).click();
  staysHere(wire);
  staysHere(guestWire);
  await context.close();
}

async function training(browser) {
  const { context, page, wire } = await open(browser, {}, `${address}#recordings`);
  const boxes = page.getByLabel("Train on this");
  await boxes.first().check();
  await page.getByText("With one recording nothing can be kept from training").waitFor();
  await boxes.nth(1).check();
  await page.getByText("Each recording counts as another person").waitFor();
  await accessible(page, "recordings to train on");
  await page.getByRole("button", { name: "Train on 2 recordings" }).click();
  await page.locator("progress").waitFor();
  await shot(page, "training");
  await page.reload();
  const ended = page.locator("main [role=alert], main p[role=status]", { hasText: /^page-/ });
  await ended.waitFor({ timeout: 180_000 });
  check(/ is ready\.$/.test(await ended.textContent()), `not trained: ${await ended.textContent()}`);
  await page.getByRole("button", { name: "Report" }).click();
  const report = page.frameLocator("iframe.report");
  await report.getByRole("heading", { level: 1 }).waitFor();
  check(
    await report.locator("body").evaluate(() => window.origin === "null"),
    "the report shares this server's origin",
  );
  await shot(page, "report");
  await accessible(page, "models");
  await page.getByRole("button", { name: "Close the report" }).click();

  await page.getByRole("button", { name: "Use for new conversations" }).click();
  await page.getByRole("button", { name: /^Go back to/ }).waitFor();
  await page.getByRole("link", { name: "Talk" }).click();
  await page.getByLabel("No camera").check();
  await page.getByRole("button", { name: "Begin without camera" }).click();
  await page.getByText(/^Model: page-/).waitFor();
  await field(page).fill("Hello");
  await field(page).press("Enter");
  await page.locator(".turn.assistant").first().waitFor();
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByRole("button", { name: /^Go back to/ }).click();
  await page.getByRole("button", { name: "Use for new conversations" }).waitFor();
  await page.getByRole("link", { name: "Talk" }).click();
  await page.getByText(/^Model: page-/).waitFor();
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByText("A new conversation begins here").waitFor();
  await page.getByText("Model: tiny", { exact: true }).waitFor();
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Keep it" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("Nothing was trained here yet.").waitFor();
  staysHere(wire);
  await context.close();
}

const browser = await withCamera(camera);
await run("twoPeople", () => twoPeople(browser));
await run("training", () => training(browser));
await browser.close();
