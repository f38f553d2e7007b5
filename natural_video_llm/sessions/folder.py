"""The session folder: the one format for recorded, generated, imported and live conversations."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import EVENT_ADAPTER, Event, SessionStart, Text, VideoSegmentEnd

_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class Session:
    """Reads one session folder.

        <session_id>/
        ├── session.jsonl                     one event a line, append only
        ├── video/000000.mp4 …                a frame's presentation time is its capture time
        ├── latents/<encoder>/000000.safetensors …
        └── aligned_data.jsonl

    A damaged last line (a recorder was killed while it wrote) is reported on stderr and skipped; any other
    damaged line raises UserError with its number.
    """

    def __init__(self, path: Path):
        self.path = path
        self.events = list(_read_events(path / "session.jsonl"))
        if not self.events or not isinstance(self.events[0], SessionStart):
            raise UserError(f"{path}/session.jsonl: line 1 is no session_start event; this is no session folder")
        self.start: SessionStart = self.events[0]

    @property
    def texts(self) -> list[Text]:
        """Utterances in the order in which they began."""
        return sorted((e for e in self.events if isinstance(e, Text)), key=lambda e: e.t_start)

    @property
    def finished_segments(self) -> list[VideoSegmentEnd]:
        """Segments that were closed; one still being written is not among them."""
        return [e for e in self.events if isinstance(e, VideoSegmentEnd)]

    def latents_dir(self, encoder: str) -> Path:
        return self.path / "latents" / encoder

    @property
    def aligned_file(self) -> Path:
        return self.path / "aligned_data.jsonl"


class SessionWriter:
    """Appends events to a session folder, each flushed to the disk before `append` returns."""

    def __init__(self, path: Path, start: SessionStart):
        if not _SAFE_ID.fullmatch(start.session_id):
            raise UserError(f"session id {start.session_id!r}: use letters, digits, '.', '_' and '-', no '.' first")
        self.path = path
        log = path / "session.jsonl"
        try:
            if log.exists():
                raise UserError(f"{log} exists already; choose another folder or delete that session first")
            (path / "video").mkdir(parents=True, exist_ok=True)
            self._file = log.open("x", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}); choose a folder that is yours") from error
        self.append(start)

    def append(self, event: Event) -> None:
        # Of this version's own fields None means absent; what others wrote stays as it is.
        absent = {name for name in type(event).model_fields if getattr(event, name) is None}
        self._file.write(event.model_dump_json(exclude=absent) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "SessionWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_sessions(path: Path) -> list[Session]:
    """The session at `path`, or all sessions in the folder `path`, by name.

    Folders whose name begins with a dot are half-made and left out.

    Raises:
        UserError: there is none.
    """
    if (path / "session.jsonl").is_file():
        return [Session(path)]
    logs = sorted(path.glob("*/session.jsonl"))
    found = [Session(log.parent) for log in logs if not log.parent.name.startswith(".")]
    if not found:
        raise UserError(f"{path}: no session here (a session folder holds session.jsonl); make one: nvllm sample OUT")
    return found


def _read_events(log: Path) -> Iterator[Event]:
    try:
        lines = log.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{log} cannot be read ({error.strerror})") from error
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            yield EVENT_ADAPTER.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            reason = first["msg"].lower() + (f" at {where}" if where else "")
            what = f"{log}: line {number} is damaged ({reason})"
            if number == len(lines) and number > 1:
                print(f"{what}; it is the last line and was skipped", file=sys.stderr)
                return
            raise UserError(f"{what}; mend or remove that line") from error
