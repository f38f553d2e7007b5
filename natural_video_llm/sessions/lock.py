"""Locks between the processes that record into one session. The system drops them when their process dies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from natural_video_llm.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def appending(descriptor: int) -> Iterator[None]:
    """Nobody else appends to the open file meanwhile. Waits; without effect on Windows."""
    if fcntl is None:
        yield
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def need_locks(path: Path) -> None:
    """Raise UserError where this system has no `flock` and so cannot keep two processes apart."""
    if fcntl is None:
        raise UserError(
            f"{path}: sharing a session needs Linux or macOS; on Windows record into a new folder each time"
        )


@contextmanager
def role_lock(session_path: Path, role: str) -> Iterator[None]:
    """This process alone plays `role` ("video") in the session, until it leaves the block or dies.

    On Windows, where nobody can join a session, without effect.

    Raises:
        UserError: another process plays it already, or the folder cannot be written.
    """
    if fcntl is None:
        yield
        return
    path = session_path / f".{role}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose a folder that is yours") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{session_path}: a {role} logger is recording into this session already; "
                "stop it first or choose another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)
