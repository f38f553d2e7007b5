import { useEffect, useRef } from "react";
import { useCamera } from "../face/useCamera";
import { useFocusKept } from "../focus";
import type { Seeing } from "../storage";
import { useRealtime } from "../useRealtime";
import { Composer } from "./Composer";
import { Delays } from "./Delays";
import { Messages } from "./Messages";
import { More } from "./More";
import { Notice } from "./Notice";
import { EndedRecording, RecordControl } from "./Recording";
import { NewConversation, RoomPanel } from "./Room";
import { SelfView } from "./SelfView";
import { StatusBar } from "./StatusBar";

/** What the page has to say also where the conversation is not shown. */
export type GoesOn = "Recording" | "Camera on";

interface Props {
  seeing: Seeing;
  /** Of two people; null with the model. */
  room: string | null;
  /** While another place of the page is shown instead, everything here goes on unseen. */
  shown: boolean;
  onChange: (seeing: Seeing | null) => void;
  onGoesOn: (what: GoesOn | null) => void;
}

export function Talk({ seeing, room, shown, onChange, onGoesOn }: Props) {
  const realtime = useRealtime(room);
  const { conversation, interrupt } = realtime;
  const camera = useCamera(seeing, realtime.sendFrame);
  const field = useRef<HTMLTextAreaElement>(null);

  useEffect(() => {
    const stop = (event: KeyboardEvent) => {
      if (shown && event.key === "Escape" && !document.querySelector("dialog[open]")) interrupt();
    };
    addEventListener("keydown", stop);
    return () => removeEventListener("keydown", stop);
  }, [interrupt, shown]);
  useEffect(() => {
    if (shown) field.current?.focus({ preventScroll: true });
  }, [shown]);
  useFocusKept(conversation.recordingId);
  const goesOn = conversation.recordingId ? "Recording" : camera.status ? "Camera on" : null;
  useEffect(() => {
    onGoesOn(goesOn);
    return () => onGoesOn(null);
  }, [goesOn, onGoesOn]);

  const accepts = conversation.session?.accepts;
  const unread = accepts && seeing !== "text" && !accepts.includes(seeing === "video" ? "picture" : "geometry");
  return (
    <main id={shown ? "main" : undefined} className={shown ? "talk" : "talk away"}>
      <h1 className="unseen">Conversation</h1>
      <StatusBar realtime={realtime} seeing={seeing} camera={camera} />
      <aside className="side" aria-label="Camera">
        <SelfView seeing={seeing} camera={camera} unread={unread === true} onChange={onChange} />
        <More unfoldedFirst={room !== null}>
          <RecordControl realtime={realtime} seeing={seeing} seen={camera.status !== null} />
          {camera.trouble && <p className="small">Recording needs the camera.</p>}
          {room ? <RoomPanel room={room} realtime={realtime} /> : <NewConversation realtime={realtime} />}
          <Delays conversation={conversation} camera={camera} droppedHere={realtime.dropped} />
        </More>
      </aside>
      <section className="words" aria-label="Conversation">
        {conversation.server.alarm && (
          <p className="notice alarm" role="alert">
            {conversation.server.alarm}
          </p>
        )}
        <Messages conversation={conversation} inRoom={room !== null} onSayAgain={realtime.sayAgain} />
        {conversation.error && (
          <Notice>
            {conversation.error}{" "}
            <button type="button" className="plain" onClick={realtime.dismissError}>
              Dismiss
            </button>
          </Notice>
        )}
        <Composer field={field} realtime={realtime} writing={conversation.responseId !== null} />
      </section>
      <EndedRecording realtime={realtime} />
      <div className="unseen" aria-live="polite">
        {conversation.spoken}
      </div>
    </main>
  );
}
