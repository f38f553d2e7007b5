import { useState } from "react";
import type { Seeing } from "../storage";

interface Choice {
  value: Seeing;
  title: string;
  what: string;
}

const CHOICES: Choice[] = [
  {
    value: "geometry",
    title: "Face points only",
    what: "This browser turns the picture into 478 points of your face. Only the points go to the server; no picture leaves this page.",
  },
  {
    value: "video",
    title: "Video",
    what: "Pictures go to the server, which turns them into numbers and throws them away.",
  },
  {
    value: "text",
    title: "No camera",
    what: "Text alone: the model answers as the plain language model that it is built on.",
  },
];

interface Props {
  /** Whether another person answers, and no model. */
  ofTwo: boolean;
  onChoose: (seeing: Seeing) => void;
}

export function Consent({ ofTwo, onChoose }: Props) {
  const [seeing, setSeeing] = useState<Seeing>("geometry");
  return (
    <main id="main" className="sheet">
      <h1>{ofTwo ? "A conversation of two people" : "A conversation in which your face counts"}</h1>
      <p className="lead">
        {ofTwo
          ? "Somebody has invited you to write to each other while your cameras are on. They do not see your face: it goes to the server alone, and is kept only if you record."
          : "You write, the model answers, and every word of its answer is chosen with a look at your face. You decide what it may see."}
      </p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onChoose(seeing);
        }}
      >
        <fieldset className="choices">
          <legend>What may {ofTwo ? "the server" : "the model"} see?</legend>
          {CHOICES.map((choice) => (
            <label key={choice.value} className="choice">
              <input
                type="radio"
                name="seeing"
                value={choice.value}
                checked={seeing === choice.value}
                onChange={() => setSeeing(choice.value)}
              />
              <span>
                <strong>{choice.title}</strong>
                {choice.value === "geometry" && <span className="tag">recommended</span>}
                <span className="what">{ofTwo && choice.value === "text" ? "Text alone." : choice.what}</span>
              </span>
            </label>
          ))}
        </fieldset>
        <dl className="facts">
          <div>
            <dt>Where</dt>
            <dd>
              Everything is worked out by the server at <strong>{location.host}</strong>
              {isThisMachine(location.hostname) ? ", which is this machine" : ""}. Nothing goes anywhere else.
            </dd>
          </div>
          <div>
            <dt>What is kept</dt>
            <dd>
              Nothing, unless you press Record. The conversation stays in this tab until you close it; the server
              forgets it some minutes after you leave.
            </dd>
          </div>
          <div>
            <dt>How to stop</dt>
            <dd>Close the page or press “Change”: the camera goes off at once.</dd>
          </div>
        </dl>
        <p className="begin">
          <button type="submit" className="primary">
            {seeing === "text" ? "Begin without camera" : "Agree and switch the camera on"}
          </button>
        </p>
      </form>
    </main>
  );
}

function isThisMachine(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\./.test(host);
}
