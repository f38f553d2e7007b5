"""Sessions become examples: what is predicted, when, with which face, and who is held out."""

from pathlib import Path

import numpy as np
import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.sessions.aligned import AlignedUtterance, write_aligned
from natural_video_llm.sessions.events import SessionStart, VideoSegmentEnd
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import Latents, latents_file, save_latents
from natural_video_llm.sessions.split import fold_sessions, split_sessions
from natural_video_llm.tokenization import tokenizer_sha256
from natural_video_llm.training.dataset import (
    Example,
    FaceTrack,
    batch_at,
    collate,
    load_examples,
    load_tracks,
)

WINDOW_S = 2.0


def make_session(
    folder: Path, chat: ChatFormat, turns: list[tuple[str, str]], person: str | None = None, split: str | None = None
) -> Session:
    """A session with 10 frames a second of made-up latents; each turn takes one second, the next follows at once."""
    start = SessionStart(
        session_id=folder.name,
        started_utc="2026-01-01T00:00:00Z",
        filmed_speaker="ann",
        person=person,
        consent="made up",
        split=split,
    )
    with SessionWriter(folder, start) as writer:
        writer.append(VideoSegmentEnd(t=10.0, file="video/000000.mp4", frames=100))
    session = Session(folder)
    times = np.arange(100) / 10
    rng = np.random.default_rng(0)
    latents = Latents(rng.normal(size=(100, 4)).astype(np.float16), times, np.ones(100, bool), "points", "0" * 64, "m")
    save_latents(latents_file(session, "points", "video/000000.mp4"), latents)
    utterances = []
    for second, (speaker, text) in enumerate(turns):
        ids = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        ends = np.linspace(second + 0.1, second + 1, len(ids)).tolist()
        utterances.append(
            AlignedUtterance(
                speaker=speaker,
                text=text,
                timing="char",
                t_start=second,
                t_end=second + 1,
                tokenizer="t",
                tokenizer_sha256=tokenizer_sha256(chat.tokenizer),
                token_ids=ids,
                token_spans=[(0, 1)] * len(ids),
                token_t_start=ends,
                token_t_end=ends,
                encoder="points",
                latents=(0, 100),
                window_s=WINDOW_S,
            )
        )
    write_aligned(session.aligned_file, utterances)
    return Session(folder)


def load(sessions: list[Session], chat: ChatFormat, context_turns: int = 0) -> list[Example]:
    return load_examples(sessions, chat, tokenizer_sha256(chat.tokenizer), "points", 20.0, context_turns)


def test_replies_are_the_targets_and_end_with_their_mark(tmp_path: Path, chat: ChatFormat) -> None:
    session = make_session(
        tmp_path / "a", chat, [("ann", "Hello there."), ("bob", "Hi!"), ("ann", "Bye."), ("bob", "So long.")]
    )
    first, second = load([session], chat)
    assert (first.prompt, first.reply) == ("Hello there.", "Hi!")
    decode = chat.tokenizer.decode
    assert decode(first.ids[first.target]) == "Hi!<|im_end|>"
    assert decode(second.ids) == "<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\nSo long.<|im_end|>\n"
    (_, with_context) = load([session], chat, context_turns=2)
    assert decode(with_context.ids).startswith("<|im_start|>user\nHello there.<|im_end|>\n<|im_start|>assistant\nHi!")
    assert decode(with_context.ids[with_context.target]) == "So long.<|im_end|>"


def test_the_conversation_is_cut_as_the_chat_template_as_a_whole_is(tmp_path: Path, chat: ChatFormat) -> None:
    session = make_session(tmp_path / "a", chat, [("ann", "I'm off, see you!"), ("bob", "Take care – 再见 😀")])
    (example,) = load([session], chat)
    messages = [{"role": "user", "content": example.prompt}, {"role": "assistant", "content": example.reply}]
    whole = str(chat.tokenizer.apply_chat_template(messages, tokenize=False))
    without_system = whole[whole.index("<|im_start|>user") :]
    assert example.ids.tolist() == chat.tokenizer(without_system, add_special_tokens=False)["input_ids"]


def test_query_time_is_the_next_tokens_time(tmp_path: Path, chat: ChatFormat) -> None:
    session = make_session(tmp_path / "a", chat, [("ann", "One two three."), ("bob", "Four five six.")])
    (example,) = load([session], chat)
    batch = collate([example], [example.seen(3.0)], pad_id=0)
    for position in np.flatnonzero(batch.keep[0].numpy()):
        assert batch.labels[0, position] == example.ids[position + 1]
        assert batch.query_times[0, position] == example.times[position + 1]
    assert batch.keep.sum() == example.target.sum()
    assert (np.diff(example.times) >= 0).all()


