import { nowS } from "../clock";
import { Pace } from "../pace";
import { packGeometry, packPicture } from "../protocol";
import { everyFrame } from "./camera";
import type { FromWorker, Outline, ToWorker } from "./messages";

const LONGEST_SIDE_PX = 640;
const JPEG_QUALITY = 0.85;

/** How the pictures get on: how many the camera gave, at what rate they are worked on, what one costs, how many were not. */
export interface FeedStatus {
  frames: number;
  rateHz: number;
  slowed: boolean;
  workMs: number | null;
  dropped: number;
  ready: boolean;
}

export interface FeedListener {
  frame(message: ArrayBuffer): void;
  points(points: Float32Array | null, outline: Outline): void;
  failed(): void;
}

/**
 * Frames of a video element → messages for the server, at a rate that this machine keeps up with. One picture is
 * worked on at a time; those that come meanwhile are dropped and counted. As geometry, no pixel goes into a message.
 */
export class Feed {
  private readonly pace = new Pace();
  private readonly worker: Worker | null;
  private readonly canvas: HTMLCanvasElement | null;
  private readonly stopFrames: () => void;
  private outline: Outline = [];
  private busy = false;
  private stopped = false;
  private ready: boolean;
  private frames = 0;
  private dropped = 0;
  private workS: number | null = null;

  constructor(
    private readonly video: HTMLVideoElement,
    as: "geometry" | "video",
    private readonly listener: FeedListener,
  ) {
    this.worker = as === "geometry" ? new Worker(new URL("./faceWorker.ts", import.meta.url)) : null;
    this.canvas = as === "video" ? document.createElement("canvas") : null;
    this.ready = this.worker === null;
    if (this.worker) {
      this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.fromWorker(data);
      this.worker.onerror = () => this.listener.failed();
    }
    this.stopFrames = everyFrame(video, (timeS) => void this.take(timeS));
  }

  get status(): FeedStatus {
    const { rateHz, slowed } = this.pace;
    const workMs = this.workS === null ? null : 1000 * this.workS;
    return { frames: this.frames, rateHz, slowed, workMs, dropped: this.dropped, ready: this.ready };
  }

  stop(): void {
    this.stopped = true;
    this.stopFrames();
    this.worker?.terminate();
  }

  private async take(timeS: number): Promise<void> {
    this.frames++;
    if (!this.ready || this.video.videoWidth === 0 || !this.pace.due(timeS)) return;
    if (this.busy) {
      this.dropped++;
      return;
    }
    this.busy = true;
    try {
      if (this.worker) {
        const picture = await createImageBitmap(this.video);
        this.worker.postMessage({ type: "picture", picture, timeS } satisfies ToWorker, [picture]);
      } else {
        await this.sendPicture(timeS);
      }
    } catch {
      this.busy = false; // the video was taken away under our hands
    }
  }

  private async sendPicture(timeS: number): Promise<void> {
    const startedS = nowS();
    const { canvas, video } = this;
    if (!canvas) return;
    const scale = Math.min(1, LONGEST_SIDE_PX / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d")?.drawImage(video, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/jpeg", JPEG_QUALITY));
    if (blob && !this.stopped) this.listener.frame(packPicture(timeS, await blob.arrayBuffer()));
    this.finished(nowS() - startedS);
  }

  private fromWorker(message: FromWorker): void {
    if (this.stopped) return;
    if (message.type === "failed") {
      this.listener.failed();
    } else if (message.type === "ready") {
      this.outline = message.outline;
      this.ready = true;
    } else {
      this.finished(message.workS);
      this.listener.frame(packGeometry(message.timeS, message.face));
      this.listener.points(message.face.points, this.outline);
    }
  }

  private finished(workS: number): void {
    this.busy = false;
    this.workS = this.workS === null ? workS : 0.9 * this.workS + 0.1 * workS;
    this.pace.took(workS, nowS());
  }
}
