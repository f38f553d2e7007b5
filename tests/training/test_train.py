"""Training: it learns, it can be stopped, it repeats itself, and the twin never sees a face."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import TALK, different, make_data, metrics, options, show_other_faces, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_dataset import make_session

from natural_video_llm.checkpoint import load_run
from natural_video_llm.errors import UserError
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.models.fusion_transformer import read_config
from natural_video_llm.sessions.latents import latents_file, load_latents, save_latents
from natural_video_llm.training.train import Progress, train

BASIS = "temporal_encoder.basis."


@pytest.fixture(scope="module")
def trained(sessions: Path, tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    """A run with its twin, and what it reported."""
    out = tmp_path_factory.mktemp("runs") / "run"
    said: list[Progress] = []
    train(options(sessions, out, tiny_llm, match_steps=5, steps=30, learning_rate=5e-3), said.append)
    return out, said


def test_the_loss_falls(trained: tuple[Path, list[Progress]]) -> None:
    run, _ = trained
    for folder, part in ((run, "model"), (run / "twin", "text-only twin")):
        bits = [line["bits_per_token"] for line in metrics(folder) if line["part"] == part]
        assert len(bits) == 30
        assert np.mean(bits[-5:]) < np.mean(bits[:5]) - 1


def test_metrics_are_lines_and_tensorboard_alike(trained: tuple[Path, list[Progress]]) -> None:
    run, _ = trained
    lines = metrics(run)
    assert [(line["part"], line["step"]) for line in lines] == [
        *(("matching faces and words", step) for step in range(1, 6)),
        *(("model", step) for step in range(1, 31)),
    ]
    assert all(math.isfinite(value) for line in lines for value in line.values() if not isinstance(value, str))
    assert set(lines[0]) == {"part", "step", "learning_rate", "contrastive"}
    assert set(lines[-1]) == {"part", "step", "learning_rate", "contrastive", "bits_per_token"}
    board = EventAccumulator(str(run / "logs/metrics"))
    board.Reload()
    for name in ("bits_per_token", "contrastive", "learning_rate"):
        shown = [event.value for event in board.Scalars(f"model/{name}")]
        assert shown == pytest.approx([line[name] for line in lines if line["part"] == "model"], rel=1e-5)


def test_progress_counts_every_step_of_every_part(trained: tuple[Path, list[Progress]]) -> None:
    _, said = trained
    expected = [("matching faces and words", 5), ("model", 30), ("text-only twin", 30)]
    assert [(p.part, p.step, p.steps) for p in said] == [
        (part, step, steps) for part, steps in expected for step in range(1, steps + 1)
    ]
    assert all(p.left_s >= 0 and math.isfinite(p.bits) for p in said)


def test_a_run_is_read_back_as_it_was_saved(trained: tuple[Path, list[Progress]]) -> None:
    run, _ = trained
    for folder in (run, run / "twin"):
        model, tokenizer = load_run(folder)
        saved = weights(folder)
        assert different(saved, {k: v.cpu() for k, v in model.adapter_state().items()}) == set()
        assert len(tokenizer) == model.llm.config.vocab_size
        assert all(block.gate.item() != 0 for block in model.blocks.values())


def test_who_is_tested_is_written_down_and_was_not_trained_on(trained: tuple[Path, list[Progress]]) -> None:
    run, _ = trained
    record = json.loads((run / "run.json").read_text())
    assert sorted(record["train"] + record["test"]) == [f"s{i}" for i in range(6)]
    assert len({int(s[1:]) // 2 for s in record["test"]}) == 1
    assert len(record["test"]) == 2
    assert record["options"]["steps"] == 30
    assert Path(record["options"]["sessions"]).is_absolute()


def test_the_same_seed_gives_the_same_weights_and_another_others(
    sessions: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    runs = []
    for number, seed in enumerate((7, 7, 8)):
        train(options(sessions, tmp_path / str(number), tiny_llm, twin=False, seed=seed), lambda _: None)
        runs.append(weights(tmp_path / str(number)))
    assert different(runs[0], runs[1]) == set()
    assert {"absence", "blocks.1.gate"} <= different(runs[0], runs[2])


def test_the_twin_never_sees_a_face(chat: ChatFormat, tiny_llm: Path, tmp_path: Path) -> None:
    data = tmp_path / "sessions"
    for number in range(3):
        said, answer = TALK[number]  # the same answers would be no counterexamples to each other
        make_session(data / f"s{number}", chat, [("ann", said), ("bob", answer)], person=f"p{number}")
    for seed in (0, 1):
        show_other_faces(data, seed)
        train(options(data, tmp_path / str(seed), tiny_llm), lambda _: None)
    seeing, twins = ([weights(tmp_path / seed / part) for seed in "01"] for part in ("", "twin"))
    # The basis is fitted to the faces, but nothing of it reaches a model to which no face is shown.
    assert {name for name in different(*twins) if not name.startswith(BASIS)} == set()
    moved = different(*seeing)
    for part in ("temporal_encoder.inner", "temporal_encoder.layers", "blocks.1.attention", "contrastive.face"):
        assert any(name.startswith(part) for name in moved), part
    untouched = {name for name in twins[0] if name.startswith(("temporal_encoder.layers", "contrastive."))}
    train(options(data, tmp_path / "start", tiny_llm, steps=0, match_steps=0), lambda _: None)
    assert not untouched & different(twins[0], weights(tmp_path / "start" / "twin"))


@pytest.mark.parametrize("part", ["matching faces and words", "model", "text-only twin"])
def test_an_interrupt_leaves_what_there_is(part: str, sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if (progress.part, progress.step) == (part, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(options(sessions, tmp_path / "run", tiny_llm), stop)
    run = tmp_path / "run" / "twin" if part == "text-only twin" else tmp_path / "run"
    model, _ = load_run(run)
    assert all(torch.isfinite(p).all() for p in model.adapter_state().values())
    assert [line["step"] for line in metrics(run) if line["part"] == part] == [1, 2]
    assert (tmp_path / "run" / "twin").exists() == (part == "text-only twin")


def test_folds_part_the_people(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    train(options(sessions, tmp_path / "run", tiny_llm, folds=3, twin=False, steps=1, match_steps=1), lambda _: None)
    tested: list[set[int]] = []
    for number in range(3):
        fold = tmp_path / "run" / f"fold_{number}"
        record = json.loads((fold / "run.json").read_text())
        people = [{int(s[1:]) // 2 for s in record[part]} for part in ("train", "test")]
        assert people[0].isdisjoint(people[1])
        assert people[0] | people[1] == {0, 1, 2}
        assert Path(record["options"]["out"]) == fold.resolve()
        assert read_config(fold).latent_size == 8
        tested.append(people[1])
    assert sorted(p for people in tested for p in people) == [0, 1, 2]


def test_a_fold_is_what_a_run_by_itself_would_be(
    chat: ChatFormat, sessions: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    train(options(sessions, tmp_path / "run", tiny_llm, folds=3, twin=False, lora_rank=2), lambda _: None)
    last = tmp_path / "run" / "fold_2"
    tested = json.loads((last / "run.json").read_text())["test"]
    make_data(tmp_path / "marked", chat, tested)
    train(options(tmp_path / "marked", tmp_path / "alone", tiny_llm, twin=False, lora_rank=2), lambda _: None)
    assert different(weights(last), weights(tmp_path / "alone")) == set(), "nothing of the folds before is left"
    assert different(weights(last), weights(tmp_path / "run" / "fold_0"))


def test_a_loss_that_is_not_finite_is_one_clear_line(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    wild = options(sessions, tmp_path / "run", tiny_llm, learning_rate=1e20, contrastive_weight=0.0)
    with pytest.raises(UserError, match=r"model: the loss became nan at step \d; lower its rate of learning") as raised:
        train(wild, lambda _: None)
    assert "\n" not in str(raised.value)


def test_mistakes_are_one_clear_line(chat: ChatFormat, sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        train(options(sessions, tmp_path / "file" / "run", tiny_llm), lambda _: None)
    with pytest.raises(UserError, match="4 folds, but the data has only 3 people"):
        train(options(sessions, tmp_path / "run", tiny_llm, folds=4), lambda _: None)
    with pytest.raises(UserError, match=r"is missing; run: nvllm extract"):
        train(options(sessions, tmp_path / "run", tiny_llm, encoder="face-geometry"), lambda _: None)


def test_no_face_in_any_video_is_told(chat: ChatFormat, tiny_llm: Path, tmp_path: Path) -> None:
    data = tmp_path / "sessions"
    for number in range(2):
        session = make_session(data / f"s{number}", chat, [("ann", "How was it?"), ("bob", "Good.")])
        path = latents_file(session, "points", "video/000000.mp4")
        save_latents(path, replace(load_latents(path), present=np.zeros(100, bool)))
    with pytest.raises(UserError, match="no face was found in any training video"):
        train(options(data, tmp_path / "run", tiny_llm), lambda _: None)
