"""Replies under different faces: to one message side by side, and to many held-out messages at fixed seeds."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from natural_video_llm.evaluation.conditions import Condition, moved_to
from natural_video_llm.evaluation.reply_records import FACES, GeneratedReply, Turn
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.generate import MAX_TOKENS, generate_reply
from natural_video_llm.models.lean_decoder import decoder_maker
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.folder import Session
from natural_video_llm.training.dataset import Example, FaceTrack, no_face

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


class Replier:
    """Writes replies in the place of those that `examples` hold, as the live engine would."""

    def __init__(self, model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]):
        self.model, self._tokenizer = model, tokenizer
        self._ends = ChatFormat(tokenizer).end_ids["assistant"]
        longest = max((len(_prompt(e).ids) for e in examples), default=0)
        self._new_decoder = decoder_maker(model, longest + MAX_TOKENS)

    def __call__(
        self, example: Example, track: FaceTrack, temperature: float = 0.0, generator: torch.Generator | None = None
    ) -> tuple[str, float]:
        """The reply under the face of `track`, and by how many bits a token it moved that."""
        now_s = example.target_span_s[0]

        def look() -> tuple[float, Face]:
            nonlocal now_s
            now_s += _SECONDS_A_TOKEN
            seen = track.between(-np.inf, now_s)
            return now_s, Face(
                torch.from_numpy(seen.latents)[None],
                torch.from_numpy(seen.times)[None],
                torch.from_numpy(seen.present)[None],
            ).to(self.model.absence.device)

        decoder, prompt = self._new_decoder(), _prompt(example)
        written = generate_reply(
            self.model, decoder, prompt, look, self._ends, temperature=temperature, generator=generator
        )
        tokens = list(written)
        moved = float(np.mean([t.moved_bits for t in tokens])) if tokens else 0.0
        return str(self._tokenizer.decode([t.id for t in tokens])).strip(), moved


def _prompt(example: Example) -> TimedTokens:
    first = int(np.flatnonzero(example.target)[0])
    return TimedTokens(example.ids[:first].tolist(), example.times[:first].tolist())


def replies_under_faces(replier: Replier, example: Example, faces: Sequence[Example]) -> list[ReplyUnderFace]:
    """Greedy replies to the example's message with nobody in view and under each of `faces`."""
    memory_s = replier.model.memory_s
    shown = [("nobody in view", "", no_face(example))]
    shown += [(f"as {e.person} to {e.prompt!r}", e.reply, moved_to(example, e, memory_s)) for e in faces]
    return [ReplyUnderFace(example.prompt, name, answer, *replier(example, track)) for name, answer, track in shown]


def generate_replies(
    replier: Replier,
    examples: Sequence[Example],
    conditions: Mapping[str, Condition],
    sessions: Mapping[str, Session],
    options: ReplyOptions,
    report: Callable[[str], None],
) -> list[GeneratedReply]:
    """Replies to some held-out messages under the true face, none, and another person's where there is one (of one
    person, another session's).

    An utterance has the same seed under each face. Empty where nobody answers the filmed people, and where the model's
    predictions are not numbers, which is said on stderr.

    Args:
        conditions: what a model is shown, by name (`conditions.conditions`).
        sessions: of the examples, by id.
    """
    model, faces = replier.model, [name for name in FACES if name in conditions]
    replies = []
    for number, example in enumerate(choose_examples(examples, options.utterances, options.seed)):
        report(f"replies to message {number + 1} of {options.utterances}")
        seed = options.seed + number
        for face in faces:
            generator = torch.Generator(device=model.absence.device).manual_seed(seed)
            track = conditions[face](example)
            try:
                reply, moved = replier(example, track, options.temperature, generator)
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
