"""Seamless Interaction, from small folders in its three layouts."""

import json
import math
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_data import GARBAGE, make_clip, make_sound, opened_files, save, told, word, words_of

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.sessions.importers.seamless import import_seamless, is_seamless, utterance_of
from natural_video_llm.sessions.importers.takes import Report
from natural_video_llm.sessions.video import read_frames

ANN, BOB = "V00_S0644_I00000125_P0299A", "V00_S0644_I00000125_P0799"


def said(*words: dict[str, Any]) -> dict[str, Any]:
    text = " ".join(w["word"] for w in words)
    return {"words": list(words), "start": words[0]["start"], "end": words[-1]["end"], "transcript": text}


HELLO = said(word("Hello", 0.1, 0.3, score=0.9), word("Zoë,", 0.3, 0.5, score=0.8))
REPLY = said(word("Fine", 0.6, 0.8, score=0.7))
LABELS = {"annotations:3P-V": [{"annotation": "LABEL joy", "start_ts": 0, "end_ts": 1}], "metadata:vad": []}


def unpacked(folder: Path, part: str = "train") -> Path:
    """A dyad as the hub's shards unpack, label files and arrays in it being garbage."""
    leaf = folder / "improvised" / part / "0000" / "0005"
    for file_id, utterance in ((ANN, HELLO), (BOB, REPLY)):
        make_clip(leaf / f"{file_id}.mp4")
        save(leaf / f"{file_id}.json", {"id": file_id, "metadata:transcript": [utterance], **LABELS})
        save(leaf / f"{file_id}.npz", GARBAGE)
        save(leaf / f"{file_id}.wav", GARBAGE)
    return leaf


def bucket(folder: Path) -> Path:
    """The same as the bucket has it."""
    part = folder / "improvised" / "train"
    for file_id, utterance in ((ANN, HELLO), (BOB, REPLY)):
        make_clip(part / "video" / f"{file_id}.mp4")
        save(part / "metadata" / "transcript" / f"{file_id}.jsonl", json.dumps(utterance) + "\n")
        save(part / "metadata" / "vad" / f"{file_id}.jsonl", GARBAGE)
        save(part / "movement" / "emotion_scores" / f"{file_id}.npy", GARBAGE)
        save(part / "movement" / "FAUValue" / f"{file_id}.npy", GARBAGE)
        save(part / "annotations" / "1P-IS" / f"{file_id}.json", GARBAGE)
        save(part / "3P-R" / f"{file_id}.json", GARBAGE)
    return part


def shards(folder: Path) -> Path:
    """The same in one shard."""
    leaf = unpacked(folder / "loose")
    target = folder / "shards" / "improvised" / "train" / "0000"
    target.mkdir(parents=True)
    with tarfile.open(target / "0005.tar", "w") as shard:
        for path in sorted(leaf.iterdir()):
            shard.add(path, path.name)
    shutil.rmtree(folder / "loose")
    return target


def run(folder: Path, out: Path) -> Report:
    report = Report()
    import_seamless(folder, out, lambda done, total: None, report)
    return report


@pytest.mark.parametrize("make", [unpacked, bucket, shards])
def test_a_dyad_becomes_two_sessions_on_one_clock(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path / "data")
    assert is_seamless(tmp_path / "data")
    with opened_files() as opened:
        report = run(tmp_path / "data", tmp_path / "out")
    ann, bob = find_sessions(tmp_path / "out")
    assert [s.start.session_id for s in (ann, bob)] == [ANN, BOB]
    assert [s.start.filmed_speaker for s in (ann, bob)] == ["P0299A", "P0799"]
    assert [s.start.person for s in (ann, bob)] == ["V00_P0299A", "V00_P0799"]
    assert [s.start.split for s in (ann, bob)] == ["train", "train"]
    assert "CC BY-NC" in ann.start.consent
    for session in (ann, bob):
        assert [(t.speaker, t.text, t.timing) for t in session.texts] == [
            ("P0299A", "Hello Zoë,", "word"),
            ("P0799", "Fine", "word"),
        ]
        assert words_of(session.texts[0]) == [("Hello", 0.1, 0.3), ("Zoë,", 0.3, 0.5)]
        assert len(list(read_frames(session.path / session.finished_segments[0].file))) == 12
        assert b"LABEL" not in (session.path / "session.jsonl").read_bytes()
    assert (report.imported, report.utterances, report.timed_words, told(report)) == (2, 4, 6, {})
    assert any(ANN in path for path in opened) or make is shards
    assert not [p for p in opened if Path(p).suffix in (".npz", ".npy", ".wav") or "vad" in p or "P-" in p]


