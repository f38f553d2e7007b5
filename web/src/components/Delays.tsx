import type { Conversation } from "../conversation";
import type { Camera } from "../face/useCamera";

const NAMES: Record<string, string> = {
  first_token: "Enter to first word",
  token: "Each piece of a word",
  face_age: "Age of the face at a word",
  frame_to_latent: "Face to numbers",
  face_to_token: "Face to the word it shapes",
  wait: "Waiting for other conversations",
};

interface Props {
  conversation: Conversation;
  camera: Camera;
  droppedHere: () => number;
}

/** Where the time goes, from the camera to the word. */
export function Delays({ conversation, camera, droppedHere }: Props) {
  const { stagesMs, server } = conversation;
  const rows = Object.entries(stagesMs).map(([stage, ms]): [string, string] => [
    NAMES[stage] ?? stage.replaceAll("_", " "),
    `${ms.toFixed(ms < 10 ? 1 : 0)} ms`,
  ]);
  const { status } = camera;
  if (status?.workMs != null) rows.unshift(["Face points in this browser", `${status.workMs.toFixed(0)} ms`]);
  if (status) rows.push(["Pictures a second", `at most ${status.rateHz}`]);
  if (status)
    rows.push(["Pictures dropped", `${status.dropped + droppedHere()} here, ${server.dropped} at the server`]);
  rows.push(["Pictures that reached the model", String(server.frames)]);
  return (
    <details className="delays">
      <summary>Delays</summary>
      <dl>
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
