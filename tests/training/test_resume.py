"""A run that was stopped or killed goes on as if nothing had happened."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from runs import different, metrics, options, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.eval import evaluate
from natural_video_llm.training.checkpoints import FOLDER
from natural_video_llm.training.options import TrainOptions
from natural_video_llm.training.train import Progress, train

# All that could depend on what came before: noise, dropout, LoRA's start, looks at people left out.
SETTINGS = {"match_steps": 3, "steps": 3, "save_every": 2, "lora_rank": 2, "validate_every": 2, "validation_share": 0.5}
MATCHING, MODEL, TWIN = "matching faces and words", "model", "text-only twin"


class Killed(BaseException):
    """Nothing in the house catches it, so that nothing is written on its way out."""


@pytest.fixture(scope="module")
def unbroken(sessions: Path, tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(options(sessions, out, tiny_llm, **SETTINGS), lambda _: None)
    return out


def broken(asked: TrainOptions, part: str, step: int, by: type[BaseException]) -> None:
    """Train until `part` has come to `step`."""

    def stop(progress: Progress) -> None:
        if (progress.part, progress.step) == (part, step):
            raise by

    with pytest.raises(by):
        train(asked, stop)


def assert_same(run: Path, unbroken: Path) -> None:
    for folder in ("", "twin"):
        assert metrics(run / folder) == metrics(unbroken / folder), "the same figures to the last bit"
        assert different(weights(run / folder), weights(unbroken / folder)) == set()
    assert not (run / FOLDER).exists(), "what a finished run needs no more is gone"


def test_stopped_again_and_again_is_unbroken(unbroken: Path, sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    asked = options(sessions, tmp_path / "run", tiny_llm, **SETTINGS)
    for number, (part, step) in enumerate([(MATCHING, 1), (MODEL, 1), (MODEL, 2), (TWIN, 1)]):
        broken(replace(asked, resume=number > 0), part, step, KeyboardInterrupt)
    train(replace(asked, resume=True), lambda _: None)
    assert_same(tmp_path / "run", unbroken)


@pytest.mark.parametrize(("part", "step"), [(MATCHING, 3), (MODEL, 3), (TWIN, 1)])
def test_killed_and_resumed_is_unbroken(
    part: str, step: int, unbroken: Path, sessions: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    asked = options(sessions, tmp_path / "run", tiny_llm, **SETTINGS)
    broken(asked, part, step, Killed)
    train(replace(asked, resume=True), lambda _: None)
    assert_same(tmp_path / "run", unbroken)


def test_metrics_after_a_kill_hold_each_step_once(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    """Steps after the last checkpoint are taken again; their first figures, and half a line, are dropped."""
    asked = options(sessions, tmp_path / "run", tiny_llm, twin=False, steps=6, save_every=3)
    broken(asked, MODEL, 5, Killed)
    log = tmp_path / "run/logs/metrics"
    with (log / "metrics.jsonl").open("a") as file:
        file.write('{"part": "model", "st')
    train(replace(asked, resume=True), lambda _: None)
    expected = [(MATCHING, 1), (MATCHING, 2), *((MODEL, step) for step in range(1, 7))]
    assert [(line["part"], line["step"]) for line in metrics(tmp_path / "run")] == expected
    board = EventAccumulator(str(log))
    board.Reload()
    assert [event.step for event in board.Scalars("model/bits_per_token")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in board.Scalars(f"{MATCHING}/contrastive")] == [1, 2]


def test_folds_are_resumed(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    asked = options(sessions, tmp_path / "whole", tiny_llm, twin=False, folds=3, match_steps=1, steps=1)
    train(asked, lambda _: None)
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 3:  # the second fold has matched
            raise KeyboardInterrupt

    asked = replace(asked, out=tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train(asked, stop)
    seen.clear()
    train(replace(asked, resume=True), seen.append)
    assert len(seen) == 3
    for fold in ("fold_0", "fold_1", "fold_2"):
        assert different(weights(tmp_path / "whole" / fold), weights(tmp_path / "parts" / fold)) == set()


def test_a_finished_run_has_nothing_to_resume(unbroken: Path, sessions: Path, tiny_llm: Path) -> None:
    before = (unbroken / "adapter.safetensors").stat().st_mtime_ns
    train(options(sessions, unbroken, tiny_llm, **SETTINGS, resume=True), pytest.fail)
    assert (unbroken / "adapter.safetensors").stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def stopped(sessions: Path, tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after the model's second step."""
    out = tmp_path_factory.mktemp("runs") / "run"
    broken(options(sessions, out, tiny_llm, **SETTINGS), MODEL, 2, KeyboardInterrupt)
    return out


