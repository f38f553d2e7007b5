"""Files of a run folder: written whole or not at all, and what keeps them from it told in one line."""

import errno
from contextlib import suppress
from pathlib import Path

from natural_video_llm.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write beside and rename, in a folder that is made where it is missing.

    Raises:
        UserError: the disk is full, or the folder cannot be written; what was there before stays.
    """
    beside = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(path)
    except OSError as error:
        _remove(beside)
        raise cannot_write(path, error) from error


def check_writable(folder: Path) -> None:
    """Find out by writing a little, before work whose result is to be written here.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(4096))
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        _remove(probe)


def cannot_write(path: Path, error: OSError) -> UserError:
    remedy = "free disk space, run again" if error.errno in DISK_FULL else "mend its rights, or choose another folder"
    return UserError(f"{path} cannot be written ({error.strerror}); {remedy}")


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
