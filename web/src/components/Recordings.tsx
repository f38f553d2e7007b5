import { useCallback, useEffect, useState } from "react";
import { api, type SessionList, type SessionSummary } from "../api";
import { useWork } from "../useWork";
import { DeleteDialog } from "./Dialog";
import { Notice } from "./Notice";
import { Player } from "./Player";
import { TrainOn } from "./TrainOn";

export function Recordings() {
  const [list, setList] = useState<SessionList | null>(null);
  const [played, setPlayed] = useState<string | null>(null);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [doomed, setDoomed] = useState<SessionSummary | null>(null);
  const fetched = useCallback(async () => setList(await api.sessions()), []);
  const { busy, error, load, act } = useWork(fetched);
  useEffect(() => void load(), [load]);
  return (
    <main id="main" className="sheet wide">
      <h1>Recordings</h1>
      <Notice>{error}</Notice>
      {list && list.sessions.length === 0 && (
        <p>
          {list.recording
            ? "Nothing is recorded yet. Press “Record this conversation” while you talk."
            : "This server does not record. Start it with --record FOLDER to let it."}
        </p>
      )}
      <ul className="recordings">
        {list?.sessions.map((session) => (
          <Recording
            key={session.id}
            session={session}
            chosen={chosen.has(session.id)}
            played={played === session.id}
            busy={busy}
            onChoose={(is) => setChosen((before) => withOrWithout(before, session.id, is))}
            onPlay={(is) => setPlayed(is ? session.id : null)}
            onDropVideo={() => act(session.id, api.keep(session.id, "geometry"))}
            onDelete={() => setDoomed(session)}
          />
        ))}
      </ul>
      {list && list.sessions.length > 0 && (
        <TrainOn sessions={list.sessions.filter((session) => chosen.has(session.id))} />
      )}
      {doomed && (
        <DeleteDialog
          title={`Delete the recording of ${when(doomed)}?`}
          onDelete={() => {
            if (played === doomed.id) setPlayed(null);
            act(doomed.id, api.remove(doomed.id));
          }}
          onClose={() => setDoomed(null)}
        >
          Its pictures, its words, and reports and evaluations that hold any of them go at once. A model that was
          trained on it stays.
        </DeleteDialog>
      )}
    </main>
  );
}

interface Props {
  session: SessionSummary;
  chosen: boolean;
  played: boolean;
  /** The recording that the server is working on. */
  busy: string | null;
  onChoose: (is: boolean) => void;
  onPlay: (is: boolean) => void;
  onDropVideo: () => void;
  onDelete: () => void;
}

function Recording({ session, chosen, played, busy, onChoose, onPlay, onDropVideo, onDelete }: Props) {
  return (
    <li>
      <h2>{when(session)}</h2>
      <p className="small">{described(session)}</p>
      <label className="pick">
        <input
          type="checkbox"
          checked={chosen}
          disabled={session.replies === 0}
          onChange={({ target }) => onChoose(target.checked)}
        />{" "}
        Train on this
        {session.replies === 0 && <span className="small">(no reply to your words is in it to learn from)</span>}
      </label>
      <p className="row">
        <button type="button" aria-expanded={played} onClick={() => onPlay(!played)}>
          {played ? "Close" : "Play back"}
        </button>
        <a className="button" href={api.exportAddress(session.id)} download={`${session.id}.zip`}>
          Export
        </a>
        {session.video && (
          <button type="button" disabled={busy !== null} onClick={onDropVideo}>
            Keep geometry only
          </button>
        )}
        <button type="button" className="danger" disabled={busy !== null} onClick={onDelete}>
          Delete
        </button>
      </p>
      {busy === session.id && <p role="status">Working on it …</p>}
      {played && <Player key={`${session.video}`} id={session.id} />}
    </li>
  );
}

function withOrWithout(before: ReadonlySet<string>, id: string, is: boolean): ReadonlySet<string> {
  const after = new Set(before);
  if (is) after.add(id);
  else after.delete(id);
  return after;
}

function when(session: SessionSummary): string {
  const started = new Date(session.started_utc);
  return Number.isNaN(started.getTime())
    ? session.id
    : started.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

function described(session: SessionSummary): string {
  const minutes = session.minutes < 1 ? `${Math.round(60 * session.minutes)} s` : `${session.minutes.toFixed(1)} min`;
  const seen = session.face_share === null ? "" : `, face seen ${Math.round(100 * session.face_share)} % of the time`;
  return `${minutes}, ${session.words} words, ${session.replies} ${session.replies === 1 ? "reply" : "replies"}, ${session.video ? "with video" : "no pictures"}${seen}`;
}
