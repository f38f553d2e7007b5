"""Messages in neutral words, each with one reply for every way in which the face can move meanwhile."""

from importlib.resources import files

from pydantic import BaseModel, ValidationError

from natural_video_llm.errors import UserError


class CorpusLine(BaseModel):
    """replies: by the name of the motion."""

    message: str
    replies: dict[str, str]


def load_corpus() -> list[CorpusLine]:
    """The corpus in its fixed order; topics are mixed throughout, so any tail can be held out.

    Raises:
        UserError: the installed file is damaged.
    """
    text = (files("natural_video_llm.capture") / "data" / "sample_corpus.jsonl").read_text(encoding="utf-8")
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            lines.append(CorpusLine.model_validate_json(line))
        except ValidationError as error:
            what = f"sample_corpus.jsonl: line {number} is damaged"
            raise UserError(f"{what}; install natural-video-llm again") from error
    return lines
