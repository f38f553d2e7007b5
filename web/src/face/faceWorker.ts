/**
 * Pictures in, 478 points out, all in the browser. A classic worker: the runtime is loaded by `importScripts`, which
 * module workers lack (xrblocks #366).
 */
import { FaceLandmarker, type NormalizedLandmark } from "@mediapipe/tasks-vision";
import type { FaceGeometry } from "../protocol";
import type { FromWorker, ToWorker } from "./messages";

interface WorkerScope {
  postMessage(message: FromWorker, transfer: Transferable[]): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
}

const scope = self as unknown as WorkerScope;

const COUNT_EVERY_S = 1;
/**
 * MediaPipe smooths a single face over time, the less the longer its last picture is ago. The server's landmarker does
 * not smooth, so here every picture comes a day after the one before. Its filter counts nanoseconds in 64 bits, which
 * are at their end after so many days.
 */
const DAY_MS = 24 * 3600 * 1000;
const MAX_DAYS = 100_000;

// One that follows a face from its own points, as the server does: asked for two, MediaPipe would look for
// the face anew in every picture. And one that counts.
const opening = Promise.all([openLandmarker("VIDEO", 1), openLandmarker("IMAGE", 4)]);
let counted = { atS: -Infinity, faces: 0 };
let days = 0;

function openLandmarker(runningMode: "VIDEO" | "IMAGE", numFaces: number): Promise<FaceLandmarker> {
  return FaceLandmarker.createFromOptions(
    { wasmLoaderPath: "/wasm/vision_wasm_internal.js", wasmBinaryPath: "/wasm/vision_wasm_internal.wasm" },
    {
      baseOptions: { modelAssetPath: "/assets/face_landmarker.task", delegate: "CPU" },
      runningMode,
      numFaces,
      outputFacialTransformationMatrixes: false,
    },
  );
}

const OUTLINE = [
  FaceLandmarker.FACE_LANDMARKS_FACE_OVAL,
  FaceLandmarker.FACE_LANDMARKS_LIPS,
  FaceLandmarker.FACE_LANDMARKS_LEFT_EYE,
  FaceLandmarker.FACE_LANDMARKS_RIGHT_EYE,
  FaceLandmarker.FACE_LANDMARKS_LEFT_EYEBROW,
  FaceLandmarker.FACE_LANDMARKS_RIGHT_EYEBROW,
].map((lines) => lines.flatMap(({ start, end }) => [start, end]));

opening.then(
  () => scope.postMessage({ type: "ready", outline: OUTLINE }, []),
  (error: unknown) => scope.postMessage({ type: "failed", message: String(error) }, []),
);

scope.onmessage = async ({ data }) => {
  const [follower, counter] = await opening;
  const startedMs = performance.now();
  const { width, height } = data.picture;
  if (days === MAX_DAYS) {
    await follower.setOptions({}); // which begins its time anew
    days = 0;
  }
  days += 1;
  const [landmarks] = follower.detectForVideo(data.picture, days * DAY_MS).faceLandmarks;
  if (!landmarks) {
    counted = { atS: -Infinity, faces: 0 };
  } else if (data.timeS - counted.atS >= COUNT_EVERY_S) {
    counted = { atS: data.timeS, faces: Math.max(1, counter.detect(data.picture).faceLandmarks.length) };
  }
  data.picture.close();
  const points = landmarks ? inPixels(landmarks, width, height) : null;
  const face: FaceGeometry = { widthPx: width, heightPx: height, faces: counted.faces, points };
  const workS = (performance.now() - startedMs) / 1000;
  scope.postMessage({ type: "face", timeS: data.timeS, workS, face }, points ? [points.buffer] : []);
};

function inPixels(landmarks: NormalizedLandmark[], widthPx: number, heightPx: number): Float32Array<ArrayBuffer> {
  return new Float32Array(landmarks.flatMap(({ x, y, z }) => [x * widthPx, y * heightPx, z * widthPx]));
}
