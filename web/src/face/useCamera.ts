import { type RefObject, useCallback, useEffect, useRef, useState } from "react";
import { isShown } from "../focus";
import { explain, openCamera, type Trouble, trouble } from "./camera";
import { drawOutline } from "./drawOutline";
import { Feed, type FeedStatus } from "./feed";
import { Stillness } from "./stillness";

export interface Camera {
  videoRef: RefObject<HTMLVideoElement | null>;
  outlineRef: RefObject<SVGSVGElement | null>;
  trouble: Trouble | null;
  /** null while the camera gives no pictures. */
  status: FeedStatus | null;
  retry: () => void;
}

const STATUS_EVERY_MS = 1000;

/** Opens the camera and sends what is seen through `send`, until the component goes. */
export function useCamera(as: "geometry" | "video" | "text", send: (frame: ArrayBuffer) => void): Camera {
  const videoRef = useRef<HTMLVideoElement>(null);
  const outlineRef = useRef<SVGSVGElement>(null);
  const [found, setTrouble] = useState<Trouble | null>(null);
  const [status, setStatus] = useState<FeedStatus | null>(null);
  const [attempt, setAttempt] = useState(0);
  const retry = useCallback(() => setAttempt((number) => number + 1), []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new attempt opens the camera anew
  useEffect(() => {
    const video = videoRef.current;
    if (as === "text") setTrouble(null);
    if (as === "text" || !video) return;
    if (!navigator.mediaDevices) {
      setTrouble(trouble("insecure"));
      return;
    }
    const stillness = new Stillness();
    const running: { feed?: Feed; stream?: MediaStream; gone?: boolean } = {};
    const stop = () => {
      running.feed?.stop();
      delete running.feed;
      for (const track of running.stream?.getTracks() ?? []) track.stop();
      setStatus(null);
    };
    const fail = (what: Trouble) => {
      if (running.gone) return;
      stop();
      setTrouble(what);
    };
    const tell = (still: boolean) => {
      if (!running.feed) return;
      setTrouble(still ? trouble("still") : null);
      setStatus(still ? null : running.feed.status);
    };
    const listener = {
      frame: send,
      points: (points: Float32Array | null, outline: number[][]) => {
        if (outlineRef.current) drawOutline(outlineRef.current, video, points, outline);
      },
      failed: () => fail(trouble("faceModel")),
    };
    openCamera().then(
      (stream) => {
        running.stream = stream;
        if (running.gone) return stop();
        const [track] = stream.getVideoTracks();
        track?.addEventListener("ended", () => fail(trouble("unplugged")));
        track?.addEventListener("mute", () => {
          stillness.muted(running.feed?.status.frames ?? 0);
          tell(true);
        });
        video.srcObject = stream;
        video.play().catch(() => {}); // a page that goes meanwhile
        running.feed = new Feed(video, as, listener);
        setStatus(running.feed.status);
      },
      (error: unknown) => fail(explain(error)),
    );
    const timer = setInterval(() => {
      if (!running.feed) return;
      const looked = !document.hidden && isShown(video);
      tell(stillness.ask(running.feed.status.frames, looked));
    }, STATUS_EVERY_MS);
    return () => {
      running.gone = true;
      clearInterval(timer);
      stop();
    };
  }, [as, send, attempt]);

  const waitsForCamera = found?.kind === "unplugged" || found?.kind === "missing";
  useEffect(() => {
    if (!waitsForCamera) return;
    navigator.mediaDevices.addEventListener("devicechange", retry);
    return () => navigator.mediaDevices.removeEventListener("devicechange", retry);
  }, [waitsForCamera, retry]);

  return { videoRef, outlineRef, trouble: found, status, retry };
}
