"""Sessions → parquet → the same sessions."""

import filecmp
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_sessions import TEXTS, make_latents, make_session

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.candidates import Candidate, Candidates, write_candidates
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.exchange import export_parquet, import_parquet, write
from natural_video_llm.sessions.folder import Session, session_folders
from natural_video_llm.sessions.importers.takes import Report
from natural_video_llm.sessions.latents import latents_file, save_latents

GEOMETRY, VIT = "face-geometry", "vit:google/vit-base-patch16-224,rate_hz=5"


def export(sessions: Path, out: Path, **options: Any) -> dict:
    return export_parquet(session_folders(sessions), out, lambda done, total: None, **options)


def bring_back(folder: Path, out: Path) -> Report:
    report = Report()
    import_parquet(folder, out, lambda done, total: None, report)
    return report


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    make_session(tmp_path / "in" / "one", segments=2, latents=(GEOMETRY, VIT), person="ann", split="train")
    make_session(tmp_path / "in" / "two", segments=1, latents=(GEOMETRY,), colour={"of": ["unknown"]})
    make_session(tmp_path / "in" / "zwei", texts=(), segments=0, recorded=["text"])
    return tmp_path / "in"


@pytest.mark.parametrize("float32", [False, True])
def test_the_round_trip_is_equal(sessions: Path, tmp_path: Path, float32: bool) -> None:
    shutil.rmtree(sessions / "zwei")
    info = export(sessions, tmp_path / "out", video=True, float32=float32)
    report = bring_back(tmp_path / "out", tmp_path / "back")
    assert files(tmp_path / "back") == files(sessions)
    for name in files(sessions):
        assert filecmp.cmp(sessions / name, tmp_path / "back" / name, shallow=False), name
    assert (report.imported, report.utterances, report.timed_words) == (2, 4, 4)
    assert info["counts"] == {
        "sessions": 2,
        "people": 2,
        "hours": round(3 / 3600, 4),
        "utterances": 4,
        "latents": {GEOMETRY: 6, VIT: 4},
    }
    assert info["consents"] == [{"consent": "Ann said yes", "sessions": 2}]
    assert [e["encoder_sha256"] for e in info["encoders"]] == ["ab" * 32] * 2


def test_video_comes_only_when_asked_for(sessions: Path, tmp_path: Path) -> None:
    export(sessions, tmp_path / "out", encoders=[])
    assert not list((tmp_path / "out").rglob("*.mp4"))
    assert sorted(p.name for p in (tmp_path / "out" / "data").iterdir()) == [
        "sessions-00000.parquet",
        "utterances-00000.parquet",
    ]
    bring_back(tmp_path / "out", tmp_path / "back")
    for name in ("one", "two", "zwei"):
        assert Session(tmp_path / "back" / name).events == Session(sessions / name).events


def test_columns_are_what_the_card_says(sessions: Path, tmp_path: Path) -> None:
    export(sessions, tmp_path / "out")
    data = tmp_path / "out" / "data"
    first, second = pq.read_table(data / "utterances-00000.parquet").to_pylist()[:2]
    assert (first["session_id"], first["text"], first["filmed"], second["filmed"]) == ("one", "hé", True, False)
    assert first["char_times"] == [0.2, 0.4]
    assert first["edits"][0] == {"t": 0.1, "position": 0, "removed": 0, "inserted": "x"}
    assert second["word_times"][1] == {"start": 6, "end": 8, "t_start": 0.7, "t_end": 0.9}
    latents = pq.ParquetFile(data / "latents-face-geometry-00000.parquet")
    assert str(latents.schema_arrow.field("latent").type) == "fixed_size_list<element: halffloat>[4]"
    assert latents.metadata.num_row_groups == 3  # a segment each: never more than one in memory
    assert latents.read()["latent"][0].as_py() == make_latents(GEOMETRY).latents[0].tolist()
    named = json.loads((tmp_path / "out" / "meta" / "info.json").read_text(encoding="utf-8"))["columns"]
    assert set(named["utterances"]) - {"t_start, t_end"} <= set(first)
    assert set(named["latents"]) <= set(latents.schema_arrow.names)


