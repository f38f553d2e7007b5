import type { Link } from "../connection";
import type { Conversation } from "../conversation";
import type { Camera } from "../face/useCamera";
import type { ServerStateName } from "../protocol";
import type { Seeing } from "../storage";
import type { Realtime } from "../useRealtime";

const STATES: Record<ServerStateName, string> = {
  idle: "Ready",
  watching: "Watching",
  thinking: "Thinking",
  writing: "Writing",
  away: "Nobody in view",
};

const LINKS: Record<Exclude<Link, "open">, string> = {
  connecting: "Connecting",
  lost: "Server not reached, trying again",
  full: "The server is full, trying again soon",
  "room full": "Two people are in this conversation already",
  "room over": "This conversation of two is over; ask for a new link",
  refused: "No access: open the whole address that the server printed when it was started",
};

/**
 * What goes on, always in the same place: the model's state, whether it sees a face, and at what rate. Said aloud are the
 * link and the face; the model's state would speak into its own reply.
 */
export function StatusBar({ realtime, seeing, camera }: { realtime: Realtime; seeing: Seeing; camera: Camera }) {
  const { conversation, link } = realtime;
  const { state } = conversation.server;
  const face = faceText(realtime, seeing, camera);
  const said = link !== "open" ? LINKS[link] : conversation.session?.room ? peopleText(conversation) : null;
  return (
    <div className="status">
      {said === null && <State state={state} text={STATES[state]} />}
      <div className="said" role="status" aria-atomic="false">
        {said !== null && <State state={link === "open" ? state : "off"} text={said} />}
        {link !== "open" && link !== "connecting" && (
          <button type="button" className="plain" onClick={realtime.retryNow}>
            Try now
          </button>
        )}
        <span className={`face ${face.seen ? "seen" : "unseen-face"}`}>{face.text}</span>
      </div>
      {camera.status?.slowed && (
        <span className="slow">This machine is busy: {camera.status.rateHz} pictures a second instead of 15</span>
      )}
    </div>
  );
}

function State({ state, text }: { state: ServerStateName | "off"; text: string }) {
  return (
    <span className={`state ${state}`}>
      <span className="dot" aria-hidden="true" />
      {text}
    </span>
  );
}

function peopleText({ room }: Conversation): string {
  return room?.people === 2 ? "Both here" : "The other person is not here";
}

function faceText(realtime: Realtime, seeing: Seeing, camera: Camera): { text: string; seen: boolean } {
  if (seeing === "text") return { text: "No camera", seen: false };
  if (camera.trouble?.kind === "still") return { text: "No pictures from the camera", seen: false };
  if (camera.trouble) return { text: "Camera off", seen: false };
  if (!camera.status) return { text: "Camera starting", seen: false };
  if (!camera.status.ready) return { text: "Face model loading", seen: false };
  if (realtime.link !== "open") return { text: "Camera on", seen: false };
  const { faceSeen } = realtime.conversation.server;
  return { text: faceSeen ? "Face seen" : "Face not seen", seen: faceSeen };
}