def test_own_words_are_the_targets_where_nobody_answers(tmp_path: Path, chat: ChatFormat) -> None:
    session = make_session(tmp_path / "a", chat, [("ann", "bin blue at f two now")])
    (example,) = load([session], chat)
    assert chat.tokenizer.decode(example.ids[example.target]) == "bin blue at f two now"
    assert (example.prompt, example.words) == ("", 6)


def test_faces_are_cut_by_time_and_padded(tmp_path: Path, chat: ChatFormat) -> None:
    session = make_session(
        tmp_path / "a", chat, [("ann", "Hello."), ("bob", "Hi!"), ("ann", "Bye."), ("bob", "So long.")]
    )
    examples = load([session], chat)
    faces = [e.seen(1.5) for e in examples]
    for example, face in zip(examples, faces, strict=True):
        assert face.times.min() > example.query_times.min() - 1.5
        assert face.times.max() <= example.query_times.max()
    batch = collate(examples, faces, pad_id=0)
    counts = [len(f.times) for f in faces]
    assert batch.face.present.sum(1).tolist() == counts
    assert len(examples[0].seen(1.5, examples[0].track.later(100.0)).times) == 0


def test_every_epoch_holds_every_example_once() -> None:
    first, second = ([batch_at(step, 12, 4, seed=3) for step in range(e, e + 3)] for e in (0, 3))
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second)) == list(range(12))
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()
    assert batch_at(2, 12, 4, seed=3).tolist() == first[2].tolist(), "a step is what it is whatever came before"
    assert batch_at(0, 12, 4, seed=4).tolist() != first[0].tolist()


def test_epochs_that_batches_do_not_divide_are_whole_all_the_same() -> None:
    row = np.concatenate([batch_at(step, 5, 3, seed=0) for step in range(10)])
    for epoch in range(6):
        assert sorted(row[5 * epoch : 5 * epoch + 5]) == list(range(5))
    assert len(batch_at(7, 3, 8, seed=0)) == 8, "a batch may hold several epochs"


def test_people_are_never_on_both_sides(tmp_path: Path, chat: ChatFormat) -> None:
    turns = [("ann", "Hello."), ("bob", "Hi!")]
    sessions = [make_session(tmp_path / f"s{i}", chat, turns, person=f"p{i // 2}") for i in range(8)]
    train, test = split_sessions(sessions, 0.25, seed=0)
    assert len(train) == 6
    assert len(test) == 2
    assert not train & test
    assert len({s.start.person for s in sessions if s.start.session_id in test}) == 1
    tested = [s for _, part in fold_sessions(sessions, 4, seed=0) for s in part]
    assert sorted(tested) == sorted(s.start.session_id for s in sessions)
    with pytest.raises(UserError, match="5 folds"):
        fold_sessions(sessions, 5, seed=0)


def test_the_datas_own_split_is_kept(tmp_path: Path, chat: ChatFormat) -> None:
    turns = [("ann", "Hello."), ("bob", "Hi!")]
    sessions = [make_session(tmp_path / s, chat, turns, split=part) for s, part in (("a", "test"), ("b", "train"))]
    assert split_sessions(sessions, 0.9, seed=0) == ({"b"}, {"a"})
    part = [make_session(tmp_path / s, chat, turns, split="test") for s in ("c", "d")]  # of a larger data set
    assert {len(side) for side in split_sessions(part, 0.5, seed=0)} == {1}


def test_one_person_is_split_by_session_and_one_session_not_at_all(tmp_path: Path, chat: ChatFormat) -> None:
    turns = [("ann", "Hello."), ("bob", "Hi!")]
    sessions = [make_session(tmp_path / f"s{i}", chat, turns, person="p") for i in range(4)]
    train, test = split_sessions(sessions, 0.25, seed=0)
    assert (len(train), len(test)) == (3, 1)
    with pytest.raises(UserError, match="one session only"):
        split_sessions(sessions[:1], 0.25, seed=0)


def test_data_aligned_for_something_else_is_refused(tmp_path: Path, chat: ChatFormat) -> None:
    session = make_session(tmp_path / "a", chat, [("ann", "Hello."), ("bob", "Hi!")])
    with pytest.raises(UserError, match="run nvllm align"):
        load_examples([session], chat, "another tokenizer", "points", 20.0, 0)
    with pytest.raises(UserError, match="nothing was held out, so nothing can be evaluated"):
        load([], chat)
    with pytest.raises(UserError, match="other weights of points than those the model was trained with"):
        next(load_tracks([session], "points", 20.0, "1" * 64))
    silent = make_session(tmp_path / "b", chat, [])
    with pytest.raises(UserError, match="no utterance to learn from"):
        load([silent], chat)


def test_a_stretch_without_a_frame_can_be_mirrored() -> None:
    nothing = FaceTrack(np.zeros((0, 8), np.float16), np.zeros(0), np.zeros(0, bool))
    assert nothing.mirrored(lambda halves: -halves).latents.shape == (0, 8)
