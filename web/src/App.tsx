import { useEffect, useState } from "react";
import { Consent } from "./components/Consent";
import { Models } from "./components/Models";
import { Recordings } from "./components/Recordings";
import { Talk } from "./components/Talk";
import { focusContent, useFocusKept } from "./focus";
import { agreedSeeing, agreeToSeeing, type Seeing } from "./storage";

const PLACES = { talk: "Talk", recordings: "Recordings", models: "Models" };
const ROOM = "#room/";

/** A place by its name, or the token of a room of two. */
interface Where {
  place: keyof typeof PLACES;
  room: string | null;
}

function whereNow(): Where {
  const { hash } = location;
  if (hash.startsWith(ROOM)) return { place: "talk", room: hash.slice(ROOM.length) };
  return {
    place: hash === "#recordings" || hash === "#models" ? (hash.slice(1) as Where["place"]) : "talk",
    room: null,
  };
}

export function App() {
  const [seeing, setSeeing] = useState<Seeing | null>(agreedSeeing);
  const [{ place, room }, setWhere] = useState<Where>(whereNow);
  useEffect(() => {
    const moved = () => setWhere(whereNow());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    document.title = `${room ? "Two people" : PLACES[place]} – Natural Video LLM`;
  }, [place, room]);
  useFocusKept(`${place} ${seeing}`);
  const choose = (chosen: Seeing | null) => {
    agreeToSeeing(chosen);
    setSeeing(chosen);
  };
  return (
    <>
      <button type="button" className="skip" onClick={focusContent}>
        Skip to the content
      </button>
      <header className="top">
        <a className="name" href="#talk">
          <img src="/icon.svg" alt="" width="28" height="28" />
          <span>Natural Video LLM</span>
        </a>
        <nav aria-label="Pages">
          {Object.entries(PLACES).map(([name, title]) => (
            <a key={name} href={`#${name}`} aria-current={place === name ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
      </header>
      {place === "recordings" ? (
        <Recordings />
      ) : place === "models" ? (
        <Models />
      ) : seeing === null ? (
        <Consent ofTwo={room !== null} onChoose={choose} />
      ) : (
        <Talk key={room} room={room} seeing={seeing} onChange={choose} />
      )}
    </>
  );
}
