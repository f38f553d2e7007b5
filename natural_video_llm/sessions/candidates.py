"""The candidate replies of a generated corpus: one for each way in which the face can move during a message.

Only evaluation reads them; which motion was played is written nowhere.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from natural_video_llm.disk import write_whole
from natural_video_llm.errors import UserError

FILE_NAME = "candidates.jsonl"

# In each pair the second motion shows the frames of the first one backwards: only the order tells them apart.
ORDER_PAIRS = (("smile_comes", "smile_goes"), ("brows_rise", "brows_settle"))


class Candidate(BaseModel):
    reply: str = Field(min_length=1)
    motion: str = Field(min_length=1)


class Candidates(BaseModel):
    """All replies that one message can get, in an order that tells nothing."""

    message: str = Field(min_length=1)
    split: Literal["train", "test"]
    candidates: list[Candidate] = Field(min_length=2)


def read_candidates(path: Path) -> dict[str, Candidates]:
    """The candidates of every message, by message, in the order of the file.

    Raises:
        UserError: the file cannot be read, or a line is damaged or repeats a message, reply or motion.
    """
    try:
        lines = path.read_bytes().splitlines()  # of text, str.splitlines would cut at U+2028 as well
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); make sample sessions anew: nvllm sample OUT") from error
    by_message: dict[str, Candidates] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = Candidates.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = first["msg"].lower() + (f" at {where}" if where else "")
            raise UserError(f"{path}: line {number} is damaged ({what}); mend or remove that line") from error
        repeated = (
            [entry.message] * (entry.message in by_message)
            + _repeated([c.reply for c in entry.candidates])
            + _repeated([c.motion for c in entry.candidates])
        )
        if repeated:
            raise UserError(f"{path}: line {number} repeats {repeated[0]!r}; remove one of the two")
        by_message[entry.message] = entry
    return by_message


def write_candidates(path: Path, entries: Sequence[Candidates]) -> None:
    """Write `entries`, one a line, whole or not at all.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    write_whole(path, "".join(entry.model_dump_json() + "\n" for entry in entries))


def _repeated(items: list[str]) -> list[str]:
    return [item for item, count in Counter(items).items() if count > 1]
