import { useEffect, useRef } from "react";
import type { Conversation } from "../conversation";
import { meanBits, type Piece, type Turn, textOf, wordsOf } from "../turns";

/** A word that the face moves by this many bits is marked as strongly as any. */
const FULL_MARK_BITS = 2;
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
  // biome-ignore lint/correctness/useExhaustiveDependencies: new words move the list on
  useEffect(() => {
    if (followed.current && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [turns]);
  if (turns.length === 0) return inRoom ? <WelcomeOfTwo /> : <Welcome />;
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

function Message({ turn, onSayAgain }: { turn: Turn; onSayAgain: (turn: Turn) => void }) {
  if (turn.role === "note") return <li className="note">{textOf(turn)}</li>;
  const bits = turn.role === "assistant" ? meanBits(turn.pieces) : null;
  return (
    <li className={`turn ${turn.role}`}>
      <span className="unseen">{`${SPEAKERS[turn.role]}: `}</span>
      <p className="text" dir="auto">
        {turn.role === "assistant"
          ? // biome-ignore lint/suspicious/noArrayIndexKey: words are only ever added at the end
            wordsOf(turn.pieces).map((word, at) => <Word key={at} word={word} />)
          : textOf(turn)}
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
}

function Word({ word }: { word: Piece }) {
  if (word.movedBits === null) return word.text;
  const strength = Math.round(10 * Math.min(1, word.movedBits / FULL_MARK_BITS));
  const lead = word.text.length - word.text.trimStart().length;
  return (
    <>
      {word.text.slice(0, lead)}
      <span className={`word moved${strength}`} data-bits={`face: ${word.movedBits.toFixed(2)} bits`}>
        {word.text.slice(lead)}
      </span>
    </>
  );
}
