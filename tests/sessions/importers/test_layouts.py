"""`import_folder`: the layout is found by the names of files."""

from pathlib import Path

import pytest
from small_data import make_clip, save

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.exchange import export_parquet
from natural_video_llm.sessions.folder import Session, session_folders
from natural_video_llm.sessions.importers import detect_layout, import_folder
from natural_video_llm.sessions.layouts import Layout


@pytest.mark.parametrize(
    ("file", "content", "layout"),
    [
        ("a.mp4", "", "clips"),
        ("a.json", '{"conv_id": 1}', "clips"),
        ("x.tar", "no tar", "clips"),
        ("dev/0000/V00_S0644_I00000125_P0299A.mp4", "", "seamless"),
        ("metadata/transcript/V00_S0644_I00000125_P0299.jsonl", "", "seamless"),
        ("annotations/1P-IS/V00_S0644_I00000125_P0299.json", "", "clips"),
        ("0020a0c5/transcription/transcript_audiophile.csv", "", "candor"),
        ("0020a0c5/survey.csv", "", "clips"),
        ("metadata/train/train_metadata_0000.jsonl", '{"conv_id": "t_1", "value": "hi"}\n', "multidialog"),
        ("metadata/train/train_metadata_0000.jsonl", '{"other": "t_1"}\n', "clips"),
    ],
)
def test_the_names_of_files_tell(tmp_path: Path, file: str, content: str, layout: Layout) -> None:
    save(tmp_path / "data" / file, content)
    assert detect_layout(tmp_path / "data") == layout


def test_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        detect_layout(tmp_path / "nowhere")


def test_clips_become_sessions_and_those_an_export_and_that_sessions_again(tmp_path: Path) -> None:
    make_clip(tmp_path / "jane" / "a.mp4")
    save(tmp_path / "jane" / "a.align", "0 10000 hi\n")
    report = import_folder(tmp_path / "jane", tmp_path / "in", "clips", None, lambda done, total: None)
    assert report.lines() == ["1 sessions: 1 utterances, 1 timed words"]
    assert Session(tmp_path / "in" / "a").start.person == "jane"
    export_parquet(session_folders(tmp_path / "in"), tmp_path / "out", lambda done, total: None, video=True)
    assert detect_layout(tmp_path / "out") == "parquet"
    import_folder(tmp_path / "out", tmp_path / "back", "parquet", None, lambda done, total: None)
    again = import_folder(tmp_path / "out", tmp_path / "back", "parquet", None, lambda done, total: None)
    assert again.lines() == ["0 sessions, 1 there already: 0 utterances, 0 timed words"]
    assert Session(tmp_path / "back" / "a").events == Session(tmp_path / "in" / "a").events
