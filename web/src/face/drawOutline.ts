import type { Outline } from "./messages";

/** Draw the lines of a face over the video, in the video's own pixels. */
export function drawOutline(
  over: SVGSVGElement,
  video: HTMLVideoElement,
  points: Float32Array | null,
  outline: Outline,
): void {
  over.setAttribute("viewBox", `0 0 ${video.videoWidth} ${video.videoHeight}`);
  const steps: string[] = [];
  for (const lines of points ? outline : []) {
    for (let at = 0; at + 1 < lines.length; at += 2)
      steps.push(`M${place(points, lines[at])}L${place(points, lines[at + 1])}`);
  }
  over.firstElementChild?.setAttribute("d", steps.join(""));
}

function place(points: Float32Array | null, index = 0): string {
  return [points?.[3 * index], points?.[3 * index + 1]].map((pixel) => pixel?.toFixed(1)).join(" ");
}
