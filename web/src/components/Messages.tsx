import { memo, useCallback, useEffect, useLayoutEffect, useRef } from "react";
import type { Conversation } from "../conversation";
import { meanBits, type Turn, textOf } from "../turns";
import { Words } from "./Words";

const NEAR_END_PX = 80;

interface Props {
  conversation: Conversation;
  inRoom: boolean;
  onSayAgain: (turn: Turn) => void;
}

export function Messages({ conversation, inRoom, onSayAgain }: Props) {
  const { turns, server } = conversation;
  const list = useRef<HTMLOListElement>(null);
  const followed = useRef(true);
  const newestOwn = turns.findLast(({ role }) => role === "user")?.id;
  // biome-ignore lint/correctness/useExhaustiveDependencies: what one has just sent is shown wherever the list stood
  useLayoutEffect(() => {
    followed.current = true;
  }, [newestOwn]);
  const follow = useCallback(() => {
    if (followed.current && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: new words move the list on
  useEffect(follow, [turns]);
  const isEmpty = turns.length === 0;
  useEffect(() => {
    if (isEmpty || !list.current) return;
    const resized = new ResizeObserver(follow); // a phone's keyboard takes half of it
    resized.observe(list.current);
    return () => resized.disconnect();
  }, [isEmpty, follow]);
  if (isEmpty) return inRoom ? <WelcomeOfTwo /> : <Welcome />;
  return (
    <ol
      ref={list}
      className="messages"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
      aria-label="Messages"
      onScroll={({ currentTarget: box }) => {
        followed.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
      }}
    >
      {turns.map((turn) => (
        <Message key={turn.id} turn={turn} onSayAgain={onSayAgain} />
      ))}
      {server.state === "thinking" && (
        <li className="turn assistant" aria-hidden="true">
          <span className="pulse">
            <i />
            <i />
            <i />
          </span>
        </li>
      )}
    </ol>
  );
}

function Welcome() {
  return (
    <div className="welcome">
      <p className="lead">Say something, and let your face answer too.</p>
      <p>
        Words that your face has shaped are underlined; the stronger the line, the more. Smile or frown while a reply is
        being written, and it can bend midway. To interrupt, just type, or press Escape.
      </p>
    </div>
  );
}

function WelcomeOfTwo() {
  return (
    <div className="welcome">
      <p className="lead">Two people, and no model.</p>
      <p>
        You write to each other; neither sees the other’s picture. If both of you record, what one writes becomes an
        answer to the other’s face, for a model to learn from.
      </p>
    </div>
  );
}

const SPEAKERS: Record<Turn["role"], string> = { user: "You", assistant: "Model", other: "The other person", note: "" };

/** Drawn anew only where it has changed: a long conversation would hold up each piece of a reply. */
const Message = memo(function Message({ turn, onSayAgain }: { turn: Turn; onSayAgain: (turn: Turn) => void }) {
  if (turn.role === "note") return <li className="note">{textOf(turn)}</li>;
  const bits = turn.role === "assistant" ? meanBits(turn.pieces) : null;
  return (
    <li className={`turn ${turn.role}`}>
      <span className="unseen">{`${SPEAKERS[turn.role]}: `}</span>
      <p className="text" dir="auto">
        {turn.role === "assistant" ? <Words pieces={turn.pieces} /> : textOf(turn)}
      </p>
      <p className="under">
        {turn.status === "queued" && <span>Waits for the server</span>}
        {turn.status === "sending" && <span>Sending</span>}
        {turn.status === "failed" && <span className="bad">{turn.role === "user" ? "Not sent" : "Failed"}</span>}
        {turn.status === "failed" && turn.role === "user" && (
          <button type="button" className="plain" onClick={() => onSayAgain(turn)}>
            Send again
          </button>
        )}
        {turn.status === "stopped" && <span>Interrupted</span>}
        {turn.status === "cut" && <span>Ended at its longest length</span>}
        {bits !== null && turn.status !== "writing" && <span>Your face: {bits.toFixed(2)} bits a word</span>}
      </p>
    </li>
  );
});
