"""CANDOR, from small folders in its layout."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from small_data import GARBAGE, make_clip, opened_files, save, told, words_of

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.sessions.importers.candor import import_candor, is_candor
from natural_video_llm.sessions.importers.takes import Report

CONVERSATION = "0020a0c5-1658-4747-99c1-2839e736b481"
ANN, BOB = "5a73899f9cdd1800017786f0", "5fa072f4f4aa580b63834357"
COLUMNS = ("turn_id", "speaker", "start", "stop", "utterance", "interval", "delta", "end_question", "n_words")
TURNS = [
    (0, ANN, 0.1, 0.5, "Hello, you.", "", 0.4, "LABEL", 2),
    (1, BOB, 0.6, 1.0, "Zoë said\nhi", 0.1, 0.4, "LABEL", 3),
]


def table(rows: list[tuple], columns: tuple[str, ...] = COLUMNS) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def item(content: str, start: str | None = None, end: str | None = None) -> dict[str, Any]:
    times = {"start_time": start, "end_time": end} if start else {}
    kind = "pronunciation" if start else "punctuation"
    return {"type": kind, "alternatives": [{"confidence": "0.9", "content": content}], **times}


def recognised(left: list[dict], right: list[dict]) -> dict[str, Any]:
    channels = [{"channel_label": "ch_0", "items": left}, {"channel_label": "ch_1", "items": right}]
    return {"results": {"transcripts": [], "channel_labels": {"channels": channels, "number_of_channels": 2}}}


HEARD = recognised(
    [item("Hello", "0.1", "0.3"), item(","), item("you", "0.3", "0.5"), item(".")],
    [item("Zoe", "0.6", "0.8"), item("hi", "0.9", "1.0")],
)


def corpus(folder: Path, name: str = CONVERSATION) -> Path:
    """One conversation; what no importer may open is garbage."""
    conversation = folder / name
    for user in (ANN, BOB):
        make_clip(conversation / "processed" / f"{user}.mp4")
    save(conversation / "processed" / f"{name}.mp4", GARBAGE)
    save(conversation / "processed" / f"{name}.mp3", GARBAGE)
    save(conversation / "processed" / "channel_map.json", {"L": ANN, "R": BOB})
    save(conversation / "transcription" / "transcript_cliffhanger.csv", table(TURNS))
    save(conversation / "transcription" / "transcript_audiophile.csv", GARBAGE)
    save(conversation / "transcription" / "transcript_backbiter.csv", GARBAGE)
    save(conversation / "transcription" / "transcribe_output.json", HEARD)
    for file in ("survey.csv", "audio_video_features.csv", "metadata.json"):
        save(conversation / file, GARBAGE)
    return conversation


def run(folder: Path, out: Path) -> Report:
    report = Report()
    import_candor(folder, out, lambda done, total: None, report)
    return report


def test_a_conversation_becomes_two_sessions(tmp_path: Path) -> None:
    corpus(tmp_path / "data")
    assert is_candor(tmp_path / "data")
    with opened_files() as opened:
        report = run(tmp_path / "data", tmp_path / "out")
    ann, bob = find_sessions(tmp_path / "out")
    for session, user in ((ann, ANN), (bob, BOB)):
        assert session.start.session_id == f"{CONVERSATION}_{user}"
        assert (session.start.filmed_speaker, session.start.person) == (user, user)
        assert [(t.speaker, t.text, t.timing) for t in session.texts] == [
            (ANN, "Hello, you.", "word"),
            (BOB, "Zoë said\nhi", "utterance"),  # the recogniser heard other words
        ]
        assert words_of(session.texts[0]) == [("Hello,", 0.1, 0.3), ("you.", 0.3, 0.5)]
        assert session.finished_segments[0].frames == 12
        assert b"LABEL" not in (session.path / "session.jsonl").read_bytes()
    assert (report.imported, report.utterances, report.timed_words, told(report)) == (2, 4, 4, {})
    assert any(path.endswith("transcript_cliffhanger.csv") for path in opened)
    assert not [p for p in opened if Path(p).name in ("survey.csv", "audio_video_features.csv", "metadata.json")]


def test_without_the_recogniser_turns_are_timed_as_a_whole(tmp_path: Path) -> None:
    conversation = corpus(tmp_path)
    (conversation / "transcription" / "transcribe_output.json").unlink()
    assert told(run(tmp_path, tmp_path / "out")) == {}
    assert {t.timing for s in find_sessions(tmp_path / "out") for t in s.texts} == {"utterance"}
    save(conversation / "transcription" / "transcribe_output.json", {"results": {"items": []}})
    report = run(tmp_path, tmp_path / "again")
    assert told(report) == {"no words with times by channel, so turns are timed as a whole": 1}


@pytest.mark.parametrize("name", ["transcript_audiophile.csv", "transcript_backbiter.csv"])
def test_other_cuts_into_turns_serve_as_well(tmp_path: Path, name: str) -> None:
    folder = corpus(tmp_path) / "transcription"
    for path in folder.glob("*.csv"):
        path.unlink()
    save(folder / name, table(TURNS))
    run(tmp_path, tmp_path / "out")
    assert [t.text for t in find_sessions(tmp_path / "out")[0].texts] == ["Hello, you.", "Zoë said\nhi"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((2, ANN, "x", 1.1, "hm", "", "", "", 1), "start or stop is no number"),
        ((2, ANN, "", "", "hm", "", "", "", 1), "start or stop is no number"),
        ((2, ANN, 1.1, 1.0, "hm", "", "", "", 1), "ends before it starts or has no real time"),
        ((2, ANN, "nan", 1.0, "hm", "", "", "", 1), "ends before it starts or has no real time"),
        ((2, ANN, 1.0, 99.0, "hm", "", "", "", 1), "ends after the video"),
        ((2, ANN, 1.0, 1.1, "", "", "", "", 1), "no words"),
        ((2, "", 1.0, 1.1, "hm", "", "", "", 1), "no speaker"),
        ((2,), "start or stop is no number"),
    ],
)
def test_a_bad_turn_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: tuple, reason: str
) -> None:
    path = corpus(tmp_path) / "transcription" / "transcript_cliffhanger.csv"
    save(path, table([TURNS[0], row, TURNS[1]]))
    report = run(tmp_path, tmp_path / "out")
    assert told(report) == {reason: 1}
    assert f"{path}: line 3: {reason}; skipped" in capsys.readouterr().err
    assert [t.text for t in find_sessions(tmp_path / "out")[0].texts] == ["Hello, you.", "Zoë said\nhi"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (table([], ("turn_id", "speaker", "start", "stop")), "no column utterance"),
        (b"speaker,start,stop,utterance\n\xff\xfe", "the transcript cannot be read to its end"),
        ('speaker,start,stop,utterance\na,0,1,"' + "x" * 200_000, "the transcript cannot be read to its end"),
        ("", "no column speaker"),
    ],
)
def test_a_damaged_transcript_is_told(tmp_path: Path, content: str | bytes, reason: str) -> None:
    path = corpus(tmp_path) / "transcription" / "transcript_cliffhanger.csv"
    save(path, content)
    report = run(tmp_path, tmp_path / "out")
    assert told(report) == {reason: 1, "nobody's words are there": 2}


def test_a_user_without_video_is_heard_and_not_seen(tmp_path: Path) -> None:
    conversation = corpus(tmp_path)
    (conversation / "processed" / f"{ANN}.mp4").unlink()
    run(tmp_path, tmp_path / "out")
    (session,) = find_sessions(tmp_path / "out")
    assert session.start.filmed_speaker == BOB
    assert [t.speaker for t in session.texts] == [ANN, BOB]
    save(conversation / "processed" / f"{BOB}.mp4", b"no video")
    assert told(run(tmp_path, tmp_path / "again")) == {"the video cannot be read": 1}
    (conversation / "processed" / f"{BOB}.mp4").unlink()
    assert told(run(tmp_path, tmp_path / "third")) == {"no processed video of either user": 1}


def test_without_a_channel_map_the_videos_say_who_talks(tmp_path: Path) -> None:
    (corpus(tmp_path) / "processed" / "channel_map.json").unlink()
    run(tmp_path, tmp_path / "out")
    assert [s.start.filmed_speaker for s in find_sessions(tmp_path / "out")] == [ANN, BOB]


def test_a_second_import_takes_what_is_new(tmp_path: Path) -> None:
    corpus(tmp_path)
    run(tmp_path, tmp_path / "out")
    corpus(tmp_path, "1120a0c5-1658-4747-99c1-2839e736b481")
    report = run(tmp_path, tmp_path / "out")
    assert (report.imported, report.kept) == (2, 2)
    people = [s.start.person for s in find_sessions(tmp_path / "out")]
    assert sorted(people, key=str) == [ANN, ANN, BOB, BOB]
    assert Session(tmp_path / "out" / f"{CONVERSATION}_{ANN}").start.person == ANN


def test_a_folder_without_conversations_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no conversation"):
        run(tmp_path, tmp_path / "out")
