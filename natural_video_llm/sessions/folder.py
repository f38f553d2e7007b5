"""The session folder: the one format for recorded, generated, imported and live conversations."""

import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from natural_video_llm.disk import write_error
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.append_log import AppendLog
from natural_video_llm.sessions.clock import SessionClock, boot_id
from natural_video_llm.sessions.events import (
    EVENT_ADAPTER,
    Event,
    SessionStart,
    Text,
    VideoSegmentEnd,
    VideoSegmentStart,
)
from natural_video_llm.sessions.lock import need_locks

_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_ENCODER_FOLDER_LENGTH = 48


def encoder_folder(encoder: str) -> str:
    """The folder name of an encoder: its own name, or, where that is no file name, its end and a digest of it all."""
    if _SAFE_ID.fullmatch(encoder):
        return encoder
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", encoder)
    kind = encoder.partition(":")[0]
    return f"{kind}-{readable[len(kind) + 1 :][-_ENCODER_FOLDER_LENGTH:]}-{sha256(encoder.encode()).hexdigest()[:8]}"


class Session:
    """Reads one session folder.

        <session_id>/
        ├── session.jsonl                     one event a line, append only
        ├── video/000000.mp4 …                a frame's presentation time is its capture time
        ├── latents/<encoder>/000000.safetensors …
        ├── background/<encoder>/…            the same with the face painted over, for evaluation alone
        └── aligned_data.jsonl

    A damaged last line (a recorder was killed while it wrote) is reported on stderr and skipped; any other
    damaged line raises UserError with its number.
    """

    def __init__(self, path: Path):
        self.path = path
        self.events = list(_read_events(path / "session.jsonl"))
        self.start = _start_of(path, next(iter(self.events), None))

    @property
    def texts(self) -> list[Text]:
        """Utterances in the order in which they began."""
        return sorted((e for e in self.events if isinstance(e, Text)), key=lambda e: e.t_start)

    @property
    def finished_segments(self) -> list[VideoSegmentEnd]:
        """Segments that were closed; one still being written is not among them."""
        return [e for e in self.events if isinstance(e, VideoSegmentEnd)]

    @property
    def segment_starts(self) -> list[VideoSegmentStart]:
        return [e for e in self.events if isinstance(e, VideoSegmentStart)]

    def latents_dir(self, encoder: str) -> Path:
        return self.path / "latents" / encoder_folder(encoder)

    @property
    def aligned_file(self) -> Path:
        return self.path / "aligned_data.jsonl"


class SessionWriter:
    """Appends events to a session folder, each on the disk before `append` returns.

    Several processes may write into one session: one creates it, the others `join`. Their lines never mix.

    Args:
        path: the session's folder, made where it is absent.
        start: its first event.

    Raises:
        UserError: there is a session in the folder already, or it cannot be written.
    """

    def __init__(self, path: Path, start: SessionStart):
        check_session_id(start.session_id)
        self.path, self.start = path, start
        self._log = _open_log(path)
        try:
            # An empty log, which a process leaves behind that died before its first line, counts as none.
            if not self._log.begin(event_line(start)):
                raise SessionExistsError(
                    f"{path}/session.jsonl exists already; choose another folder or delete that session first"
                )
        except UserError:
            self.close()
            raise

    @classmethod
    def join(cls, path: Path) -> "SessionWriter":
        """Go on writing into the session at `path`; a torn last line, which no writer confirmed, is cut off.

        `start` of the writer is the session's own first event.

        Raises:
            UserError: there is no session, it was not recorded on this machine since its last start (the
                monotonic clock is another one), or it cannot be written.
        """
        need_locks(path)
        start = read_start(path)
        other_boot = start.monotonic_s is None or start.boot_id != boot_id()
        if other_boot or SessionClock(start.monotonic_s).now_s() < 0:
            raise UserError(
                f"{path}: this session's clock does not run any more (the machine was restarted, or the session "
                "was not recorded here); record into a new folder"
            )
        return cls.reopen(path)

    @classmethod
    def reopen(cls, path: Path) -> "SessionWriter":
        """As `join`, for events whose times come from the session's own files: its clock need not run any more."""
        writer = cls.__new__(cls)
        writer.path, writer.start = path, read_start(path)
        writer._log = _open_log(path)
        writer._log.mend()
        return writer

    def append(self, event: Event) -> None:
        """Add one line. Threads may share a writer.

        Raises:
            UserError: the disk is full or the file cannot be written; the session is as it was before.
        """
        self._log.append(event_line(event))

    def close(self) -> None:
        self._log.close()

    def __enter__(self) -> "SessionWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_session_id(session_id: str) -> None:
    """Raise UserError for a name that is not safe as a folder's name everywhere."""
    if not _SAFE_ID.fullmatch(session_id):
        raise UserError(f"session id {session_id!r}: use letters, digits, '.', '_' and '-', no '.' first")


class SessionExistsError(UserError):
    """The folder holds a session already."""


def _open_log(path: Path) -> AppendLog:
    try:
        (path / "video").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    return AppendLog(path / "session.jsonl")


def event_line(event: Event) -> bytes:
    """The event as it stands in session.jsonl."""
    # Of this version's own fields None means absent; what others wrote stays as it is.
    absent = {name for name in type(event).model_fields if getattr(event, name) is None}
    return (event.model_dump_json(exclude=absent) + "\n").encode()


def find_sessions(path: Path) -> list[Session]:
    """The session at `path`, or all sessions in the folder `path`, by name.

    Folders whose name begins with a dot are half-made and left out.

    Raises:
        UserError: there is none.
    """
    return [Session(folder) for folder in session_folders(path)]


def session_folders(path: Path) -> list[Path]:
    """The folders of `find_sessions`, without reading them."""
    if (path / "session.jsonl").is_file():
        return [path]
    found = [log.parent for log in sorted(path.glob("*/session.jsonl")) if not log.parent.name.startswith(".")]
    if not found:
        raise UserError(
            f"{path}: no session here (a session folder holds session.jsonl); make some: nvllm import CLIPS OUT, "
            "or without clips: nvllm sample OUT"
        )
    return found


def read_start(path: Path) -> SessionStart:
    """The first event of the session in the folder `path`."""
    return _start_of(path, next(_read_events(path / "session.jsonl"), None))


def _start_of(path: Path, first: Event | None) -> SessionStart:
    if not isinstance(first, SessionStart):
        raise UserError(f"{path}/session.jsonl: line 1 is no session_start event; this is no session folder")
    return first


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
