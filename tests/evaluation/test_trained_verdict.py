"""The verdict on tiny models that were trained: on faces that decide the replies, and on faces that do not."""

import csv
import json
import math
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from judged_replies import make_replies
from rich.console import Console
from safetensors.torch import load_file, save_file

from natural_video_llm.checkpoint import load_run, load_tokenizer
from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.compare import compare, print_comparison
from natural_video_llm.evaluation.eval import evaluate
from natural_video_llm.evaluation.evidence_files import write_tables
from natural_video_llm.evaluation.replies import ReplyOptions
from natural_video_llm.evaluation.reply_records import write_replies
from natural_video_llm.evaluation.report import write_report
from natural_video_llm.evaluation.tables import print_evidence
from natural_video_llm.training.model_card import write_card
from natural_video_llm.training.train import train

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from planted_faces import make_sessions, train_options

PEOPLE, TURNS = 8, 16


@pytest.fixture(scope="module")
def runs(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By how faces and replies were paired, evaluated runs of two folds; "twice" is the true one once more."""
    folder = tmp_path_factory.mktemp("planted")
    tokenizer = load_tokenizer(str(tiny_llm))
    found = {}
    for name in ("true", "random"):
        here = folder / name
        make_sessions(here / "sessions", tokenizer, name == "true", seed=0, people=PEOPLE, turns=TURNS)
        train(train_options(here / "sessions", here / "run", tiny_llm, seed=0), lambda _: None)
        evaluate(here / "run", lambda _: None)
        found[name] = here / "run"
    return found


def found_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "eval.json").read_text()))


def test_faces_that_decide_are_used_and_others_are_not(runs: dict[str, Path]) -> None:
    assert found_of(runs["true"])["verdict"]["face"] == "used"
    assert found_of(runs["random"])["verdict"]["face"] != "used"


def test_folds_test_everybody_once(runs: dict[str, Path]) -> None:
    data = found_of(runs["true"])["data"]
    assert (data["people"], data["sessions"], data["utterances"]) == (PEOPLE, PEOPLE, PEOPLE * TURNS)
    assert data["trained_on"]["people"] == PEOPLE // 2
    assert data["timing"] == {"char": 1.0, "word": 0.0, "utterance": 0.0}
    assert (data["face_seen"], data["crowded"]) == (1.0, 0.0)
    lines = [json.loads(line) for line in (runs["true"] / "token_gains.jsonl").read_text().splitlines()]
    assert sorted({line["person"] for line in lines}) == [f"p{i:02d}" for i in range(PEOPLE)]


def test_the_curve_is_lowest_where_nothing_is_shifted_far(runs: dict[str, Path]) -> None:
    curve = {p["shift_s"]: p["true_saves_per_word"] for p in found_of(runs["true"])["time_shift"]}
    assert list(curve) == sorted(curve)
    assert curve[0.0] == [0.0, 0.0, 0.0]
    assert {-2.0, 2.0} < curve.keys()
    assert curve[2.0][0] > 0.3, "two seconds later it is the face of the message before"
    conditions = found_of(runs["true"])["conditions"]
    assert curve[2.0] == conditions["2.0 s late"]["true_saves_per_word"]


def test_gains_of_tokens_add_up_to_the_figure(runs: dict[str, Path]) -> None:
    result = found_of(runs["true"])
    lines = [json.loads(line) for line in (runs["true"] / "token_gains.jsonl").read_text().splitlines()]
    assert all(len(line["tokens"]) == len(line["times"]) == len(line["gain_bits"]) for line in lines)
    gained = sum(sum(line["gain_bits"]) for line in lines)
    assert gained / result["data"]["words"] == pytest.approx(
        result["conditions"]["none"]["true_saves_per_word"][0], abs=1e-3
    )
    bits = sum(line["bits"] for line in lines) / result["data"]["tokens"]
    assert bits == pytest.approx(result["conditions"]["true"]["bits_per_token"][0], abs=1e-3)


def test_the_timeline_is_of_the_first_people_with_every_word_in_its_place(runs: dict[str, Path]) -> None:
    conversations = found_of(runs["true"])["timeline"]
    assert [c["person"] for c in conversations] == ["p00", "p01", "p02"]
    lines = [json.loads(line) for line in (runs["true"] / "token_gains.jsonl").read_text().splitlines()]
    for conversation in conversations:
        utterances = conversation["utterances"]
        assert len(utterances) == 2 * TURNS
        assert all(not u["words"] for u in utterances if u["speaker"] == "a")
        own = [line for line in lines if line["session_id"] == conversation["session_id"]]
        for utterance, line in zip((u for u in utterances if u["speaker"] == "b"), own, strict=True):
            assert " ".join(word["text"] for word in utterance["words"]) == utterance["text"] == line["reply"]
            assert all(utterance["t_start"] <= word["t_s"] <= utterance["t_end"] for word in utterance["words"])
            without_end = sum(word["gain_bits"] for word in utterance["words"])
            assert without_end == pytest.approx(sum(line["gain_bits"][:-1]), abs=1e-3)


def test_the_table_is_there_for_papers(runs: dict[str, Path]) -> None:
    result = found_of(runs["true"])
    rows = list(csv.DictReader((runs["true"] / "evidence.csv").open(encoding="utf-8")))
    assert [row["condition"] for row in rows] == list(result["conditions"])
    for row in rows:
        value, low, high = result["conditions"][row["condition"]]["true_saves_per_word"]
        cells = [row[f"true_saves_per_word{end}"] for end in ("", "_low", "_high")]
        assert [float(cell) for cell in cells] == [value, low, high]
    latex = (runs["true"] / "evidence.tex").read_text()
    assert latex.count(r"\\") == len(rows) + 1
    assert r"8 people.}" in latex


def test_the_verdict_comes_first_on_the_terminal(runs: dict[str, Path]) -> None:
    console = Console(record=True, width=120, file=sys.stderr)
    print_evidence(found_of(runs["true"]), console)
    said = console.export_text()
    assert said.startswith("the face: USED\nThe right face saves, in bits a word:")
    assert "The face: **used**." in (runs["true"] / "fold_0/README.md").read_text()


def test_a_run_compared_with_itself_differs_by_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    again = shutil.copytree(runs["true"], tmp_path / "again")
    result = compare([runs["true"], again])
    (pair,) = result["pairs"]
    assert (pair["people"], pair["utterances"]) == (PEOPLE, PEOPLE * TURNS)
    assert pair["gain_per_word"] == pair["bits_per_word"] == [0.0, 0.0, 0.0]
    assert "choice_bits" not in pair
    figure = found_of(runs["true"])["conditions"]["none"]["true_saves_per_word"]
    assert result["runs"][0]["gain_per_word"] == pytest.approx(figure, abs=1e-3)


def test_a_difference_is_paired(runs: dict[str, Path], tmp_path: Path) -> None:
    better = shutil.copytree(runs["true"], tmp_path / "better")
    lines = [json.loads(line) for line in (better / "token_gains.jsonl").read_text().splitlines()]
    for line in lines:
        words = len(line["reply"].split())
        line["gain_bits"][0] += 0.5 * words
        line["bits"] -= 0.5 * words
        line["choice_bits"] = 1.0
    (better / "token_gains.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[::-1]))
    (pair,) = compare([runs["true"], better])["pairs"]
    assert pair["gain_per_word"] == pytest.approx([0.5, 0.5, 0.5], abs=1e-6)
    assert pair["bits_per_word"] == pytest.approx([-0.5, -0.5, -0.5], abs=1e-6)
    assert "choice_bits" not in pair, "one of them has none"
    console = Console(record=True, width=160, file=sys.stderr)
    print_comparison(compare([runs["true"], better]), console)
    assert "+0.500 [+0.500, +0.500]" in console.export_text()


def test_what_cannot_be_compared_is_said(runs: dict[str, Path], tmp_path: Path) -> None:
    for few, told in (([], "RUN"), ([runs["true"]], runs["true"])):
        with pytest.raises(UserError, match=f"{len(few)} is named: nvllm compare {told} ANOTHER_RUN"):
            compare(few)
    with pytest.raises(UserError, match="a run cannot be compared with itself"):
        compare([runs["true"], runs["true"] / "../run"])
    with pytest.raises(UserError, match=r"has not been evaluated .*; run: nvllm eval"):
        compare([runs["true"], tmp_path])
    other = shutil.copytree(runs["true"], tmp_path / "other")
    file = other / "token_gains.jsonl"
    file.write_text(file.read_text().replace('"session_id": "p', '"session_id": "q'))
    with pytest.raises(UserError, match="held out no utterance in common"):
        compare([runs["true"], other])
    file.write_text(file.read_text()[:-40])
    with pytest.raises(UserError, match="is damaged"):
        compare([runs["true"], other])


def test_a_model_without_finite_scores_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    broken = shutil.copytree(runs["true"], tmp_path / "broken")
    before = (broken / "eval.json").read_bytes()
    for fold in broken.glob("fold_*"):
        weights = load_file(fold / "adapter.safetensors")
        gate = next(name for name in weights if name.endswith(".gate"))
        weights[gate] = weights[gate] * math.nan
        save_file(weights, fold / "adapter.safetensors")
    with pytest.raises(UserError, match=r"no finite score for .* utterances"):
        evaluate(broken, lambda _: None)
    assert (broken / "eval.json").read_bytes() == before, "what was there is whole"


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """As on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_told_before_anything_is_computed(runs: dict[str, Path]) -> None:
    with files_no_longer_than(1000), pytest.raises(UserError, match=r"run: disk full; free space"):
        evaluate(runs["true"], pytest.fail)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda run, result: write_tables(run, result), "evidence.csv"),
        (lambda run, _: write_report(run), "evidence.png"),
        (lambda run, _: write_replies(make_replies(), run), "replies.jsonl"),
        (lambda run, _: write_card(run / "fold_0", None), "README.md"),
    ],
)
def test_a_disk_that_becomes_full_leaves_what_was_there(
    write: Callable[[Path, dict], object], name: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(runs["true"], tmp_path / "run")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with files_no_longer_than(100), pytest.raises(UserError, match=f"{name}: disk full; free space"):
        write(run, found_of(run))
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("kept", [0, 4, 1000])
def test_an_adapter_that_was_cut_short_is_told(kept: int, runs: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs["true"] / "fold_0", tmp_path / "run")
    weights = run / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"run: the adapter cannot be read \(.*\); train it again") as raised:
        load_run(run)
    assert "\n" not in str(raised.value)


def test_a_run_that_held_nothing_out_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs["true"] / "fold_0", tmp_path / "all")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"test": []}))
    with pytest.raises(UserError, match="nothing was held out, so nothing can be evaluated"):
        evaluate(run, lambda _: None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (ReplyOptions(utterances=-1), "--replies is -1; it has to be 0 or more"),
        (ReplyOptions(temperature=-1.0), "--temperature is -1.0; it has to be 0 or more"),
        (ReplyOptions(temperature=float("nan")), "--temperature is nan; it has to be finite and 0 or more"),
    ],
)
def test_numbers_are_looked_at_before_anything_else(asked: ReplyOptions, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(tmp_path / "nowhere", pytest.fail, options=asked)
