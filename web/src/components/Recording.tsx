import { useEffect, useState } from "react";
import { api } from "../api";
import type { Keep } from "../protocol";
import type { Seeing } from "../storage";
import type { Realtime } from "../useRealtime";
import { Dialog } from "./Dialog";
import { Notice } from "./Notice";

/** What a person agrees to by pressing the button; it is written into the recording. */
const CONSENT: Record<Keep, string> = {
  video:
    "I agree that the pictures of my face, what I write with the time of each key, and the replies are kept on this server, to train models on. I can delete them at any time.",
  geometry:
    "I agree that points of my face, what I write with the time of each key, and the replies are kept on this server, to train models on. No picture is kept. I can delete them at any time.",
};

/** Added where the words of another person are in the recording, and one's own in theirs. */
const CONSENT_OF_TWO =
  " What I write is kept in the other person's recording too, if they record, as theirs is kept in mine; deleting mine does not delete theirs.";

export function RecordControl({ realtime, seeing, seen }: { realtime: Realtime; seeing: Seeing; seen: boolean }) {
  const [asking, setAsking] = useState(false);
  const [ofPicture, setOfPicture] = useState<Keep>("video");
  const keep = seeing === "video" ? ofPicture : "geometry";
  const { recordingId, session } = realtime.conversation;
  const possible = session?.can_record !== false;
  const consent = CONSENT[keep] + (session?.room ? CONSENT_OF_TWO : "");
  if (recordingId) {
    return (
      <button type="button" className="stop" onClick={() => realtime.record(null)}>
        Stop recording
      </button>
    );
  }
  if (seeing === "text") return null;
  return (
    <>
      <button type="button" disabled={!possible || !seen || realtime.link !== "open"} onClick={() => setAsking(true)}>
        Record this conversation
      </button>
      {!possible && <p className="small">Recording is off: start the server with --record FOLDER.</p>}
      {asking && (
        <Dialog title="Record this conversation" onClose={() => setAsking(false)}>
          {seeing === "video" && (
            <fieldset className="choices inline">
              <legend>What is kept of the picture?</legend>
              <label>
                <input type="radio" checked={keep === "video"} onChange={() => setOfPicture("video")} name="keep" /> The
                video
              </label>
              <label>
                <input
                  type="radio"
                  checked={keep === "geometry"}
                  onChange={() => setOfPicture("geometry")}
                  name="keep"
                />{" "}
                Face geometry only
              </label>
            </fieldset>
          )}
          <p>{consent}</p>
          <p className="row end">
            <button type="button" onClick={() => setAsking(false)}>
              Do not record
            </button>
            <button
              type="button"
              className="primary"
              onClick={() => {
                realtime.record({ keep, consent });
                setAsking(false);
              }}
            >
              I agree, record
            </button>
          </p>
        </Dialog>
      )}
    </>
  );
}

/** After a recording has ended: what is to become of it. Closing the dialog keeps it. */
export function EndedRecording({ realtime }: { realtime: Realtime }) {
  const { endedRecordingId, session } = realtime.conversation;
  // That of before a reload ends when the server hears of the reload.
  const id = session && endedRecordingId;
  const [hasVideo, setHasVideo] = useState(false);
  const [working, setWorking] = useState<string | null>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    setHasVideo(false);
    setError(null);
    if (id)
      api.session(id).then(
        ({ video }) => setHasVideo(video),
        () => {},
      );
  }, [id]);
  if (!id) return null;
  const settle = (what: string, done: Promise<unknown>) => {
    setWorking(what);
    setError(null);
    done.then(realtime.recordingSettled, (failure: Error) => setError(failure.message)).finally(() => setWorking(null));
  };
  return (
    <Dialog title="What is to become of the recording?" onClose={realtime.recordingSettled}>
      <p>It is kept as “{id}” on the server. You can look at it, export it or delete it later, too.</p>
      {working && <p role="status">{working}</p>}
      <Notice>{error}</Notice>
      <p className="row end">
        <button
          type="button"
          className="danger"
          disabled={working !== null}
          onClick={() => settle("Deleting …", api.remove(id))}
        >
          Delete
        </button>
        {hasVideo && (
          <button
            type="button"
            disabled={working !== null}
            onClick={() => settle("Turning the video into geometry, then deleting it …", api.keep(id, "geometry"))}
          >
            Keep geometry only
          </button>
        )}
        <button type="button" className="primary" disabled={working !== null} onClick={realtime.recordingSettled}>
          Keep
        </button>
      </p>
    </Dialog>
  );
}
