import { useState } from "react";
import type { Camera } from "../face/useCamera";
import { useFocusKept } from "../focus";
import type { Seeing } from "../storage";
import { Notice } from "./Notice";

interface Props {
  seeing: Seeing;
  camera: Camera;
  /** The model does not read what this page was allowed to send. */
  unread: boolean;
  onChange: (seeing: Seeing | null) => void;
}

export function SelfView({ seeing, camera, unread, onChange }: Props) {
  const [shown, setShown] = useState(true);
  const { trouble } = camera;
  useFocusKept(trouble?.kind);
  const visible = seeing !== "text" && shown && !trouble;
  return (
    <div className="self">
      {seeing !== "text" && (
        // Never removed while the camera runs: its frames are the model's eyes.
        <div className={visible ? "picture" : "picture tucked"}>
          <video ref={camera.videoRef} muted playsInline aria-label="Your own picture" />
          <svg ref={camera.outlineRef} preserveAspectRatio="xMidYMid slice" aria-hidden="true">
            <path />
          </svg>
        </div>
      )}
      {trouble && (
        <div className="notice" role="alert">
          <p>
            <strong>{trouble.title}</strong> {trouble.remedy}
          </p>
          <p className="row">
            <button type="button" onClick={camera.retry}>
              Try again
            </button>
            <button type="button" onClick={() => onChange("text")}>
              Go on without
            </button>
          </p>
        </div>
      )}
      {unread && (
        <Notice>
          This model does not read {seeing === "video" ? "pictures" : "face points"}. Press “Change” to choose{" "}
          {seeing === "video" ? "face points" : "video"}.
        </Notice>
      )}
      <p className="row small">
        <span className="sent">{SENT[seeing]}</span>
        {seeing !== "text" && !trouble && (
          <button type="button" className="plain show" onClick={() => setShown(!shown)}>
            {shown ? "Hide picture" : "Show picture"}
          </button>
        )}
        <button type="button" className="plain" onClick={() => onChange(null)}>
          Change
        </button>
      </p>
    </div>
  );
}

const SENT: Record<Seeing, string> = {
  geometry: "Only face points leave this page.",
  video: "Pictures go to the server.",
  text: "Text only.",
};
