"""A file of lines that several processes append to: no line is mixed with another's, none is half there."""

import errno
import os
import sys
import threading
from pathlib import Path

from natural_video_llm.disk import write_error
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.lock import appending


class AppendLog:
    """Each line is one write under the file's lock, on the disk before `append` returns; threads may share it.

    A line without an end was never confirmed: its writer died in the middle of it. The next one to come cuts it
    off and says so on stderr.

    Args:
        path: the file, made where it is absent.

    Raises:
        UserError: the file cannot be opened for writing.
    """

    def __init__(self, path: Path):
        self._path, self._thread_lock = path, threading.Lock()
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise write_error(path, error) from error

    def begin(self, line: bytes) -> bool:
        """Add the first line; False, and nothing done, where there is one already."""
        with self._thread_lock, appending(self._file.fileno()):
            if self._size():
                return False
            self._write(line)
            return True

    def append(self, line: bytes) -> None:
        """Add a line.

        Raises:
            UserError: the disk is full or the file cannot be written; it is then as it was before.
        """
        with self._thread_lock, appending(self._file.fileno()):
            self._cut_torn_line()
            self._write(line)

    def mend(self) -> None:
        """Cut off a torn last line.

        Raises:
            UserError: it is the only one.
        """
        with self._thread_lock, appending(self._file.fileno()):
            self._cut_torn_line()

    def close(self) -> None:
        self._file.close()

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _write(self, line: bytes) -> None:
        size = self._size()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(size)
            raise write_error(self._path, error) from error

    def _cut_torn_line(self) -> None:
        size = self._size()
        if not size or self._read(size - 1, size) == b"\n":
            return
        end = self._read(0, size).rfind(b"\n") + 1
        if not end:
            raise UserError(f"{self._path}: line 1 has no end, so nothing can follow it; mend it or use a new folder")
        self._file.truncate(end)
        print(f"{self._path}: the last line was torn (a recorder died while it wrote) and is cut off", file=sys.stderr)

    def _read(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        return self._file.read(end - start)
