import { nowS } from "../clock";

/** What is wrong with the camera, and what to do about it. */
export interface Trouble {
  kind: "denied" | "missing" | "busy" | "insecure" | "unplugged" | "still" | "faceModel" | "other";
  title: string;
  remedy: string;
}

const TROUBLES: Record<Exclude<Trouble["kind"], "other">, Omit<Trouble, "kind">> = {
  denied: {
    title: "The browser keeps the camera from this page.",
    remedy: "Press the camera or lock symbol beside the address, allow the camera, then try again.",
  },
  missing: {
    title: "No camera was found.",
    remedy: "Connect one, or check that it is not switched off, then try again.",
  },
  busy: {
    title: "The camera is in use by another program.",
    remedy: "Close the other program or tab that shows the picture (a video call, say), then try again.",
  },
  insecure: {
    title: "Browsers allow the camera only on this machine's own address or over HTTPS.",
    remedy:
      "Open the page as http://localhost with the same port on the machine where the server runs, or put HTTPS before it.",
  },
  unplugged: { title: "The camera was disconnected.", remedy: "Connect it again; the page goes on by itself." },
  still: {
    title: "The camera gives no pictures.",
    remedy: "Open its shutter, or switch it on at its key; the page goes on by itself. If not, try again.",
  },
  faceModel: {
    title: "The face model could not be started in this browser.",
    remedy: "Reload the page. If that does not help, use a current Chrome, Edge, Firefox or Safari.",
  },
};

export function trouble(kind: keyof typeof TROUBLES): Trouble {
  return { kind, ...TROUBLES[kind] };
}

/** The names are those that `getUserMedia` gives to its errors. */
export function explain(error: unknown): Trouble {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return trouble("denied");
  if (name === "NotFoundError" || name === "OverconstrainedError") return trouble("missing");
  if (name === "NotReadableError" || name === "AbortError") return trouble("busy");
  const said = error instanceof Error ? error.message : String(error);
  return {
    kind: "other",
    title: `The camera could not be opened (${said}).`,
    remedy: "Try again, or reload the page.",
  };
}

export async function openCamera(): Promise<MediaStream> {
  return navigator.mediaDevices.getUserMedia({
    audio: false,
    video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } },
  });
}

/** Calls back for every new frame of `video` with its capture time on the page's clock; returns the way to stop. */
export function everyFrame(video: HTMLVideoElement, seen: (captureTimeS: number) => void): () => void {
  let stopped = false;
  let handle = 0;
  let lastS = Number.NEGATIVE_INFINITY;
  const next: VideoFrameRequestCallback = (_now, frame) => {
    if (stopped) return;
    handle = video.requestVideoFrameCallback(next);
    const timeS = captureTimeS(frame);
    if (timeS > lastS) {
      lastS = timeS;
      seen(timeS);
    }
  };
  handle = video.requestVideoFrameCallback(next);
  return () => {
    stopped = true;
    video.cancelVideoFrameCallback(handle);
  };
}

const OLDEST_S = 2;

/** Where the browser does not know when a frame was captured, the time at which it was shown. */
function captureTimeS(frame: VideoFrameCallbackMetadata): number {
  const now = nowS();
  const captured = (frame.captureTime ?? frame.presentationTime) / 1000;
  return captured <= now && captured > now - OLDEST_S ? captured : now;
}
