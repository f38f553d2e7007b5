import { type KeyboardEvent, type SyntheticEvent, useId, useRef, useState } from "react";
import { type Piece, wordsOf } from "../turns";

/** A word that the face moves by this many bits is marked as strongly as any. */
const FULL_MARK_BITS = 2;
const TIP_PX = 24;
const STEPS: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1 };

/** The word whose bits are shown, and where, within the turn. */
interface Tip {
  at: number;
  left: number;
  top: number;
}

/** A reply's words. Those that the face moved are one tab stop, with arrow keys from one to the next; a tap holds one. */
export function Words({ pieces }: { pieces: Piece[] }) {
  const words = wordsOf(pieces);
  const box = useRef<HTMLSpanElement>(null);
  const id = useId();
  const [tip, setTip] = useState<Tip | null>(null);
  const [stop, setStop] = useState<number | null>(null);
  const first = words.findIndex(({ movedBits }) => movedBits !== null);
  const tipped = tip && words[tip.at]?.movedBits;

  const point = ({ target }: SyntheticEvent) => {
    const word = target instanceof HTMLElement && target.closest<HTMLElement>(".word");
    if (word) setTip(tipOf(word));
  };
  const leave = () => {
    const held = box.current?.querySelector<HTMLElement>(".word:focus");
    setTip(held ? tipOf(held) : null);
  };
  const step = (event: KeyboardEvent) => {
    if (event.key === "Escape") setTip(null);
    const steps = STEPS[event.key];
    if (steps === undefined) return;
    event.preventDefault();
    const all = [...event.currentTarget.querySelectorAll<HTMLElement>(".word")];
    all[all.indexOf(event.target as HTMLElement) + steps]?.focus();
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: what happens to a word is heard here, once for all of them
    <span
      ref={box}
      onPointerOver={point}
      onPointerLeave={leave}
      onFocus={(event) => {
        point(event);
        setStop(Number(event.target.dataset.at));
      }}
      onBlur={() => setTip(null)}
      onKeyDown={step}
    >
      {words.map((word, at) => (
        <Word
          // biome-ignore lint/suspicious/noArrayIndexKey: words are only ever added at the end
          key={at}
          word={word}
          at={at}
          isStop={at === (stop ?? first)}
          tip={tip?.at === at ? id : undefined}
        />
      ))}
      {tip && typeof tipped === "number" && (
        <span id={id} role="tooltip" className="tip" style={{ left: `min(${tip.left}px, 100% - 8rem)`, top: tip.top }}>
          face: {tipped.toFixed(2)} bits
        </span>
      )}
    </span>
  );
}

interface WordProps {
  word: Piece;
  at: number;
  isStop: boolean;
  /** Of the tip that describes it. */
  tip: string | undefined;
}

function Word({ word, at, isStop, tip }: WordProps) {
  if (word.movedBits === null) return word.text;
  const strength = Math.round(10 * Math.min(1, word.movedBits / FULL_MARK_BITS));
  const lead = word.text.length - word.text.trimStart().length;
  return (
    <>
      {word.text.slice(0, lead)}
      <span className={`word moved${strength}`} data-at={at} tabIndex={isStop ? 0 : -1} aria-describedby={tip}>
        {word.text.slice(lead)}
      </span>
    </>
  );
}

/** Over the word, or under it where the list ends above. */
function tipOf(word: HTMLElement): Tip {
  const above = word.getBoundingClientRect().top - (word.closest(".messages")?.getBoundingClientRect().top ?? 0);
  const top = above < TIP_PX ? word.offsetTop + word.offsetHeight : word.offsetTop - TIP_PX;
  return { at: Number(word.dataset.at), left: word.offsetLeft, top };
}
