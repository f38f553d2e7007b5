/** Cases of page.mjs about the page's parts: focus, keyboard, small screens, and a camera that stands still. */
import { accessible, answered, begin, check, field, open, say, shot, withoutCamera } from "./harness.mjs";

const focused = (page) => page.evaluate(() => document.activeElement.outerHTML.slice(0, 80));

async function hasFocus(page, selector, when) {
  const there = await page
    .waitForFunction((wanted) => document.activeElement.matches(wanted), selector, { timeout: 5000 })
    .catch(() => null);
  check(there, `${when}: the focus is at ${await focused(page)}`);
}

export async function focusStays(browser) {
  const { context, page } = await open(browser);
  await begin(page);
  const record = page.getByRole("button", { name: "Record this conversation" });
  await record.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  check(await record.evaluate((button) => button === document.activeElement), "the dialog gave no focus back");
  await record.click();
  await page.getByRole("button", { name: "I agree, record" }).click();
  await page.getByRole("button", { name: "Stop recording" }).waitFor();
  await hasFocus(page, "main, button", "recording");
  await page.getByRole("button", { name: "Stop recording" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached", timeout: 20_000 });
  await hasFocus(page, "main, button", "after a recording");
  await page.getByRole("button", { name: "Change" }).click();
  await hasFocus(page, "main.sheet", "Change");
  await withoutCamera(page);
  await page.getByRole("button", { name: "Skip to the content" }).press("Enter");
  await hasFocus(page, "main.talk", "the skip link");
  check(!(await page.evaluate(() => location.hash)), "the skip link is a place");
  await context.close();
}

/** A recording without a word, of which the pictures go, then all of it. */
export async function geometryAlone(browser) {
  const { context, page } = await open(browser);
  await page.getByLabel("Video").check();
  await begin(page);
  await page.getByRole("button", { name: "Record this conversation" }).click();
  await page.getByRole("button", { name: "I agree, record" }).click();
  await page.getByText("Recording", { exact: true }).waitFor();
  await page.waitForTimeout(1000);
  await page.getByRole("button", { name: "Stop recording" }).click();
  await page.getByRole("button", { name: "Keep", exact: true }).click();
  await page.getByRole("link", { name: "Recordings" }).click();
  const row = page.locator(".recordings > li").first();
  check(await row.getByLabel("Train on this").isDisabled(), "what holds no reply can be trained on");
  await row.getByRole("button", { name: "Play back" }).click();
  await row.getByRole("button", { name: "Play", exact: true }).click();
  await row.locator("video").waitFor();
  await row.getByRole("button", { name: "Keep geometry only" }).press("Enter");
  await row.getByText("no pictures").waitFor({ timeout: 60_000 });
  await row.getByRole("button", { name: "Play", exact: true }).click();
  await page.waitForTimeout(500);
  check((await row.locator("video").count()) === 0, "the player shows pictures that are gone");
  await hasFocus(page, "main, button", "Keep geometry only");
  await row.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await row.waitFor({ state: "detached" });
  await hasFocus(page, "main", "deleting");
  await context.close();
}

export async function serverAway(browser) {
  const { context, page } = await open(browser);
  const notice = page.getByText("The server cannot be reached.");
  for (const place of ["Models", "Recordings"]) {
    await page.route("**/api/**", (route) => route.abort());
    await page.getByRole("navigation").getByRole("link", { name: place }).click();
    await notice.waitFor();
    check((await page.title()).startsWith(place), `the title is ${await page.title()}`);
    await page.unroute("**/api/**");
    await notice.waitFor({ state: "detached", timeout: 10_000 });
  }
  await context.close();
}

/** How far the list stands from its end. */
const toEnd = (page) =>
  page.locator(".messages").evaluate((list) => list.scrollHeight - list.scrollTop - list.clientHeight);

export async function bitsByKeyboard(browser) {
  const { context, page } = await open(browser, { viewport: { width: 360, height: 740 } });
  await begin(page);
  await answered(page, await say(page, "My dad wants to come to my match"));
  const words = page.locator(".word");
  const reply = page.locator(".turn.assistant .text");
  await reply.evaluate((text) => text.style.setProperty("text-align", "right")); // words at the list's edge
  check((await page.locator(".word[tabindex='0']").count()) === 1, "a reply is not one tab stop");
  await page.getByLabel("Messages").focus();
  await page.keyboard.press("Tab");
  const seen = new Set();
  for (let at = 0; at < (await words.count()); at++) {
    const word = page.locator(".word:focus");
    const tip = page.getByRole("tooltip");
    check(/^face: -?\d+\.\d\d bits$/.test(await tip.textContent()), "no bits");
    check(
      (await word.getAttribute("aria-describedby")) === (await tip.getAttribute("id")),
      "the word is not described",
    );
    const list = await page.locator(".messages").boundingBox();
    const box = await tip.boundingBox();
    check(box.x >= list.x && box.x + box.width <= list.x + list.width && box.y >= list.y, "the tip is cut off");
    seen.add(await word.getAttribute("data-at"));
    await page.keyboard.press("ArrowRight");
  }
  check(seen.size === (await words.count()), `arrow keys led to ${seen.size} of ${await words.count()} words`);
  check(
    await page.locator(".messages").evaluate((list) => list.scrollWidth === list.clientWidth),
    "it scrolls sideways",
  );
  await accessible(page, "bits");
  await page.keyboard.press("Tab");
  check((await page.getByRole("tooltip").count()) === 0, "a tip stays behind");
  await words.first().click();
  await page.mouse.move(0, 0);
  await page.getByRole("tooltip").waitFor();
  await context.close();
}

export async function phone(browser) {
  const { context, page, wire } = await open(browser, { viewport: { width: 360, height: 400 } });
  await begin(page);
  for (const text of ["My dad wants to come to my match", "And then?"]) await answered(page, await say(page, text));
  await inView(page);
  const list = page.locator(".messages");
  const { height } = await list.boundingBox();
  check(height >= 100, `the list is ${height} px high`);
  await list.evaluate((box) => box.scrollTo(0, 0));
  await page.waitForTimeout(200);
  check((await toEnd(page)) > 100, "the list does not scroll");
  await field(page).fill("I have scrolled up");
  await field(page).press("Enter");
  await page.waitForTimeout(300);
  check((await toEnd(page)) < 5, "one's own new message is not in view");
  await shot(page, "phone-with-keyboard");
  await page.setViewportSize({ width: 360, height: 740 });
  await page.setViewportSize({ width: 360, height: 400 });
  await page.waitForTimeout(300);
  check((await toEnd(page)) < 5, "the keyboard covers what was said last");
  await page.getByText("More", { exact: true }).click();
  await page.getByRole("button", { name: "New conversation" }).scrollIntoViewIfNeeded();
  await page.waitForTimeout(4000);
  const sent = wire.binary.length;
  await page.waitForTimeout(1000);
  check(wire.binary.length > sent, "no frames while the picture is out of view");
  check((await page.getByText("The camera gives no pictures.").count()) === 0, "a camera out of view is not still");
  await field(page).fill("word ".repeat(30_000));
  check(await page.getByText(/Too long by \d+ characters/).isVisible(), "nothing says why it cannot be sent");
  await context.close();
}

export async function inView(page) {
  const box = await field(page).boundingBox();
  const { height } = page.viewportSize();
  check(box.y >= 0 && box.y + box.height <= height, `the message field is at ${box.y} to ${box.y + box.height}`);
}

export async function frozenCamera(browser) {
  const { context, page } = await open(browser);
  await begin(page);
  const notice = page.getByText("The camera gives no pictures.");
  const record = page.getByRole("button", { name: "Record this conversation" });
  await page.evaluate(() => document.querySelector("video").pause());
  await notice.waitFor({ timeout: 10_000 });
  check(await record.isDisabled(), "what a still camera gives can be recorded");
  await page.getByText("Recording needs the camera.").waitFor();
  await page.evaluate(() => document.querySelector("video").play());
  await notice.waitFor({ state: "detached" });
  const told = await page.evaluate(async () => {
    const video = document.querySelector("video");
    video.pause();
    video.srcObject.getVideoTracks()[0].dispatchEvent(new Event("mute"));
    await new Promise((later) => setTimeout(later, 1500));
    return document.body.textContent.includes("The camera gives no pictures.");
  });
  check(told, "a camera that says itself that it is muted is not told of at once");
  await page.getByRole("button", { name: "Go on without" }).click();
  await notice.waitFor({ state: "detached" });
  check((await page.locator("main [role=alert]").count()) === 0, "a notice of the camera stands without one");
  await context.close();
}
