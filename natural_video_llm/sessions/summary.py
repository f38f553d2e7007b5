"""What is in a session, in a few figures and in order of time."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from safetensors import SafetensorError, safe_open

from natural_video_llm.sessions import events
from natural_video_llm.sessions.folder import Session


@dataclass(frozen=True)
class Summary:
    """A session at a glance: `replies` answer the filmed person; `face_share` is the share of latents that show a
    face, None where there are none."""

    session_id: str
    person: str | None
    minutes: float
    words: int
    utterances: int
    replies: int
    face_share: float | None
    consent: bool
    encoders: list[str]


def summarise(session: Session) -> Summary:
    encoders = encoders_of(session)
    return Summary(
        session_id=session.start.session_id,
        person=session.start.person,
        minutes=round(length_s(session) / 60, 3),
        words=sum(len(text.text.split()) for text in session.texts),
        utterances=len(session.texts),
        replies=_replies(session),
        face_share=_face_share(session, encoders[0]) if encoders else None,
        consent=bool(session.start.consent.strip()),
        encoders=encoders,
    )


def people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def _replies(session: Session) -> int:
    """Utterances of somebody else right after one of the filmed person: what can be learned from (training.dataset)."""
    filmed = [text.speaker == session.start.filmed_speaker for text in session.texts if text.text.strip()]
    return sum(before and not now for before, now in pairwise(filmed))


def length_s(session: Session) -> float:
    """Seconds from the session's start to the end of its last event."""
    ends = [
        event.t_end if isinstance(event, events.Text | events.VideoGap) else getattr(event, "t", 0.0)
        for event in session.events
    ]
    return max(ends, default=0.0)


def encoders_of(session: Session) -> list[str]:
    """The encoders that have made latents of this session, by name."""
    names = set()
    for folder in (session.path / "latents").glob("*"):
        first = min((p for p in folder.glob("*.safetensors") if not p.name.startswith(".")), default=None)
        if first is not None:
            names.add(_encoder_of(first))
    return sorted(names - {None}, key=str)  # type: ignore[arg-type]


def _encoder_of(path: Path) -> str | None:
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("encoder")
    except (SafetensorError, OSError):
        return None


def _face_share(session: Session, encoder: str) -> float | None:
    """Reads who was there and nothing else of the latents."""
    seen = frames = 0
    for path in session.latents_dir(encoder).glob("[!.]*.safetensors"):
        try:
            with safe_open(path, framework="numpy") as file:
                present = file.get_tensor("present")
        except (SafetensorError, OSError):
            continue
        seen, frames = seen + int(present.sum()), frames + len(present)
    return round(seen / frames, 4) if frames else None


def timeline(session: Session) -> Iterator[tuple[float, str]]:
    """(seconds since session start, one line of what happened), in order of time."""
    ends = {segment.file: segment for segment in session.finished_segments}
    lines: list[tuple[float, str]] = []
    for event in session.events:
        match event:
            case events.SessionStart():
                lines.append((0.0, f"session {event.session_id} begins ({event.started_utc})"))
            case events.VideoSegmentStart():
                end = ends.get(event.file)
                lines.append((event.t, f"video {event.file} " + (_segment(end) if end else "(never finished)")))
            case events.VideoGap():
                lines.append((event.t, f"no video until {event.t_end:.1f} s: {event.reason}"))
            case events.Text():
                lines.append((event.t_start, f"{event.speaker}: {event.text} [{event.timing}]"))
            case events.SessionEnd():
                lines.append((event.t, "a recorder ends"))
    yield from sorted(lines, key=lambda line: line[0])


def _segment(end: events.VideoSegmentEnd) -> str:
    dropped = f", {end.dropped} dropped" if end.dropped else ""
    return f"until {end.t:.1f} s, {end.frames} frames{dropped}"
