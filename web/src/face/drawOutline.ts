import type { Outline } from "./messages";

/** Draw the lines of a face over the video, in the video's own pixels. */
export function drawOutline(
  canvas: HTMLCanvasElement,
  video: HTMLVideoElement,
  points: Float32Array | null,
  outline: Outline,
): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  if (canvas.width !== video.videoWidth) canvas.width = video.videoWidth;
  if (canvas.height !== video.videoHeight) canvas.height = video.videoHeight;
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!points) return;
  context.strokeStyle = "rgb(255 255 255 / 0.85)";
  context.lineWidth = Math.max(1.5, canvas.width / 250);
  context.lineCap = "round";
  context.beginPath();
  for (const lines of outline) {
    for (let at = 0; at + 1 < lines.length; at += 2) {
      const from = 3 * (lines[at] as number);
      const to = 3 * (lines[at + 1] as number);
      context.moveTo(points[from] as number, points[from + 1] as number);
      context.lineTo(points[to] as number, points[to + 1] as number);
    }
  }
  context.stroke();
}
