"""Sessions → examples → batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from natural_video_llm.errors import UserError
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.face import Face, PersonNeutral
from natural_video_llm.sessions.aligned import AlignedUtterance, read_aligned
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import Latents, load_session_latents
from natural_video_llm.sessions.split import person_of


@dataclass(frozen=True)
class FaceTrack:
    """A face over time, one row a frame: latents [frames, 2 * latent_size] float16 (as they are, then relative to
    the person's neutral; they may lie in a file, see `FaceStore`), times [frames] float64 seconds, present [frames]
    bool."""

    latents: np.ndarray
    times: np.ndarray
    present: np.ndarray

    @classmethod
    def of(cls, latents: Latents, neutral_memory_s: float) -> "FaceTrack":
        """The latents, each also relative to the running neutral of the person."""
        relative = PersonNeutral(neutral_memory_s).extend(latents.latents, latents.times, latents.present)
        return cls(relative, latents.times, latents.present)

    def between(self, after_s: float, until_s: float) -> "FaceTrack":
        """Frames with after_s < time <= until_s."""
        first, last = np.searchsorted(self.times, [after_s, until_s], side="right")
        return FaceTrack(self.latents[first:last], self.times[first:last], self.present[first:last])

    def later(self, seconds: float) -> "FaceTrack":
        return replace(self, times=self.times + seconds)

    def mirrored(self, mirror: Callable[[np.ndarray], np.ndarray]) -> "FaceTrack":
        """The face seen in a mirror; the neutral is mirrored with it."""
        halves = self.latents.reshape(len(self.latents), 2, self.latents.shape[1] // 2)
        return replace(self, latents=mirror(halves).reshape(self.latents.shape))


@dataclass(frozen=True)
class Example:
    """Some turns of a conversation whose last utterance is to be predicted.

    Args:
        session_id, person: where it comes from; `person` keeps splits apart.
        prompt, reply: the last message (empty where people are predicted by their own words) and the utterance.
        ids, times: [tokens], the whole conversation's tokens and when each appeared.
        target: [tokens] bool, the tokens to predict.
        track: the face of the whole session.
    """

    session_id: str
    person: str
    prompt: str
    reply: str
    ids: np.ndarray
    times: np.ndarray
    target: np.ndarray
    track: FaceTrack

    @property
    def query_times(self) -> np.ndarray:
        """Position i predicts token i + 1 and looks at the face as it is when that token appears."""
        return np.append(self.times[1:], self.times[-1])

    @property
    def target_span_s(self) -> tuple[float, float]:
        """Times of the first and the last token to predict."""
        times = self.times[self.target]
        return float(times[0]), float(times[-1])

    @property
    def pieces(self) -> np.ndarray:
        """[tokens] int, what belongs together in the contrastive loss, -1 outside the target: an answer is one piece,
        since the face came before it; of one's own words each token is, since the face says it then and there."""
        own_words = not self.prompt
        return np.where(self.target, np.cumsum(self.target) - 1 if own_words else 0, -1)

    @property
    def words(self) -> int:
        return len(self.reply.split())

    def seen(self, memory_s: float, track: FaceTrack | None = None) -> FaceTrack:
        """The stretch of the face (or of another track) that can change any of the predictions."""
        queries = self.query_times
        return (track or self.track).between(queries.min() - memory_s, queries.max())

    def ahead(self, seconds: float) -> FaceTrack:
        """The stretch of the face from the first prediction on, up to `seconds` after the last."""
        first_s, last_s = self.target_span_s
        return self.track.between(first_s, last_s + seconds)


def load_examples(
    sessions: Sequence[Session],
    chat: ChatFormat,
    tokenizer_sha256: str,
    encoder: str,
    neutral_memory_s: float,
    context_turns: int,
    tracks: Iterable[FaceTrack] | None = None,
) -> list[Example]:
    """Every utterance that can be learned from, with its conversation and its face.

    Where anybody answers the filmed person, the answers are the targets; where only filmed people speak, their own
    words are (what was said shows on the face that says it). `tracks` are the sessions' faces where they are already
    at hand; else they are read into memory.

    Raises:
        UserError: no aligned data, or cut by another tokenizer, or faces of another encoder.
    """
    if not sessions:
        raise UserError("no session to take examples from: nothing was held out, so nothing can be evaluated")
    loaded = [(session, read_aligned(session.aligned_file)) for session in sessions]
    answers = any(u.speaker != s.start.filmed_speaker for s, utterances in loaded for u in utterances)
    examples: list[Example] = []
    faces = load_tracks(sessions, encoder, neutral_memory_s) if tracks is None else tracks
    for (session, utterances), track in zip(loaded, faces, strict=True):
        _check_alignment(session, utterances, tokenizer_sha256, encoder)
        examples += _session_examples(session, utterances, track, chat, answers, context_turns)
    if not examples:
        raise UserError(f"{sessions[0].path.parent}: no utterance to learn from in {len(sessions)} session(s)")
    return examples


def load_tracks(
    sessions: Sequence[Session], encoder: str, neutral_memory_s: float, encoder_sha256: str | None = None
) -> Iterator[FaceTrack]:
    """The face of each session, one after the other.

    Args:
        encoder_sha256: of the weights that a trained model knows; None takes those of the first session.

    Raises:
        UserError: latents are missing, or come from another encoder or other weights than they should.
    """
    wanted, size = encoder_sha256, None
    for session in sessions:
        latents = load_session_latents(session, encoder)
        wanted, size = wanted or latents.encoder_sha256, size or latents.latents.shape[1]
        folder = session.latents_dir(encoder)
        again = f"delete {folder} and run: nvllm extract {session.path} --encoder {encoder}"
        if latents.encoder != encoder:
            raise UserError(f"{folder}: these are latents of {latents.encoder}, not of {encoder}; {again}")
        if latents.encoder_sha256 != wanted or latents.latents.shape[1] != size:
            others = "the first session's latents" if encoder_sha256 is None else "those the model was trained with"
            raise UserError(f"{folder}: made by other weights of {encoder} than {others}; {again}")
        yield FaceTrack.of(latents, neutral_memory_s)


def no_face(example: Example) -> FaceTrack:
    return example.track.between(-np.inf, -np.inf)


def with_reply(example: Example, words: TimedTokens, reply: str, chat: ChatFormat) -> Example:
    """The same conversation and face with another last utterance (a candidate)."""
    first = int(np.flatnonzero(example.target)[0]) - len(chat.marks["assistant"].before)
    turn = chat.turn("assistant", words)
    return replace(
        example,
        reply=reply,
        ids=np.append(example.ids[:first], turn.ids).astype(np.int64),
        times=np.append(example.times[:first], turn.times),
        target=np.append(np.zeros(first, bool), turn_target(chat, "assistant", len(words.ids), ends=True)),
    )


def _session_examples(
    session: Session,
    utterances: list[AlignedUtterance],
    track: FaceTrack,
    chat: ChatFormat,
    answers: bool,
    context_turns: int,
) -> Iterator[Example]:
    filmed = session.start.filmed_speaker
    turns = [("user" if u.speaker == filmed else "assistant", u) for u in utterances]
    for i, (role, utterance) in enumerate(turns):
        wanted = role == "assistant" and i > 0 and turns[i - 1][0] == "user" if answers else role == "user"
        if not wanted:
            continue
        shown = turns[max(0, i - int(answers) - context_turns) : i + 1]
        tokens = chat.conversation([(r, TimedTokens(u.token_ids, u.token_t_end)) for r, u in shown])
        target = turn_target(chat, role, len(utterance.token_ids), ends=answers)
        yield Example(
            session_id=session.start.session_id,
            person=person_of(session),
            prompt=turns[i - 1][1].text if answers else "",
            reply=utterance.text,
            ids=np.array(tokens.ids, np.int64),
            times=np.maximum.accumulate(np.array(tokens.times, np.float64)),
            target=np.append(np.zeros(len(tokens.ids) - len(target), bool), target),
            track=track,
        )


def turn_target(chat: ChatFormat, role: str, words: int, ends: bool) -> np.ndarray:
    """Which tokens of a turn are to be predicted: its words and, where it `ends`, the mark that says so."""
    marks = chat.marks[role]
    target = np.zeros(len(marks.before) + words + len(marks.after), bool)
    target[len(marks.before) : len(marks.before) + words + (chat.end_length[role] if ends else 0)] = True
    return target


def _check_alignment(session: Session, utterances: list[AlignedUtterance], tokenizer_sha256: str, encoder: str) -> None:
    for utterance in utterances:
        if utterance.tokenizer_sha256 != tokenizer_sha256:
            what = f"cut into tokens by the tokenizer of {utterance.tokenizer}, which is not this LLM's"
        elif utterance.encoder != encoder:
            what = f"aligned with latents of {utterance.encoder}, not of {encoder}"
        else:
            continue
        raise UserError(f"{session.aligned_file}: {what}; run nvllm align again with --llm and --encoder as here")


@dataclass(frozen=True)
class Batch:
    """ids, labels [batch, tokens]; query_times [batch, tokens] float64; mask [batch, tokens] bool (real tokens);
    pieces [batch, tokens] int (the piece of text that the next token belongs to, -1 where it is not to be predicted);
    face."""

    ids: Tensor
    labels: Tensor
    query_times: Tensor
    mask: Tensor
    pieces: Tensor
    face: Face

    @property
    def keep(self) -> Tensor:
        """[batch, tokens] bool: the positions whose next token is to be predicted."""
        return self.pieces >= 0

    def to(self, device: torch.device) -> "Batch":
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})

    def texts(self, first: int, last: int, tokens: int) -> "Batch":
        """Rows [first, last), of which none is longer than `tokens`, without the padding that longer rows needed; the
        face stays as it is."""
        fields = {name: value for name, value in vars(self).items() if name != "face"}
        return Batch(**{name: value[first:last, :tokens] for name, value in fields.items()}, face=self.face)