def test_the_newest_checkpoint_counts_and_half_a_one_does_not(
    stopped: Path, unbroken: Path, sessions: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(stopped, tmp_path / "run")
    (newest,) = (run / FOLDER).iterdir()
    shutil.copytree(newest, newest.with_name("000000"))
    (newest.parent / "000000" / "adapter.safetensors").write_bytes(b"old")
    (newest.parent / ".000099").mkdir()
    train(options(sessions, run, tiny_llm, **SETTINGS, resume=True), lambda _: None)
    assert_same(run, unbroken)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no checkpoint to resume from"),
        (lambda folder: (folder / "adapter.safetensors").write_bytes(b"x"), "cannot be read"),
        (lambda folder: (folder / "optimiser.pt").unlink(), "cannot be read"),
        (lambda folder: (folder / "state.json").write_text("{}"), "cannot be read"),
    ],
)
def test_what_cannot_be_resumed_is_one_clear_line(
    spoil: Callable[[Path], None], message: str, stopped: Path, sessions: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(stopped, tmp_path / "run")
    (newest,) = (run / FOLDER).iterdir()
    spoil(newest)
    with pytest.raises(UserError, match=message) as raised:
        train(options(sessions, run, tiny_llm, **SETTINGS, resume=True), lambda _: None)
    assert "begin anew without --resume" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_run_that_was_stopped_gets_no_verdict(stopped: Path) -> None:
    with pytest.raises(UserError, match=r"run: its training was stopped; .* nvllm train .* --resume") as raised:
        evaluate(stopped, pytest.fail)
    assert "\n" not in str(raised.value)
    assert not (stopped / "eval.json").exists()


@pytest.mark.parametrize("folds", [0, 3])
def test_a_run_is_not_begun_anew_in_the_place_of_another(
    folds: int, sessions: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    asked = options(sessions, tmp_path / "run", tiny_llm, match_steps=0, steps=2, twin=False, folds=folds)
    broken(asked, MODEL, 1, KeyboardInterrupt)

    def assert_refused() -> None:
        before = {file: file.read_bytes() for file in asked.out.rglob("*") if file.is_file()}
        with pytest.raises(UserError, match=r"run holds a run already; add --resume .* another --out"):
            train(asked, pytest.fail)
        assert {file: file.read_bytes() for file in asked.out.rglob("*") if file.is_file()} == before

    assert_refused()
    train(replace(asked, resume=True), lambda _: None)
    assert_refused()


def test_a_run_without_a_checkpoint_begins_anew(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    asked = options(sessions, tmp_path / "run", tiny_llm, match_steps=0, steps=3, save_every=3, twin=False)
    broken(asked, MODEL, 2, Killed)
    train(asked, lambda _: None)
    assert [line["step"] for line in metrics(asked.out)] == [1, 2, 3]


def test_other_options_are_named(stopped: Path, sessions: Path, tiny_llm: Path) -> None:
    other = SETTINGS | {"save_every": 7, "steps": 9, "seed": 3}
    with pytest.raises(UserError, match=r"other options: --seed 0 \(now 3\), --steps 3 \(now 9\);"):
        train(options(sessions, stopped, tiny_llm, **other, resume=True), lambda _: None)
