import { type RefObject, useLayoutEffect, useRef, useState } from "react";
import { eventTimeS } from "../clock";
import type { Link } from "../connection";
import { TypedText } from "../typedText";
import type { Realtime } from "../useRealtime";

interface Props {
  field: RefObject<HTMLTextAreaElement | null>;
  realtime: Realtime;
  writing: boolean;
}

const TALLEST_PX = 220;

/** What stands in the empty field while there is no link: a message waits for it, or cannot be sent any more. */
const WAITS = "You can go on writing; it is sent once the server is back";
const OVER = "Nothing can be sent here";
const PLACEHOLDERS: Record<Link, string> = {
  open: "Write a message",
  connecting: WAITS,
  lost: WAITS,
  full: WAITS,
  refused: OVER,
  "room full": OVER,
  "room over": OVER,
};

export function Composer({ field, realtime, writing }: Props) {
  const typed = useRef<TypedText>(null);
  if (typed.current === null) {
    typed.current = new TypedText();
    typed.current.change(realtime.memory.draft, 0);
  }
  const [text, setText] = useState(realtime.memory.draft);
  const limit = realtime.conversation.session?.limits.text_chars ?? Number.POSITIVE_INFINITY;
  const count = text.length > 0.8 * limit ? Array.from(text).length : 0;
  const tooLong = count > limit;
  const placeholder = PLACEHOLDERS[realtime.link];
  const canSend = placeholder !== OVER && !tooLong && text.trim() !== "";

  // biome-ignore lint/correctness/useExhaustiveDependencies: the field is as tall as its text, or the words in its place
  useLayoutEffect(() => {
    if (!field.current) return;
    field.current.style.height = "auto";
    field.current.style.height = `${Math.min(TALLEST_PX, field.current.scrollHeight)}px`;
  }, [text, placeholder]);

  const change = (next: string, timeS: number) => {
    if (writing) realtime.interrupt();
    typed.current?.change(next, timeS);
    setText(next);
    realtime.memory.keep({ draft: next });
    if (next.length <= limit) realtime.draft(next);
  };
  const send = () => {
    if (!canSend || !typed.current) return;
    const { text: words, charTimes } = typed.current.take();
    realtime.say(words, charTimes);
    setText("");
    realtime.memory.keep({ draft: "" });
    field.current?.focus();
  };
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <label className="unseen" htmlFor="message">
        Your message
      </label>
      <textarea
        id="message"
        ref={field}
        rows={1}
        dir="auto"
        value={text}
        placeholder={placeholder}
        aria-describedby="message-help"
        aria-invalid={tooLong}
        onChange={(event) => change(event.target.value, eventTimeS(event.nativeEvent))}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
            event.preventDefault();
            send();
          }
        }}
      />
      {writing && (
        <button type="button" className="stop" onClick={realtime.interrupt}>
          Stop
        </button>
      )}
      <button type="submit" className="primary" disabled={!canSend}>
        Send
      </button>
      <p id="message-help" className="help">
        {tooLong
          ? `Too long by ${count - limit} characters; shorten it to send it.`
          : count > 0
            ? `${count} of ${limit} characters`
            : "Enter sends, Shift+Enter begins a new line, Escape interrupts."}
      </p>
    </form>
  );
}
