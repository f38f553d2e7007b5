/**
 * What the page's own worker finds in pictures, printed as JSON: for each the number of faces, and the points as one list
 * of 478 * 3 numbers, null where it finds nobody.
 *
 *   node geometry.mjs ADDRESS CHROMIUM WORKER PICTURE.png …
 */
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const [address, executablePath, worker, ...files] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.goto(address);
const pictures = await Promise.all(files.map(async (file) => (await readFile(file)).toString("base64")));
const found = await page.evaluate(
  async ({ worker, pictures }) => {
    const face = new Worker(worker);
    const next = () =>
      new Promise((found, failed) => {
        face.onmessage = ({ data }) => (data.type === "failed" ? failed(Error(data.message)) : found(data));
        face.onerror = () => failed(Error("the worker could not be started"));
      });
    await next();
    const found = [];
    for (const [index, picture] of pictures.entries()) {
      const bytes = Uint8Array.from(atob(picture), (char) => char.charCodeAt(0));
      const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
      const answer = next();
      face.postMessage({ type: "picture", picture: bitmap, timeS: 1 + index / 15 }, [bitmap]);
      const { face: geometry } = await answer;
      found.push({ faces: geometry.faces, points: geometry.points && Array.from(geometry.points) });
    }
    return found;
  },
  { worker, pictures },
);
console.log(JSON.stringify(found));
await browser.close();
