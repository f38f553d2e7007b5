"""One process at a time makes a file."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from natural_video_llm.errors import UserError
from natural_video_llm.stop_signals import stop_signals_held

if sys.platform != "win32":
    import fcntl


@contextmanager
def claim(target: Path) -> Iterator[bool]:
    """Yields whether this process may make `target`: False while another one is at it.

    The claim is a lock (flock) on a hidden file beside the target, so it ends with its process however that ends;
    a claim file that a killed process left behind holds nothing. Windows has no such lock: there every claim is
    granted.

    Raises:
        UserError: the folder cannot be written or does not take locks.
    """
    if sys.platform == "win32":
        yield True
        return
    path, descriptor = claim_file(target), None
    try:
        with stop_signals_held():  # one that comes now ends the block below, which takes the file away
            descriptor = _made_and_locked(path)
        yield descriptor is not None
    finally:
        if descriptor is not None:
            # Removed while it is still locked: whoever opened it before sees in `_lock` that it is no longer there.
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)


def claim_file(target: Path) -> Path:
    """The hidden file beside `target` that is locked while `target` is made."""
    return target.with_name(f".{target.stem}.claim")


def _made_and_locked(path: Path) -> int | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _lock(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written or locked ({error}); free disk space or mend rights") from error


def _lock(path: Path) -> int | None:
    """A descriptor of the locked file, or None where another process holds the lock."""
    if sys.platform == "win32":
        raise NotImplementedError
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder removed it between our opening and locking it
