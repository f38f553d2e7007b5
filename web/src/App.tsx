import { useEffect, useState } from "react";
import { Consent } from "./components/Consent";
import { Recordings } from "./components/Recordings";
import { Talk } from "./components/Talk";
import { remember, remembered, type Seeing } from "./storage";

type Place = "talk" | "recordings";

function placeNow(): Place {
  return location.hash === "#recordings" ? "recordings" : "talk";
}

export function App() {
  const [seeing, setSeeing] = useState<Seeing | null>(remembered.seeing);
  const [place, setPlace] = useState<Place>(placeNow);
  useEffect(() => {
    const moved = () => setPlace(placeNow());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const choose = (chosen: Seeing | null) => {
    remember({ seeing: chosen });
    setSeeing(chosen);
  };
  return (
    <>
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <header className="top">
        <a className="name" href="#talk">
          <img src="/icon.svg" alt="" width="28" height="28" />
          <span>Natural Video LLM</span>
        </a>
        <nav aria-label="Pages">
          <a href="#talk" aria-current={place === "talk" ? "page" : undefined}>
            Talk
          </a>
          <a href="#recordings" aria-current={place === "recordings" ? "page" : undefined}>
            Recordings
          </a>
        </nav>
      </header>
      {place === "recordings" ? (
        <Recordings />
      ) : seeing === null ? (
        <Consent onChoose={choose} />
      ) : (
        <Talk seeing={seeing} onChange={choose} />
      )}
    </>
  );
}
