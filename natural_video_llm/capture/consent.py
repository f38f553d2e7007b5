"""Consent before the first frame and the first key: what is recorded, where, and a plain yes."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from natural_video_llm.console import plain_yes
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.clock import utc_now

# Everything that a session may hold is asked for at once, so that a second recorder may join it unasked.
RECORDED = ("video", "text")

_MEANING = {
    "video": "video: what the camera sees, above all the face of whoever sits in front of it",
    "text": "text: what is typed at the prompt, each key with its time, corrections too",
}


def ask_consent(folder: Path, what: Sequence[str], yes_file: Path | None, console: Console) -> str:
    """Ask whether `what` ("video", "text") may be recorded into `folder`; returns the consent for `session_start`.

    `yes_file` holds a consent that was given elsewhere: its text is stored, and nobody is asked.

    Raises:
        UserError: anything but a plain yes was answered, or the consent file is missing, empty or no text.
    """
    if yes_file is not None:
        return _consent_of_file(yes_file)
    notice = "\n".join(
        [
            "This will be recorded:",
            *(f"  - {_MEANING[one]}" for one in what),
            f"into {folder.resolve()}",
            "It stays on this machine; nothing is sent anywhere. To delete it, delete that folder.",
        ]
    )
    console.print(notice, markup=False, highlight=False, soft_wrap=True)
    answer = plain_yes(console, "Does everyone who is recorded agree?")
    if answer is None:
        raise UserError(
            "not recorded: consent was not given; start again and answer yes, or name a signed text with --yes FILE"
        )
    return f"{notice}\nAnswered {answer!r} at the terminal, {utc_now()}."


def _consent_of_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error}); name the consent that was agreed to") from error
    if not text:
        raise UserError(f"{path}: the consent file is empty; write down what was agreed to, by whom and when")
    return text
