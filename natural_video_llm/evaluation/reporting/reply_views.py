"""Replies to one message under different faces, with the frames that led to them."""

from dataclasses import dataclass
from typing import Any

from natural_video_llm.evaluation.reporting.figures import number
from natural_video_llm.evaluation.reporting.material import Material, rows_of
from natural_video_llm.evaluation.reporting.strips import Span, face_strips
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.split import person_of

_FRAMES = 6


@dataclass
class ShownReply:
    """`session_id` is where the face was filmed; empty where that is not known or there is none."""

    face: str
    answered_there: str
    reply: str
    moved_bits: str
    session_id: str = ""
    pictures: str | None = None


def replies(material: Material, faces: bool) -> dict[str, Any] | None:
    """The message and the replies; None, and a note, where there are none."""
    rows = rows_of(material.evidence, "replies")
    if not rows:
        material.miss("Replies side by side", "this eval.json has none (the data has no candidate replies).")
        return None
    filmed = _filmed(material)
    shown = []
    places: dict[str, tuple[Session, list[tuple[ShownReply, Span]]]] = {}
    for row in rows:
        face, answer = str(row.get("face", "")), str(row.get("answered_there", ""))
        reply = ShownReply(face, answer, str(row.get("reply", "")), number(row.get("moved_bits")))
        if place := filmed.get((face, answer)):
            session, span = place
            reply.session_id = session.start.session_id
            places.setdefault(reply.session_id, (session, []))[1].append((reply, span))
        shown.append(reply)
    for session, wanted in places.values() if faces else ():
        for (reply, _), strip in zip(wanted, face_strips(session, [span for _, span in wanted]), strict=True):
            reply.pictures = strip
    return {"message": str(rows[0].get("message", "")), "replies": shown}


def _filmed(material: Material) -> dict[tuple[str, str], tuple[Session, Span]]:
    """Where an answer was given behind a message: (the face's name as `replies_under_faces` gives it, the answer) → its
    session, and the stretch that the first word of the answer saw and a little more."""
    places: dict[tuple[str, str], tuple[Session, Span]] = {}
    for session in material.sessions.values():
        for message, answer in zip(session.texts, session.texts[1:], strict=False):
            name = f"as {person_of(session)} to {message.text!r}"
            span = Span(max(0.0, answer.t_start - material.window_s), answer.t_start + 0.2, _FRAMES)
            places.setdefault((name, answer.text), (session, span))
    return places
