"""Numbers in the place of names."""

from natural_video_llm.sessions.events import Event, SessionStart, Text


class Names:
    """Leaves everything as it is."""

    def session(self, session_id: str) -> str:
        return session_id

    def event(self, event: Event) -> Event:
        return event


class Pseudonyms(Names):
    """Sessions, people and speakers by number, in the order in which they come.

    Consent texts, times of day, the machine's clock and fields that this version does not know are left out: any of
    them may name somebody. What people said is left as it is.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], str] = {}

    def session(self, session_id: str) -> str:
        return self._number("session", session_id)

    def event(self, event: Event) -> Event:
        known = {name: value for name, value in event.model_dump().items() if name in type(event).model_fields}
        if isinstance(event, SessionStart):
            known |= {
                "session_id": self.session(event.session_id),
                "started_utc": event.started_utc[:10],
                "monotonic_s": None,
                "boot_id": None,
                "filmed_speaker": self._number("speaker", event.filmed_speaker),
                "person": event.person and self._number("person", event.person),
                "consent": "given; its text stays with whoever exported this",
            }
        elif isinstance(event, Text):
            known["speaker"] = self._number("speaker", event.speaker)
        return type(event).model_validate(known)

    def _number(self, kind: str, name: str) -> str:
        count = sum(known == kind for known, _ in self._numbers)
        return self._numbers.setdefault((kind, name), f"{kind}_{count + 1:05d}")
