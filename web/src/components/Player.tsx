import { useEffect, useMemo, useRef, useState } from "react";
import { api, type SessionDetails } from "../api";
import { nowS } from "../clock";
import { Notice } from "./Notice";

const TICK_MS = 60;

/** A session played back: its video where there is one, and its words as they appeared. */
export function Player({ id }: { id: string }) {
  const [session, setSession] = useState<SessionDetails | null>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    api.session(id).then(setSession, (failure: Error) => setError(failure.message));
  }, [id]);
  if (error) return <Notice>{error}</Notice>;
  return session ? <Playing session={session} /> : <p>Loading …</p>;
}

function Playing({ session }: { session: SessionDetails }) {
  const endS = useMemo(
    () =>
      Math.max(0.1, ...session.texts.map((text) => text.t_end), ...session.segments.map((segment) => segment.t_end)),
    [session],
  );
  const [timeS, setTimeS] = useState(0);
  const [running, setRunning] = useState(false);
  const video = useRef<HTMLVideoElement>(null);
  const segment = session.segments.findLast(({ t_start, video: there }) => there && t_start <= timeS);
  const inSegment = segment !== undefined && timeS <= segment.t_end;

  useEffect(() => {
    if (!running) return;
    let lastS = nowS();
    const timer = setInterval(() => {
      const now = nowS();
      const passedS = now - lastS;
      lastS = now;
      setTimeS((before) => Math.min(endS, before + passedS));
    }, TICK_MS);
    return () => clearInterval(timer);
  }, [running, endS]);
  useEffect(() => {
    if (timeS >= endS) setRunning(false);
  }, [timeS, endS]);
  useEffect(() => {
    const shown = video.current;
    if (!shown || !segment) return;
    const place = timeS - segment.t_start;
    if (Math.abs(shown.currentTime - place) > 0.3) shown.currentTime = place;
    if (running && inSegment && shown.paused) shown.play().catch(() => {});
    if ((!running || !inSegment) && !shown.paused) shown.pause();
  }, [timeS, running, segment, inSegment]);

  return (
    <div className="player">
      {segment && (
        <video
          key={segment.name}
          ref={video}
          src={api.videoAddress(session.id, segment.name)}
          muted
          playsInline
          preload="auto"
          aria-label="The recorded picture"
        />
      )}
      <p className="row controls">
        <button
          type="button"
          onClick={() => {
            if (!running && timeS >= endS) setTimeS(0);
            setRunning(!running);
          }}
        >
          {running ? "Pause" : "Play"}
        </button>
        <input
          type="range"
          aria-label="Time"
          min={0}
          max={endS}
          step={0.05}
          value={timeS}
          aria-valuetext={clock(timeS)}
          onChange={(event) => setTimeS(Number(event.target.value))}
        />
        <span className="small">
          {clock(timeS)} of {clock(endS)}
        </span>
      </p>
      <ol className="messages still">
        {session.texts
          .filter((text) => text.t_start <= timeS)
          .map((text) => (
            <li
              key={`${text.t_start} ${text.speaker}`}
              className={`turn ${text.speaker === session.filmed_speaker ? "user" : "assistant"}`}
            >
              <span className="unseen">{text.speaker}: </span>
              <p className="text" dir="auto">
                {shownBy(text, timeS)}
              </p>
            </li>
          ))}
      </ol>
    </div>
  );
}

function shownBy(text: SessionDetails["texts"][number], timeS: number): string {
  if (timeS >= text.t_end) return text.text;
  const chars = Array.from(text.text);
  const { char_times } = text;
  if (char_times) return chars.filter((_, at) => (char_times[at] ?? 0) <= timeS).join("");
  const share = (timeS - text.t_start) / Math.max(0.01, text.t_end - text.t_start);
  return chars.slice(0, Math.ceil(share * chars.length)).join("");
}

function clock(timeS: number): string {
  const whole = Math.floor(timeS);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
