"""Files written whole or not at all, and what keeps them from it, told in one line."""

import errno
from contextlib import suppress
from pathlib import Path

from natural_video_llm.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write beside and rename.

    Raises:
        UserError: the disk is full, the folder cannot be written or is gone; what was there before stays.
    """
    beside = path.with_name(f".{path.name}")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(path)
    except OSError as error:
        _remove(beside)
        raise write_error(path, error) from error


def check_writable(folder: Path) -> None:
    """Find out by writing a little, before work whose result is to be written here.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(4096))
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        _remove(probe)


def write_error(path: Path, error: OSError) -> UserError:
    """The one clear line for a write that failed."""
    if error.errno in DISK_FULL:
        return UserError(f"{path}: disk full; free space, then run again")
    return UserError(f"{path} cannot be written ({error.strerror or error}); mend its rights, or choose another folder")


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
