import { useEffect, useRef, useState } from "react";
import { Consent } from "./components/Consent";
import { Models } from "./components/Models";
import { Recordings } from "./components/Recordings";
import { type GoesOn, Talk } from "./components/Talk";
import { focusContent, useFocusKept } from "./focus";
import { agreedSeeing, agreeToSeeing, enteredRoom, enterRoom, type Seeing } from "./storage";

const PLACES = { talk: "Talk", recordings: "Recordings", models: "Models" };
const ROOM = "#room/";

/** A place by its name, and the token of the room of two in which one talks. */
interface Where {
  place: keyof typeof PLACES;
  room: string | null;
}

/** Other places lie outside the room without leaving it; a hash that is no place leads nowhere. */
function whereNow(before: Where): Where {
  const { hash } = location;
  if (hash.startsWith(ROOM)) return { place: "talk", room: hash.slice(ROOM.length) };
  if (hash === "#recordings" || hash === "#models")
    return { place: hash.slice(1) as Where["place"], room: before.room };
  return hash === "" || hash === "#talk" ? { place: "talk", room: null } : before;
}

export function App() {
  const [seeing, setSeeing] = useState<Seeing | null>(agreedSeeing);
  const [{ place, room }, setWhere] = useState<Where>(() => whereNow({ place: "talk", room: enteredRoom() }));
  const [goesOn, setGoesOn] = useState<GoesOn | null>(null);
  useEffect(() => {
    const moved = () => setWhere(whereNow);
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    document.title = `${place === "talk" && room ? "Two people" : PLACES[place]} – Natural Video LLM`;
  }, [place, room]);
  useFocusKept(`${place} ${seeing}`);
  useEffect(() => enterRoom(room), [room]);
  const talking = place === "talk" && seeing !== null;
  const begunIn = useRef<Where["room"] | undefined>(undefined);
  if (talking) begunIn.current = room;
  const choose = (chosen: Seeing | null) => {
    agreeToSeeing(chosen);
    setSeeing(chosen);
  };
  const talk = room === null ? "#talk" : `${ROOM}${room}`;
  return (
    <>
      <button type="button" className="skip" onClick={focusContent}>
        Skip to the content
      </button>
      <header className="top">
        <a className="name" href={talk}>
          <img src="/icon.svg" alt="" width="28" height="28" />
          <span>Natural Video LLM</span>
        </a>
        <span className="goes-on" role="status">
          {goesOn === "Recording" && <span className="recording">Recording</span>}
          {goesOn === "Camera on" && !talking && <span>Camera on</span>}
        </span>
        <nav aria-label="Pages">
          {Object.entries(PLACES).map(([name, title]) => (
            <a key={name} href={name === "talk" ? talk : `#${name}`} aria-current={place === name ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
      </header>
      {place === "recordings" && <Recordings />}
      {place === "models" && <Models />}
      {place === "talk" && seeing === null && <Consent ofTwo={room !== null} onChoose={choose} />}
      {begunIn.current === room && (
        // While one chooses anew the conversation goes on, without the camera.
        <Talk key={room} room={room} seeing={seeing ?? "text"} shown={talking} onChange={choose} onGoesOn={setGoesOn} />
      )}
    </>
  );
}