def test_a_person_stays_one_person_across_interactions(tmp_path: Path) -> None:
    leaf = unpacked(tmp_path / "data")
    for suffix in (".mp4", ".json"):
        shutil.copy(leaf / f"{ANN}{suffix}", leaf / f"V00_S0648_I00000135_P0299A{suffix}")
    run(tmp_path / "data", tmp_path / "out")
    assert sorted(s.start.person or "" for s in find_sessions(tmp_path / "out")) == ["V00_P0299A"] * 2 + ["V00_P0799"]


def test_parts_of_the_data_set_are_sides_of_the_split(tmp_path: Path) -> None:
    unpacked(tmp_path / "data", "dev")
    run(tmp_path / "data" / "improvised" / "dev", tmp_path / "out")
    start = Session(tmp_path / "out" / ANN).start
    assert start.split == "test"
    assert start.model_extra == {"source_split": "dev"}


def test_a_division_that_parts_a_person_is_not_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaf = unpacked(tmp_path / "data")
    test = tmp_path / "data" / "naturalistic" / "test"
    test.mkdir(parents=True)
    for suffix in (".mp4", ".json"):
        shutil.copy(leaf / f"{ANN}{suffix}", test / f"V00_S0001_I00000001_P0299A{suffix}")
    run(tmp_path / "data", tmp_path / "out")
    assert {s.start.split for s in find_sessions(tmp_path / "out")} == {None}
    assert "V00_P0299A" in capsys.readouterr().err


