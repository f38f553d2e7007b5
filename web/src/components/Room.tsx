import { useRef, useState } from "react";
import { withToken } from "../access";
import { api } from "../api";
import type { Realtime } from "../useRealtime";
import { Notice } from "./Notice";

/** Which model answers; another conversation with it, or with a person. */
export function NewConversation({ realtime }: { realtime: Realtime }) {
  const [error, setError] = useState<string | null>(null);
  const { session, turns } = realtime.conversation;
  const invite = () => {
    api.openRoom().then(
      (room) => {
        location.hash = `#room/${room}`;
      },
      (failure: Error) => setError(failure.message),
    );
  };
  return (
    <div className="others">
      {session && <p className="small">Model: {session.model}</p>}
      <p className="row small">
        <button type="button" className="plain" disabled={turns.length === 0} onClick={realtime.beginAnew}>
          New conversation
        </button>
        <button type="button" className="plain" onClick={invite}>
          Invite a second person
        </button>
      </p>
      <Notice>{error}</Notice>
    </div>
  );
}

/** The link for the other person, and what there is to know of them. */
export function RoomPanel({ room, realtime }: { room: string; realtime: Realtime }) {
  const field = useRef<HTMLInputElement>(null);
  const [said, setSaid] = useState("");
  const here = realtime.conversation.room;
  const link = new URL(`${withToken("/")}#room/${room}`, location.origin).href;
  const copy = () => {
    const select = () => {
      field.current?.focus();
      setSaid("The link is selected; copy it with Ctrl+C, or by a long press.");
    };
    if (!navigator.clipboard) return select(); // browsers have none without HTTPS
    navigator.clipboard.writeText(link).then(() => setSaid("Copied."), select);
  };
  return (
    <div className="others">
      {here?.people !== 2 && (
        <>
          <label htmlFor="room-link">Link for the other person</label>
          <input id="room-link" ref={field} readOnly value={link} onFocus={({ target }) => target.select()} />
          <p className="row small">
            <button type="button" className="plain" onClick={copy}>
              Copy
            </button>
            <span role="status">{said}</span>
          </p>
          <p className="small">
            Whoever has it can use this server as you do
            {/^(localhost|127\.|\[::1\])/.test(location.hostname) && "; this address works on this machine alone"}.
          </p>
        </>
      )}
      {here?.people === 2 && realtime.conversation.session?.can_record && (
        <p className="small">
          {here.otherRecording
            ? "The other person records: what you write is kept for them while you record too."
            : "The other person does not record: their words are not kept."}
        </p>
      )}
      <a className="button" href="#talk">
        Leave
      </a>
    </div>
  );
}
