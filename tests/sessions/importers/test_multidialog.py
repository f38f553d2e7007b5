"""MultiDialog, from small folders in its layout."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_data import GARBAGE, make_clip, make_sound, opened_files, save, told

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import VideoGap
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.sessions.importers.multidialog import import_multidialog, is_multidialog
from natural_video_llm.sessions.importers.takes import Report
from natural_video_llm.sessions.video import read_frames

DIALOGUE = "t_ffa55df6-114d-4b36-87a1-7af6b8b63d9b"
SPOKEN = [("gpt", "k", " Do you like jazz, Zoë?"), ("human", "b", " I do."), ("gpt", "k", " So do I.")]


def row(number: int, part: str = "train", **changes: Any) -> dict[str, Any]:
    speaker, actor, words = SPOKEN[number]
    name = f"{DIALOGUE}/{DIALOGUE}_{number}{actor}.wav"
    return {
        "conv_id": DIALOGUE,
        "utterance_id": number,
        "from": speaker,
        "value": words,
        "emotion": "LABEL joy",
        "file_name": name,
        "original_full_path": f"{part}/{name}",
        **changes,
    }


def metadata(folder: Path, rows: list[Any], part: str = "train") -> Path:
    return save(
        folder / "metadata" / part / f"{part}_metadata_0000.jsonl", "".join(json.dumps(one) + "\n" for one in rows)
    )


def data(folder: Path) -> Path:
    """Both utterances of k with video, the one of b with sound alone."""
    for number in (0, 2):
        make_clip(folder / "video" / "train" / DIALOGUE / f"{DIALOGUE}_{number}k.mp4", frames=12)
    make_sound(folder / "audio" / "train" / DIALOGUE / f"{DIALOGUE}_1b.wav", 0.5)
    save(folder / "emotions.csv", GARBAGE)
    metadata(folder, [row(0), row(1), row(2)])
    return folder


def run(folder: Path, out: Path) -> Report:
    report = Report()
    import_multidialog(folder, out, lambda done, total: None, report)
    return report


def test_utterances_lie_end_to_end_and_the_other_falls_into_a_gap(tmp_path: Path) -> None:
    data(tmp_path / "data")
    assert is_multidialog(tmp_path / "data")
    with opened_files() as opened:
        report = run(tmp_path / "data", tmp_path / "out")
    (session,) = find_sessions(tmp_path / "out")
    start = session.start
    assert (start.session_id, start.filmed_speaker, start.person) == (f"{DIALOGUE}_k", "gpt", "multidialog_k")
    assert start.split == "train"
    assert [(t.speaker, t.text, t.timing) for t in session.texts] == [
        ("gpt", "Do you like jazz, Zoë?", "utterance"),
        ("human", "I do.", "utterance"),
        ("gpt", "So do I.", "utterance"),
    ]
    first, second, third = session.texts
    assert first.t_start == 0
    assert second.t_end - second.t_start == pytest.approx(0.5, abs=0.01)
    assert first.t_end <= second.t_start < second.t_end <= third.t_start
    before, after = session.finished_segments
    times = [t for s in (before, after) for t, _ in read_frames(session.path / s.file)]
    assert len(times) == 24
    assert times == sorted(set(times))
    assert times[12] == pytest.approx(third.t_start, abs=1e-3)
    (gap,) = (e for e in session.events if isinstance(e, VideoGap))
    assert (gap.t, gap.t_end) == (before.t, third.t_start)
    assert b"LABEL" not in (session.path / "session.jsonl").read_bytes()
    assert not [path for path in opened if path.endswith("emotions.csv")]
    assert (report.imported, report.utterances, told(report)) == (1, 3, {})


def test_two_filmed_actors_make_two_sessions(tmp_path: Path) -> None:
    data(tmp_path)
    make_clip(tmp_path / "video" / f"{DIALOGUE}_1b.mp4", frames=5)
    run(tmp_path, tmp_path / "out")
    b, k = find_sessions(tmp_path / "out")
    assert [s.start.person for s in (b, k)] == ["multidialog_b", "multidialog_k"]
    assert [t.t_start for t in b.texts] == [t.t_start for t in k.texts]
    assert [s.frames for s in b.finished_segments] == [5]
    assert b.finished_segments[0].t > k.finished_segments[0].t


def test_the_parts_metadata_and_the_combined_one_are_one(tmp_path: Path) -> None:
    data(tmp_path)
    combined = [row(number) for number in range(3)]
    save(tmp_path / "metadata.jsonl", "".join(json.dumps(one) + "\n" for one in combined))
    assert run(tmp_path, tmp_path / "out").imported == 1
    assert find_sessions(tmp_path / "out")[0].start.split == "train"


def test_actors_who_are_in_all_parts_take_the_split_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data(tmp_path)
    other = "t_00000000-0000-0000-0000-000000000000"
    make_clip(tmp_path / "video" / f"{other}_0k.mp4")
    metadata(tmp_path, [row(0, conv_id=other, file_name=f"{other}_0k.wav")], "test_freq")
    run(tmp_path, tmp_path / "out")
    assert [s.start.split for s in find_sessions(tmp_path / "out")] == [None, None]
    assert "multidialog_k" in capsys.readouterr().err


def test_an_utterance_of_unknown_length_breaks_the_clock(tmp_path: Path) -> None:
    data(tmp_path)
    (tmp_path / "audio" / "train" / DIALOGUE / f"{DIALOGUE}_1b.wav").unlink()
    report = run(tmp_path, tmp_path / "out")
    (reason,) = told(report)
    assert "neither video nor sound" in reason
    assert report.imported == 0


def test_a_dialogue_without_video_is_left_out(tmp_path: Path) -> None:
    data(tmp_path)
    for path in tmp_path.rglob("*.mp4"):
        path.unlink()
    assert told(run(tmp_path, tmp_path / "out")) == {"no video of any utterance": 1}


def test_bad_lines_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data(tmp_path)
    path = metadata(tmp_path, [row(0), row(1), {"conv_id": DIALOGUE}, [], row(2)])
    with path.open("a", encoding="utf-8") as file:
        file.write("{\n\n")
    report = run(tmp_path, tmp_path / "out")
    reason = "no conv_id, utterance_id, from, value and name of a sound file"
    assert told(report) == {reason: 2, "no JSON": 1}
    errors = capsys.readouterr().err
    assert f"{path}: line 3: {reason}; skipped" in errors
    assert f"{path}: line 6: no JSON; skipped" in errors
    assert report.imported == 1


def test_a_folder_without_metadata_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no metadata"):
        run(tmp_path, tmp_path / "out")