def collate(examples: Sequence[Example], faces: Sequence[FaceTrack], pad_id: int) -> Batch:
    """Pad examples on the right; faces, one for each example or fewer to be shared, likewise."""
    tokens, count = max(len(e.ids) for e in examples), len(examples)
    ids = torch.full((count, tokens + 1), pad_id)
    times = torch.zeros(count, tokens, dtype=torch.float64)
    mask = torch.zeros(count, tokens, dtype=torch.bool)
    pieces = torch.full((count, tokens), -1)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = torch.from_numpy(example.ids)
        times[row, :length] = torch.from_numpy(example.query_times)
        mask[row, :length] = True
        # No example has more pieces than a row has tokens, so that the numbers of two examples never meet.
        own = torch.from_numpy(example.pieces[1:])
        pieces[row, : length - 1] = torch.where(own >= 0, own + row * tokens, -1)
    return Batch(ids[:, :-1], ids[:, 1:], times, mask, pieces, collate_faces(faces))


def collate_faces(faces: Sequence[FaceTrack]) -> Face:
    """Stretches as a batch, padded on the right with frames without a face."""
    frames, count = max(len(f.times) for f in faces), len(faces)
    latents = np.zeros((count, frames, faces[0].latents.shape[1]), np.float16)
    times = np.zeros((count, frames))
    present = np.zeros((count, frames), bool)
    for row, face in enumerate(faces):
        seen = len(face.times)
        latents[row, :seen], times[row, :seen], present[row, :seen] = face.latents, face.times, face.present
    return Face(torch.from_numpy(latents), torch.from_numpy(times), torch.from_numpy(present))


def batch_at(step: int, count: int, batch_size: int, seed: int) -> np.ndarray:
    """[batch_size] indices of the examples of one step (from 0), a function of its arguments alone.

    Batches are cut from an endless row of epochs; each epoch holds every example once, shuffled by (seed, epoch).
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = range(places[0] // count, places[-1] // count + 1)
    rows = np.concatenate([_epoch(count, seed, epoch) for epoch in epochs])
    return rows[places - places[0] // count * count]


@lru_cache(maxsize=4)
def _epoch(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