BAD = [
    (said(word("late", 1.0, 9.0)), "ends after the video"),
    (said(word("two", 0.9, 1.0), word("one", 0.7, 0.8)), "the words are out of order"),
    (said(word("mumble", 0.9, 1.0, score=0.01)), "the aligner's mean score is below 0.2"),
    (said(word("back", 1.0, 0.9)), "a word ends before it starts or has no real time"),
    (said(word("nan", math.nan, 1.0)), "a word ends before it starts or has no real time"),
    ({"start": 1.0, "end": 0.5, "transcript": "whole"}, "ends before it starts or has no real time"),
    ({"words": [{"word": "untimed"}]}, "no utterance with times"),
    ({"words": "all"}, "no utterance with times"),
    ({"start": 1.0, "end": 1.1, "transcript": " "}, "no words"),
    ("text", "no utterance with times"),
    (said(word("early", 0.0, 0.05)), "begins before the utterance before it"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_an_utterance_with_bad_times_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: Any, reason: str
) -> None:
    part = bucket(tmp_path / "data")
    transcript = part / "metadata" / "transcript" / f"{BOB}.jsonl"
    later = said(word("Bye", 1.05, 1.1))
    save(transcript, "\n".join(json.dumps(entry) for entry in (REPLY, bad, later)))
    report = run(tmp_path / "data", tmp_path / "out")
    assert told(report) == {reason: 1}
    assert f"{transcript}: line 2: {reason}; skipped" in capsys.readouterr().err
    for file_id in (ANN, BOB):
        texts = Session(tmp_path / "out" / file_id).texts
        assert [t.text for t in texts if t.speaker == "P0799"] == ["Fine", "Bye"]


def test_what_is_no_json_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = bucket(tmp_path / "data")
    lines = part / "metadata" / "transcript" / f"{ANN}.jsonl"
    save(lines, json.dumps(HELLO) + "\n\n{\n")
    save(part / "metadata" / "transcript" / f"{BOB}.jsonl", b"\xff\xfe")
    report = run(tmp_path / "data", tmp_path / "out")
    assert told(report) == {"no JSON": 1, "no readable transcript": 1}
    assert f"{lines}: line 3: no JSON; skipped" in capsys.readouterr().err
    assert [t.text for t in Session(tmp_path / "out" / BOB).texts] == ["Hello Zoë,"]


def test_without_words_an_utterance_is_timed_as_a_whole(tmp_path: Path) -> None:
    leaf = unpacked(tmp_path / "data")
    entry = {"start": 0.2, "end": 0.9, "transcript": "Good evening."}
    save(leaf / f"{ANN}.json", {"metadata:transcript": [entry]})
    run(tmp_path / "data", tmp_path / "out")
    text = Session(tmp_path / "out" / ANN).texts[0]
    assert (text.text, text.t_start, text.t_end, text.timing) == ("Good evening.", 0.2, 0.9, "utterance")


def test_a_partner_without_video_is_heard_and_not_seen(tmp_path: Path) -> None:
    leaf = unpacked(tmp_path / "data")
    (leaf / f"{BOB}.mp4").unlink()
    report = run(tmp_path / "data", tmp_path / "out")
    (session,) = find_sessions(tmp_path / "out")
    assert [t.speaker for t in session.texts] == ["P0299A", "P0799"]
    assert told(report) == {"no video of this participant": 1}


def test_a_partner_whose_video_has_another_length_is_not_on_this_clock(tmp_path: Path) -> None:
    leaf = unpacked(tmp_path / "data")
    make_clip(leaf / f"{BOB}.mp4", frames=40)
    report = run(tmp_path / "data", tmp_path / "out")
    ann, bob = find_sessions(tmp_path / "out")
    assert [t.text for t in ann.texts] == ["Hello Zoë,"]
    assert [t.text for t in bob.texts] == ["Fine"]
    assert told(report) == {"the partner's video has another length, so its words another clock": 2}


def test_broken_videos_and_silent_ones_are_left_out(tmp_path: Path) -> None:
    leaf = unpacked(tmp_path / "data")
    save(leaf / f"{ANN}.mp4", b"no video at all")
    for file_id in (ANN, BOB):
        save(leaf / f"{file_id}.json", {"metadata:transcript": None})
    report = run(tmp_path / "data", tmp_path / "out")
    assert told(report) == {"the video cannot be read": 1, "nobody's words are there": 1}
    assert not (tmp_path / "out").exists()


def test_a_file_of_sound_alone_is_no_video(tmp_path: Path) -> None:
    leaf = unpacked(tmp_path / "data")
    make_sound(leaf / f"{ANN}.mp4", 1.2)
    report = run(tmp_path / "data", tmp_path / "out")
    assert told(report) == {"the video cannot be read": 1}
    assert [p.name for p in (tmp_path / "out").iterdir()] == [BOB]


def test_an_interrupted_import_goes_on(tmp_path: Path) -> None:
    unpacked(tmp_path / "data")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_seamless(tmp_path / "data", tmp_path / "out", stop, Report())
    first = (tmp_path / "out" / ANN / "session.jsonl").read_bytes()
    save(tmp_path / "out" / f".{BOB}.partial" / "session.jsonl", "{")
    report = run(tmp_path / "data", tmp_path / "out")
    assert (report.imported, report.kept) == (1, 1)
    assert (tmp_path / "out" / ANN / "session.jsonl").read_bytes() == first
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [ANN, BOB]


def test_a_damaged_shard_and_a_folder_without_videos_are_told(tmp_path: Path) -> None:
    save(tmp_path / "data" / "0000.tar", b"no tar" * 200)
    with pytest.raises(UserError, match=r"0000\.tar is no readable tar shard"):
        run(tmp_path / "data", tmp_path / "out")
    (tmp_path / "data" / "0000.tar").unlink()
    with pytest.raises(UserError, match=r"no video named V"):
        run(tmp_path / "data", tmp_path / "out")


numbers = st.one_of(st.floats(), st.none(), st.sampled_from(["", "ja", "1.5", "nan"]), st.integers())
entries = st.dictionaries(
    st.sampled_from(["words", "start", "end", "transcript"]),
    st.one_of(
        numbers,
        st.lists(st.dictionaries(st.sampled_from(["word", "start", "end", "score"]), numbers, max_size=4), max_size=3),
    ),
)


@given(entries)
def test_any_entry_is_an_utterance_in_time_or_a_reason(entry: dict[str, Any]) -> None:
    found = utterance_of(entry, "P1")
    if isinstance(found, Text):
        assert found.text.strip()
        assert 0 <= found.t_start <= found.t_end < math.inf
    else:
        assert found