def test_hugging_face_datasets_read_it(sessions: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    export(sessions, tmp_path / "out")
    for name, rows in (("sessions", 3), ("utterances", 4), ("latents-face-geometry", 6)):
        found = datasets.load_dataset(
            "parquet",
            data_files=str(tmp_path / "out" / "data" / f"{name}-*.parquet"),
            split="train",
            cache_dir=str(tmp_path / "cache"),
        )
        assert len(found) == rows
        assert found[0]["session_id"] == "one"


def test_shards_are_bounded_and_read_in_order(sessions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_SHARD_BYTES", 10)
    export(sessions, tmp_path / "out")
    assert len(list((tmp_path / "out" / "data").glob("latents-face-geometry-*.parquet"))) == 3
    bring_back(tmp_path / "out", tmp_path / "back")
    for name in files(sessions / "one" / "latents"):
        assert filecmp.cmp(sessions / "one/latents" / name, tmp_path / "back/one/latents" / name, shallow=False)


def test_another_programs_row_groups_are_read_too(sessions: Path, tmp_path: Path) -> None:
    export(sessions, tmp_path / "out")
    for path in (tmp_path / "out" / "data").glob("*.parquet"):
        pq.write_table(pq.read_table(path), path, write_statistics=False)
    bring_back(tmp_path / "out", tmp_path / "back")
    assert Session(tmp_path / "back" / "two").events == Session(sessions / "two").events
    assert files(tmp_path / "back" / "one" / "latents") == files(sessions / "one" / "latents")


def test_candidates_come_along(sessions: Path, tmp_path: Path) -> None:
    replies = [Candidate(reply="a", motion="smile"), Candidate(reply="b", motion="frown")]
    write_candidates(sessions / "candidates.jsonl", [Candidates(message="m", split="test", candidates=replies)])
    export(sessions, tmp_path / "out")
    bring_back(tmp_path / "out", tmp_path / "back")
    assert filecmp.cmp(sessions / "candidates.jsonl", tmp_path / "back" / "candidates.jsonl", shallow=False)


def test_pseudonyms_name_nobody(tmp_path: Path) -> None:
    for name in ("monday_ann", "tuesday_ann"):
        make_session(
            tmp_path / "in" / name, segments=1, latents=(GEOMETRY,), person="Ann Ax", room="of Ann", boot_id="machine"
        )
    export(tmp_path / "in", tmp_path / "out", pseudonyms=True)
    everything = (tmp_path / "out" / "meta" / "info.json").read_text(encoding="utf-8")
    for path in (tmp_path / "out" / "data").iterdir():
        everything += json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False)
    for name in ("ann", "Ann", "bob", "machine", "03:04:05"):
        assert name not in everything
    bring_back(tmp_path / "out", tmp_path / "back")
    one, two = (Session(path) for path in session_folders(tmp_path / "back"))
    assert (one.start.session_id, two.start.session_id) == ("session_00001", "session_00002")
    assert one.start.person == two.start.person == "person_00001"
    assert [t.speaker == one.start.filmed_speaker for t in one.texts] == [True, False]
    assert [t.text for t in one.texts] == [t.text for t in TEXTS]
    assert len(files(tmp_path / "back" / "session_00002" / "latents")) == 1


def test_what_consent_does_not_cover_stays(sessions: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"zwei: its consent does not cover video"):
        export(sessions, tmp_path / "out", video=True)
    make_session(sessions / "none", consent=" ")
    with pytest.raises(UserError, match=r"none: its consent does not cover text"):
        export(sessions, tmp_path / "out")
    with pytest.raises(UserError, match="either with --video or with --pseudonyms"):
        export(sessions, tmp_path / "out", video=True, pseudonyms=True)
    assert not (tmp_path / "out").exists()


def test_what_is_missing_or_mixed_is_told(sessions: Path, tmp_path: Path) -> None:
    one = Session(sessions / "one")
    with pytest.raises(UserError, match=r"two.*is missing; run: nvllm extract"):
        export(sessions, tmp_path / "out", encoders=[VIT])
    (sessions / "zwei" / "session.jsonl").unlink()
    (one.path / "video" / "000001.mp4").unlink()
    with pytest.raises(UserError, match=r"000001\.mp4 is missing"):
        export(sessions, tmp_path / "out", video=True)
    save_latents(latents_file(one, GEOMETRY, "video/000001.mp4"), make_latents(GEOMETRY, 1, "cd" * 32))
    with pytest.raises(UserError, match="made with other weights"):
        export(sessions, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists already"):
        export(sessions, tmp_path / "out")


def test_an_interrupted_import_goes_on(sessions: Path, tmp_path: Path) -> None:
    export(sessions, tmp_path / "out")

    def stop(done: int, total: int) -> None:
        assert total == 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_parquet(tmp_path / "out", tmp_path / "back", stop, Report())
    half = tmp_path / "back" / ".two.partial"
    half.mkdir()
    (half / "session.jsonl").write_text("{")
    report = bring_back(tmp_path / "out", tmp_path / "back")
    assert (report.imported, report.kept) == (2, 1)
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == ["one", "two", "zwei"]


def rewrite(path: Path, column: str, value: Any) -> None:
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0][column] = value
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)


