import { useState } from "react";
import { api, type SessionSummary } from "../api";
import { Notice } from "./Notice";

/** Starts a run on chosen sessions, and says what can be known from so many. */
export function TrainOn({ sessions }: { sessions: SessionSummary[] }) {
  const [holdOut, setHoldOut] = useState(true);
  const [starting, setStarting] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const count = sessions.length;
  const held = holdOut && count > 1;
  const start = () => {
    setStarting(true);
    api
      .train(
        sessions.map(({ id }) => id),
        held,
      )
      .then(
        () => {
          location.hash = "#models";
        },
        (failure: Error) => {
          setError(failure.message);
          setStarting(false);
        },
      );
  };
  return (
    <section className="train" aria-label="Training">
      <h2>Train a model on what is chosen</h2>
      <p className="small">{knowable(sessions, held)}</p>
      <p className="row">
        <label className="pick">
          <input
            type="checkbox"
            checked={held}
            disabled={count < 2}
            onChange={({ target }) => setHoldOut(target.checked)}
          />{" "}
          Keep some from training, to see whether the face is used
        </label>
        <button type="button" className="primary" disabled={count === 0 || starting} onClick={start}>
          {count === 0 ? "Train" : `Train on ${count} ${count === 1 ? "recording" : "recordings"}`}
        </button>
      </p>
      <Notice>{error}</Notice>
    </section>
  );
}

function knowable(sessions: SessionSummary[], held: boolean): string {
  if (sessions.length === 0)
    return "Choose recordings above. It takes some minutes, and conversations go on meanwhile.";
  const minutes = sessions.reduce((sum, session) => sum + session.minutes, 0);
  const much = `${minutes < 1 ? `${Math.round(60 * minutes)} seconds` : `${Math.round(minutes)} minutes`} in all.`;
  if (sessions.length === 1)
    return `${much} With one recording nothing can be kept from training, so nobody can tell whether the model uses the face.`;
  if (!held) return `${much} Nothing is kept from training, so nobody can tell whether the model uses the face.`;
  return `${much} Each recording counts as another person. If all are of you, the result tells whether the model reads your face on another occasion, not whether it reads anybody else’s; and with few recordings most often that nothing can be told.`;
}
