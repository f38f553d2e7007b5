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

// Two faces: one alone would be smoothed over time, which the server's own landmarker does not do either.
const opening = FaceLandmarker.createFromOptions(
  { wasmLoaderPath: "/wasm/vision_wasm_internal.js", wasmBinaryPath: "/wasm/vision_wasm_internal.wasm" },
  {
    baseOptions: { modelAssetPath: "/assets/face_landmarker.task", delegate: "CPU" },
    runningMode: "VIDEO",
    numFaces: 2,
    outputFaceBlendshapes: false,
    outputFacialTransformationMatrixes: false,
  },
);

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
  const landmarker = await opening;
  const startedMs = performance.now();
  const { width, height } = data.picture;
  const { faceLandmarks } = landmarker.detectForVideo(data.picture, data.timeS * 1000);
  data.picture.close();
  const face = largest(faceLandmarks, width, height);
  const workS = (performance.now() - startedMs) / 1000;
  scope.postMessage({ type: "face", timeS: data.timeS, workS, face }, face.points ? [face.points.buffer] : []);
};

function largest(faces: NormalizedLandmark[][], widthPx: number, heightPx: number): FaceGeometry {
  let best: Float32Array | null = null;
  let bestArea = 0;
  for (const landmarks of faces) {
    const points = new Float32Array(landmarks.flatMap(({ x, y, z }) => [x * widthPx, y * heightPx, z * widthPx]));
    const area = areaOf(points);
    if (area > bestArea) [best, bestArea] = [points, area];
  }
  return { widthPx, heightPx, faces: faces.length, points: best };
}

function areaOf(points: Float32Array): number {
  const low = [Infinity, Infinity];
  const high = [-Infinity, -Infinity];
  for (let at = 0; at < points.length; at++) {
    const axis = at % 3;
    if (axis === 2) continue;
    const value = points[at] as number;
    low[axis] = Math.min(low[axis] as number, value);
    high[axis] = Math.max(high[axis] as number, value);
  }
  return ((high[0] as number) - (low[0] as number)) * ((high[1] as number) - (low[1] as number));
}
