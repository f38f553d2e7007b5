"""Replies under different faces: to one message side by side, and to many held-out messages at fixed seeds."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import PreTrainedTokenizerBase

from natural_video_llm.errors import UserError, first_line
from natural_video_llm.evaluation.conditions import Condition, moved_to
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.generate import generate_reply
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.folder import Session
from natural_video_llm.training.dataset import Example, FaceTrack, no_face

REPLIES_FILE = "replies.jsonl"
FACES = ("true", "none", "other person")
_SECONDS_A_TOKEN = 0.04


@dataclass(frozen=True)
class ReplyUnderFace:
    """What the model writes to `message` seeing a face, beside what was answered where that face was filmed."""

    message: str
    face: str
    answered_there: str
    reply: str
    moved_bits: float


@dataclass(frozen=True)
class ReplyOptions:
    """How many held-out messages are answered under each face, how freely, and which local sentence model (a folder
    or a Hub id) compares the replies with the human ones."""

    utterances: int = 12
    temperature: float = 0.7
    embedding: str | None = None
    seed: int = 0


DEFAULT_REPLIES = ReplyOptions()


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


def replies_under_faces(
    model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase, example: Example, faces: Sequence[Example]
) -> list[ReplyUnderFace]:
    """Greedy replies to the example's message with nobody in view and under each of `faces`."""
    shown = [("nobody in view", "", no_face(example))]
    shown += [(f"as {e.person} to {e.prompt!r}", e.reply, moved_to(example, e, model.memory_s)) for e in faces]
    return [
        ReplyUnderFace(example.prompt, name, answer, *_reply(model, tokenizer, example, track))
        for name, answer, track in shown
    ]


def generate_replies(
    model: NaturalVideoLLM,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    conditions: Mapping[str, Condition],
    sessions: Mapping[str, Session],
    options: ReplyOptions,
    report: Callable[[str], None],
) -> list[GeneratedReply]:
    """Replies to some held-out messages under the true face, none, and another person's where there is one.

    An utterance has the same seed under each face. Empty where nobody answers the filmed people, and where the model's
    predictions are not numbers, which is said on stderr.

    Args:
        conditions: what a model is shown, by name (`conditions.conditions`).
        sessions: of the examples, by id.
    """
    faces = [name for name in FACES if name in conditions]
    replies = []
    for number, example in enumerate(choose_examples(examples, options.utterances, options.seed)):
        report(f"replies to message {number + 1} of {options.utterances}")
        seed = options.seed + number
        for face in faces:
            generator = torch.Generator(device=model.absence.device).manual_seed(seed)
            track = conditions[face](example)
            try:
                reply, moved = _reply(model, tokenizer, example, track, options.temperature, generator)
            except FloatingPointError as error:
                print(f"no replies: {error}; train the run again at a lower learning rate", file=sys.stderr)
                return []
            replies.append(_generated(example, sessions, model.config.window_s, face, reply, moved, seed))
    return replies


def choose_examples(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Up to `count` answers, drawn by `seed`: of every person one before of anybody a second one."""
    answers = [e for e in examples if e.prompt]
    order = np.random.default_rng(seed).permutation(len(answers))
    taken: dict[str, int] = {}
    ranked = []
    for place in order:
        person = answers[place].person
        taken[person] = taken.get(person, 0) + 1
        ranked.append((taken[person], answers[place]))
    return [example for _, example in sorted(ranked, key=lambda one: one[0])[:count]]


def _generated(
    example: Example,
    sessions: Mapping[str, Session],
    window_s: float,
    face: str,
    reply: str,
    moved_bits: float,
    seed: int,
) -> GeneratedReply:
    first_s, last_s = example.target_span_s
    return GeneratedReply(
        session_id=example.session_id,
        person=example.person,
        context=_context(example, sessions[example.session_id]),
        message=example.prompt,
        human_reply=example.reply,
        face=face,
        reply=reply,
        seed=seed,
        moved_bits=moved_bits,
        begins_s=first_s,
        span_s=(max(0.0, first_s - window_s), last_s),
    )


def _context(example: Example, session: Session) -> list[Turn]:
    """The turns before the message that the example holds, known by their times."""
    begins_s, filmed = float(example.times.min()), session.start.filmed_speaker
    shown: list[Text] = [t for t in session.texts if t.t_end >= begins_s and t.t_start < example.target_span_s[0]]
    places = [place for place, text in enumerate(shown) if text.text == example.prompt]
    return [
        Turn(speaker="person" if text.speaker == filmed else "partner", text=text.text)
        for text in (shown[: places[-1]] if places else [])
    ]


def write_replies(replies: Sequence[GeneratedReply], run: Path) -> None:
    """`replies.jsonl` in the run folder, written beside and renamed."""
    beside = run / f".{REPLIES_FILE}"
    beside.write_text("".join(reply.model_dump_json() + "\n" for reply in replies), encoding="utf-8")
    beside.replace(run / REPLIES_FILE)


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


def _reply(
    model: NaturalVideoLLM,
    tokenizer: PreTrainedTokenizerBase,
    example: Example,
    track: FaceTrack,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[str, float]:
    chat = ChatFormat(tokenizer)
    first = int(np.flatnonzero(example.target)[0])
    prompt = TimedTokens(example.ids[:first].tolist(), example.times[:first].tolist())
    now_s = example.target_span_s[0]

    def look() -> tuple[float, Face]:
        nonlocal now_s
        now_s += _SECONDS_A_TOKEN
        seen = track.between(-np.inf, now_s)
        return now_s, Face(
            torch.from_numpy(seen.latents)[None],
            torch.from_numpy(seen.times)[None],
            torch.from_numpy(seen.present)[None],
        ).to(model.absence.device)

    ends = chat.end_ids["assistant"]
    tokens = list(generate_reply(model, prompt, look, ends, temperature=temperature, generator=generator))
    moved = float(np.mean([t.moved_bits for t in tokens])) if tokens else 0.0
    return str(tokenizer.decode([t.id for t in tokens])).strip(), moved