@pytest.mark.parametrize(
    ("file", "column", "value", "message"),
    [
        ("sessions", "session_id", "../../away", "session id"),
        ("sessions", "session_id", "other", "does not begin with its session_start"),
        ("sessions", "events", [], "does not begin with its session_start"),
        ("sessions", "events", [{"index": 0, "json": "{"}], "damaged event"),
        ("utterances", "timing", "guess", "damaged event"),
        ("utterances", "char_times", [0.2], "damaged event"),
        ("utterances", "other_fields", "{", "damaged event"),
        ("latents-face-geometry", "header", "{}", "rows or header are damaged"),
    ],
)
def test_damaged_rows_are_told(
    sessions: Path, tmp_path: Path, file: str, column: str, value: Any, message: str
) -> None:
    export(sessions, tmp_path / "out")
    rewrite(tmp_path / "out" / "data" / f"{file}-00000.parquet", column, value)
    with pytest.raises(UserError, match=message) as raised:
        bring_back(tmp_path / "out", tmp_path / "back")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "away").exists()


def test_damaged_files_are_told(sessions: Path, tmp_path: Path) -> None:
    export(sessions, tmp_path / "out")
    data, info = tmp_path / "out" / "data", tmp_path / "out" / "meta" / "info.json"
    (data / "latents-face-geometry-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"latents-face-geometry-00000\.parquet: no readable parquet"):
        bring_back(tmp_path / "out", tmp_path / "back")
    (data / "utterances-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"no utterances-\*"):
        bring_back(tmp_path / "out", tmp_path / "back")
    info.write_text(json.dumps(json.loads(info.read_text(encoding="utf-8")) | {"schema_version": 99}))
    with pytest.raises(UserError, match="of version 99"):
        bring_back(tmp_path / "out", tmp_path / "back")
    info.write_text("{}")
    with pytest.raises(UserError, match=r"info\.json cannot be read"):
        bring_back(tmp_path / "out", tmp_path / "back")


times = st.floats(0, 1e6, allow_nan=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
extras = st.dictionaries(
    st.sampled_from(["index", "filmed", "mood"]), st.none() | st.integers(0, 9) | words, max_size=2
)


@st.composite
def texts(draw: st.DrawFn) -> Text:
    said, (start, end) = draw(words), sorted(draw(st.tuples(times, times)))
    within = st.floats(start, end)
    fields: dict[str, Any] = {"timing": draw(st.sampled_from(["utterance", "char", "word"] if said else ["char"]))}
    if fields["timing"] == "char":
        fields["char_times"] = [draw(within) for _ in said]
    if fields["timing"] == "word":
        fields["word_times"] = [(0, len(said), *sorted(draw(st.tuples(within, within))))]
    if draw(st.booleans()):
        fields["edits"] = draw(st.lists(st.tuples(times, st.integers(0, 9), st.integers(0, 9), words), max_size=2))
    more = draw(extras)
    return Text.model_validate({"speaker": draw(words), "text": said, "t_start": start, "t_end": end} | fields | more)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(texts(), max_size=3))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, said: list[Text]) -> None:
    folder = tmp_path_factory.mktemp("any")
    made = make_session(folder / "in" / "one", said, segments=0)
    export(folder / "in", folder / "out")
    bring_back(folder / "out", folder / "back")
    assert Session(folder / "back" / "one").events == made.events
    assert filecmp.cmp(folder / "in/one/session.jsonl", folder / "back/one/session.jsonl", shallow=False)
