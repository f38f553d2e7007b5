"""`replies.jsonl`: generated replies as they lie on disk; light enough for judges and raters to load at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from natural_video_llm.disk import write_whole
from natural_video_llm.errors import UserError, first_line
from natural_video_llm.run_folder import REPLIES_FILE

# Where all are of one person, the second one is what can be had of the first.
OTHER_PERSON, OTHER_SESSION = "other person", "another session"
FACES = ("true", "none", OTHER_PERSON, OTHER_SESSION)


class Turn(BaseModel):
    """Something that was said: by the filmed person, or by their partner."""

    model_config = ConfigDict(frozen=True)
    speaker: Literal["person", "partner"]
    text: str


class GeneratedReply(BaseModel):
    """A line of `replies.jsonl`: one reply, what it replies to, the face that it was generated under.

    `context` is what the model was given before `message`; `span_s` is when the face that mattered was seen: from the
    model's window before the reply to the end of the human one, in seconds since session start.
    """

    model_config = ConfigDict(frozen=True)
    session_id: str
    person: str
    context: list[Turn]
    message: str
    human_reply: str
    face: str
    reply: str
    seed: int
    moved_bits: float
    begins_s: float
    span_s: tuple[float, float]


def write_replies(replies: Sequence[GeneratedReply], run: Path) -> None:
    """`replies.jsonl` in the run folder, written beside and renamed."""
    write_whole(run / REPLIES_FILE, "".join(reply.model_dump_json() + "\n" for reply in replies))


def read_replies(run: Path) -> list[GeneratedReply]:
    """What `write_replies` wrote.

    Raises:
        UserError: there is nothing to judge, or a line is damaged.
    """
    path = run / REPLIES_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        replies = [GeneratedReply.model_validate_json(line) for line in lines]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); make it first: nvllm eval {run}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); make it anew: nvllm eval {run}") from error
    if not replies:
        raise UserError(f"{path}: no replies in it, since nobody answers the filmed people there or --replies was 0")
    return replies


def clusters_of(replies: Sequence[GeneratedReply]) -> list[str]:
    """Who must be left out together: a person, or a session where there is one person; one session alone is one
    cluster, of which no interval can be had."""
    several = len({reply.person for reply in replies}) > 1
    return [reply.person if several else reply.session_id for reply in replies]
