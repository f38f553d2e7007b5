"""What a judge is asked, and the schema that its answer must fit. No name of a feeling stands anywhere in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from natural_video_llm.evaluation.reply_records import Turn

Score = Literal[1, 2, 3, 4, 5]
_Reason = Annotated[str, Field(description="one short sentence")]


class Rating(BaseModel):
    """How good one reply is."""

    model_config = ConfigDict(extra="forbid")
    reason: _Reason
    coherence: Score
    tone_alignment: Score


class Preference(BaseModel):
    """Which of two replies is the better one."""

    model_config = ConfigDict(extra="forbid")
    reason: _Reason
    better: Literal["first", "second", "tie"]


Verdict = Rating | Preference


@dataclass(frozen=True)
class Question:
    """One call of a judge: texts, a JPEG of the person's face or None, and what the answer must look like."""

    system: str
    text: str
    picture: bytes | None
    schema: type[Rating] | type[Preference]

    def asked_again(self, what_was_wrong: str) -> "Question":
        """The same question, with what was wrong about the first answer."""
        again = f"An earlier answer could not be read ({what_was_wrong}). Write the JSON object and nothing else."
        return replace(self, text=f"{self.text}\n\n{again}")


_SYSTEM = """You judge replies in a conversation between a person and a partner. You are strict, and you do not prefer \
a reply for being longer, for its place, or for flattering anyone."""

_SEES = """The picture is a contact sheet of the person's face, cut from the video: {frames} moments, in order from \
left to right and then down, from {before_s:.1f} s before the reply began until the reply was there. Judge tone by \
what you see of the face in these moments, together with the words. Do not name what the face shows; compare it with \
the reply."""

_BLIND = """You are shown the words alone. Judge tone by what the person wrote and how they wrote it."""

_RUBRIC = """Coherence:
1 has nothing to do with what was said, or is no sentence
2 shares a word or a subject with it, but does not answer it
3 answers it loosely, or in part, or with something odd in it
4 answers it and makes sense, with a small flaw
5 answers it as an attentive person would, without a flaw

Tone alignment:
1 the manner of the reply is at odds with how the person is at that moment
2 mostly at odds
3 neither fits nor clashes: it could have been said to anybody
4 mostly fits
5 fits as if the partner had followed the person closely through those moments"""

_ONE = """Rate the partner's reply by this rubric.

{rubric}

Answer with one JSON object and nothing else:
{{"reason": "one short sentence", "coherence": whole number, 1 to 5, "tone_alignment": whole number, 1 to 5}}"""

_TWO = """Which of the two replies is the better one? Weigh coherence and tone alignment alike; length is no merit.

{rubric}

Answer with one JSON object and nothing else:
{{"reason": "one short sentence", "better": "first" or "second" or "tie"}}"""


@dataclass(frozen=True)
class Scene:
    """What was said before the reply, and what is seen of the person: a contact sheet of `frames` moments from
    `before_s` seconds before the reply on, or None."""

    context: Sequence[Turn]
    message: str
    sheet: bytes | None = None
    frames: int = 0
    before_s: float = 0.0

    def words(self) -> str:
        lines = [f"{turn.speaker.capitalize()}: {turn.text}" for turn in self.context]
        return "\n".join(["The conversation:", *lines, f"Person: {self.message}"])

    def seen(self) -> str:
        return _SEES.format(frames=self.frames, before_s=self.before_s) if self.sheet else _BLIND


def rating_question(scene: Scene, reply: str) -> Question:
    """Asks for a `Rating` of a reply."""
    parts = [scene.seen(), scene.words(), f"The reply to rate:\nPartner: {reply}", _ONE.format(rubric=_RUBRIC)]
    return Question(_SYSTEM, "\n\n".join(parts), scene.sheet, Rating)


def preference_question(scene: Scene, first: str, second: str) -> Question:
    """Asks for a `Preference` between two replies, in this order."""
    replies = f"The first reply:\nPartner: {first}\n\nThe second reply:\nPartner: {second}"
    parts = [scene.seen(), scene.words(), replies, _TWO.format(rubric=_RUBRIC)]
    return Question(_SYSTEM, "\n\n".join(parts), scene.sheet, Preference)


def first_json_object(text: str) -> object:
    """The first JSON object in a text that may have words or a code fence around it; None where there is none."""
    decoder = json.JSONDecoder()
    for place in (i for i, character in enumerate(text) if character == "{"):
        try:
            return decoder.raw_decode(text, place)[0]
        except ValueError:
            continue
    return None


def read_verdict(text: str, schema: type[Rating] | type[Preference]) -> Verdict:
    """The first JSON object in an answer, checked.

    Raises:
        ValueError: there is none, or it does not fit the schema; one short line says which.
    """
    found = first_json_object(text)
    if found is None:
        raise ValueError("no JSON object")
    try:
        return schema.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'object'}: {first['msg']}") from error
