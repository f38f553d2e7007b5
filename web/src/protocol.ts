/** What goes over the WebSocket, as far as the page uses it; `docs/server.md` has all of it in words. Times are seconds. */

export type ServerStateName = "idle" | "watching" | "thinking" | "writing" | "away";
export type Keep = "video" | "geometry";

export interface SessionInfo {
  id: string;
  model: string;
  resume: string;
  limits: { text_chars: number };
  accepts: ("picture" | "geometry")[];
  recording: Keep | null;
  can_record: boolean;
  room: string | null;
}

export interface RememberedTurn {
  role: "user" | "assistant" | "other";
  text: string;
}

export type ServerEvent =
  | { type: "session.created"; session: SessionInfo }
  | { type: "session.resumed"; session: SessionInfo; turns: RememberedTurn[] }
  | { type: "session.updated"; session: SessionInfo }
  | { type: "clock.ping"; server_time_s: number }
  | { type: "conversation.item.added"; item: { id: string } }
  | { type: "response.created"; response: { id: string } }
  | { type: "response.output_text.delta"; response_id: string; delta: string; moved_bits: number }
  | { type: "response.output_text.done"; response_id: string; text: string }
  | {
      type: "response.done";
      response: { id: string; status: "completed" | "cancelled" | "incomplete" | "failed"; stages_ms: Stages };
    }
  | {
      type: "state.changed";
      state: ServerStateName;
      face_seen: boolean;
      alarm: string | null;
      frames: number;
      dropped: number;
      stages_ms: Stages;
    }
  | { type: "room.changed"; people: number; other_recording: boolean }
  | { type: "room.message"; item_id: string; text: string }
  | { type: "recording.started"; session_id: string }
  | { type: "recording.stopped"; session_id: string }
  | { type: "error"; error: { code: string; message: string; event_id: string | null } };

/** Milliseconds by stage; one that has not been measured is absent. */
export type Stages = Record<string, number>;

export type ClientEvent =
  | { type: "session.update"; session: { recording: { keep: Keep; consent: string } | null } }
  | { type: "input_text.draft"; text: string }
  | {
      type: "conversation.item.create";
      /** Comes back in the error where the message is refused. */
      event_id: string;
      item: {
        id: string;
        type: "message";
        role: "user" | "assistant";
        content: [{ type: "input_text" | "output_text"; text: string }];
        char_times?: number[];
      };
    }
  | { type: "response.create" }
  | { type: "response.cancel" }
  | { type: "clock.pong"; server_time_s: number; client_time_s: number };

const HEADER_BYTES = 16;
const PICTURE = 1;
const GEOMETRY = 2;
export const POINTS = 478;

/** The points of the largest face in a picture; `points` is null where nobody is in view. */
export interface FaceGeometry {
  widthPx: number;
  heightPx: number;
  faces: number;
  /** [478 * 3]: x and y in pixels of the picture, z in the same scale. */
  points: Float32Array | null;
}

export function packPicture(captureTimeS: number, picture: ArrayBuffer): ArrayBuffer {
  const message = new ArrayBuffer(HEADER_BYTES + picture.byteLength);
  writeHeader(message, PICTURE, captureTimeS);
  new Uint8Array(message, HEADER_BYTES).set(new Uint8Array(picture));
  return message;
}

export function packGeometry(captureTimeS: number, face: FaceGeometry): ArrayBuffer {
  const numbers = face.points?.length ?? 0;
  const message = new ArrayBuffer(HEADER_BYTES + 12 + (numbers ? 4 + 4 * numbers : 0));
  const view = writeHeader(message, GEOMETRY, captureTimeS);
  view.setUint32(16, face.widthPx, true);
  view.setUint32(20, face.heightPx, true);
  view.setUint32(24, face.points ? face.faces : 0, true);
  if (face.points) {
    view.setFloat32(28, 1, true);
    for (const [index, value] of face.points.entries()) view.setFloat32(32 + 4 * index, value, true);
  }
  return message;
}

function writeHeader(message: ArrayBuffer, kind: number, captureTimeS: number): DataView {
  const view = new DataView(message);
  view.setUint8(0, kind);
  view.setFloat64(8, captureTimeS, true);
  return view;
}
