/** A page in Chromium whose every message and request is noted, and what the cases of page.mjs do on it. */
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const [address, executablePath, out, camera, smiling, drooping, black] = process.argv.slice(2);
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SCREENSHOTS = fileURLToPath(new URL("../../build/screenshots", import.meta.url));

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

export function launch(...cameraFlags) {
  return chromium.launch({ executablePath, args: ["--no-sandbox", ...cameraFlags] });
}

export const withCamera = (file) =>
  launch(
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    `--use-file-for-fake-video-capture=${file}`,
  );

/** A page that notes what goes over the wire: requests to other places, and each message to the server. */
export async function open(browser, options = {}, to = address) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 760 }, ...options });
  const page = await context.newPage();
  const wire = { requests: [], binary: [], text: [], links: [], faults: [] };
  context.on("request", (request) => wire.requests.push(request.url()));
  page.on("pageerror", (error) => wire.faults.push(error.message));
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) wire.faults.push(message.text());
  });
  page.on("websocket", (socket) => {
    wire.links.push(socket.url());
    socket.on("framesent", ({ payload }) => {
      if (typeof payload === "string") wire.text.push(JSON.parse(payload));
      else wire.binary.push({ kind: payload[0], bytes: payload.length });
    });
  });
  await page.goto(to);
  return { context, page, wire };
}

/**
 * A page whose link to the server is held: `away` refuses it, `deaf` drops what the page sends, `goesAfter` lets the
 * server go after such an event. `settings` are those of every conversation that begins.
 */
export async function held(browser, settings) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const link = { away: false, deaf: false, goesAfter: null, urls: [], text: [], cut: null };
  await page.routeWebSocket(/realtime/, (socket) => {
    link.urls.push(socket.url());
    if (link.away) return socket.close({ code: 1011 });
    const server = socket.connectToServer();
    link.cut = async () => {
      await server.close();
      await socket.close({ code: 1011 });
    };
    socket.onMessage((message) => {
      if (link.deaf) return;
      if (typeof message === "string") link.text.push(JSON.parse(message));
      server.send(message);
    });
    server.onMessage((message) => {
      if (link.away) return;
      socket.send(message);
      const { type } = JSON.parse(message);
      if (settings && type === "session.created")
        server.send(JSON.stringify({ type: "session.update", session: settings }));
      if (type !== link.goesAfter) return;
      link.away = true;
      void link.cut();
    });
  });
  await page.goto(address);
  return { context, page, link };
}

/** As if the server had been restarted. */
export function forgetToken(page) {
  return page.evaluate(() => {
    for (const key of Object.keys(sessionStorage))
      if (key.endsWith("resume")) sessionStorage.setItem(key, "nobody-knows-this-token");
  });
}

export const agree = (page) => page.getByRole("button", { name: "Agree and switch the camera on" }).click();
export const field = (page) => page.getByLabel("Your message");
const replies = (page) => page.locator(".turn.assistant .under", { hasText: /bits a word|Interrupted/ });

export async function begin(page) {
  await agree(page);
  await page.getByText("Face seen", { exact: true }).waitFor({ timeout: 60_000 });
}

export async function withoutCamera(page) {
  await page.getByLabel("No camera").check();
  await page.getByRole("button", { name: "Begin without camera" }).click();
}

export async function say(page, text) {
  const before = await replies(page).count();
  await field(page).pressSequentially(text, { delay: 15 });
  await page.getByRole("button", { name: "Send" }).and(page.locator(":enabled")).waitFor();
  await field(page).press("Enter");
  return before;
}

export async function answered(page, before) {
  await replies(page).nth(before).waitFor({ timeout: 60_000 });
  return (await page.locator(".turn.assistant .text").nth(before).textContent()).trim();
}

export function staysHere(wire) {
  const origin = new URL(address).origin;
  const elsewhere = wire.requests.filter((url) => !url.startsWith(origin) && !/^(blob|data):/.test(url));
  check(elsewhere.length === 0, `requests left the origin: ${elsewhere.join(" ")}`);
  check(
    wire.links.every((url) => new URL(url).host === new URL(address).host),
    "a WebSocket left the origin",
  );
  check(wire.faults.length === 0, `the page had faults: ${wire.faults.join(" | ")}`);
}

/**
 * Of a state of the page, for people to look at, in build/screenshots/ of the source tree: as it is, and as a drawing in
 * which no picture of anybody can be.
 */
export async function shot(page, name) {
  await page.screenshot({ path: `${SCREENSHOTS}/${name}.png` });
  const drawing = await page.evaluate(drawn);
  check(!/<(img|image|video|canvas)|data:image/.test(drawing), `${name}: the drawing holds a picture`);
  await writeFile(`${SCREENSHOTS}/${name}.svg`, drawing);
}

/** The page as it stands, as an SVG that needs nothing else. */
function drawn() {
  const rules = [...document.styleSheets].flatMap(({ cssRules }) => [...cssRules]).map(({ cssText }) => cssText);
  const body = document.body.cloneNode(true);
  for (const element of body.querySelectorAll("script, video, img, canvas, iframe")) element.remove();
  const { innerWidth: width, innerHeight: height } = window;
  const size = `width="${width}" height="${height}"`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" ${size} viewBox="0 0 ${width} ${height}">`;
  const style = `<style><![CDATA[\n${rules.join("\n")}\n]]></style>`;
  const content = new XMLSerializer().serializeToString(body);
  return `${svg}${style}<foreignObject ${size}>${content}</foreignObject></svg>\n`;
}

export async function accessible(page, place) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run());
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const said = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`).join("; ");
  check(serious.length === 0, `${place}: ${said}`);
}

/** A case's line. */
export async function run(name, work) {
  const startedMs = Date.now();
  const error = await work().then(
    () => null,
    (failure) => failure.message.split("\n").slice(0, 6).join(" "),
  );
  console.log(JSON.stringify({ name, ok: error === null, error, seconds: (Date.now() - startedMs) / 1000 }));
}
