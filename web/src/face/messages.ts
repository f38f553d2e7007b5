import type { FaceGeometry } from "../protocol";

/** Lines of the face as pairs of point numbers, one flat list a feature. */
export type Outline = number[][];

export type ToWorker = { type: "picture"; picture: ImageBitmap; timeS: number };

export type FromWorker =
  | { type: "ready"; outline: Outline }
  | { type: "face"; timeS: number; workS: number; face: FaceGeometry }
  | { type: "failed"; message: string };
