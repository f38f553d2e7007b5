"""The finished segments of a session that is still being recorded."""

from pathlib import Path

from pydantic import ValidationError

from natural_video_llm.sessions.events import EVENT_ADAPTER, SessionStart, VideoSegmentEnd


class SegmentLog:
    """Reads `session.jsonl` as it grows, each line once and only when it is whole.

    Unlike `Session` it never takes a line that is just being written for a damaged one, and lines about anything
    but finished segments are not its concern.
    """

    def __init__(self, session: Path):
        self._log = session / "session.jsonl"
        self._forget()

    def _forget(self) -> None:
        self._inode, self._read_bytes, self._read_lines = -1, 0, 0
        self._is_session = True

    def read_new(self) -> tuple[list[VideoSegmentEnd], list[str]]:
        """The segments finished since the last call, and what is wrong with damaged lines, one line each.

        A log that was replaced by another one is read from its start; one that is gone or unreadable gives
        nothing.
        """
        try:
            status = self._log.stat()
            if status.st_ino != self._inode or status.st_size < self._read_bytes:
                self._forget()
                self._inode = status.st_ino
            if status.st_size == self._read_bytes or not self._is_session:
                return [], []
            with self._log.open("rb") as file:
                file.seek(self._read_bytes)
                new = file.read()
        except OSError:
            return [], []
        whole = new[: new.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        return self._parse(whole.split(b"\n")[:-1])

    def _parse(self, lines: list[bytes]) -> tuple[list[VideoSegmentEnd], list[str]]:
        segments, damaged = [], []
        for line in lines:
            self._read_lines += 1
            if self._read_lines > 1 and b'"video_segment_end"' not in line:
                continue
            try:
                event = EVENT_ADAPTER.validate_json(line)
            except ValidationError as error:
                reason = error.errors()[0]["msg"].lower()
                damaged.append(f"{self._log}: line {self._read_lines} is damaged ({reason}); mend or remove that line")
                event = None
            if self._read_lines == 1 and not isinstance(event, SessionStart):
                self._is_session = False
                return [], [f"{self._log}: line 1 is no session_start event; this is no session folder"]
            if isinstance(event, VideoSegmentEnd):
                segments.append(event)
        return segments, damaged
