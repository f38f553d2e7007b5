"""What goes wrong is one clear line, and what was there before stays."""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import different, metrics, options, weights
from test_dataset import make_session

from natural_video_llm.errors import UserError
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.sessions.aligned import read_aligned, write_aligned
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import latents_file, load_latents, save_latents
from natural_video_llm.training import train as training
from natural_video_llm.training.checkpoints import FOLDER
from natural_video_llm.training.metrics import MetricsLog, Tracker
from natural_video_llm.training.options import NUMBERS, TrainOptions
from natural_video_llm.training.train import Progress, train

SCRIPT = Path(__file__).with_name("train_points.py")


def one_line(asked: Any, message: str, report: Callable[[Progress], None] = lambda _: None) -> str:
    with pytest.raises(UserError, match=message) as raised:
        train(asked, report)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_loss_that_is_no_number_names_its_batch_and_spoils_nothing(
    sessions: Path, tiny_llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(sessions, tmp_path / "run", tiny_llm, steps=6, save_every=2, twin=False, batch_size=2)
    calls = 0
    encode = NaturalVideoLLM.encode

    def spoiled(model: NaturalVideoLLM, face: Any) -> Any:
        nonlocal calls
        calls += 1
        seen = encode(model, face)
        return replace(seen, encodings=seen.encodings * float("nan")) if calls == 2 + 4 else seen

    monkeypatch.setattr(NaturalVideoLLM, "encode", spoiled)
    said = one_line(asked, r"model: the loss became nan at step 4; .* \(s\d(, s\d)?\); the last checkpoint stays")
    monkeypatch.undo()
    assert said
    trained_on = json.loads((tmp_path / "run/run.json").read_text())["train"]
    assert set(said.split("(")[1].split(")")[0].split(", ")) <= set(trained_on)
    (checkpoint,) = (tmp_path / "run" / FOLDER).iterdir()
    assert json.loads((checkpoint / "state.json").read_text())["position"]["step"] == 2
    assert all(torch.isfinite(w).all() for w in weights(checkpoint).values())
    train(replace(asked, resume=True), lambda _: None)
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("micro", "advice"), [(0, "--micro-batch-size"), (1, "--text-cache-mb, --context-turns")])
def test_out_of_memory_says_what_to_lower(
    micro: int, advice: str, sessions: Path, tiny_llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the error of PyTorch's own CPU allocator."""
    monkeypatch.setattr(NaturalVideoLLM, "forward", lambda *_, **__: torch.empty(1 << 60))
    asked = options(sessions, tmp_path / "run", tiny_llm, micro_batch_size=micro)
    one_line(asked, f"model: out of memory at step 1; lower {advice}")


def test_a_full_disk_leaves_the_checkpoint_before(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    asked = options(sessions, tmp_path / "run", tiny_llm, steps=6, match_steps=1, save_every=2, twin=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress: Progress) -> None:
        """From step 3 on no file may grow beyond what the run's lines need."""
        if (progress.part, progress.step) == ("model", 3):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    try:
        one_line(asked, "the disk is full; what was saved before is whole", fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (checkpoint,) = (tmp_path / "run" / FOLDER).iterdir()
    assert json.loads((checkpoint / "state.json").read_text())["position"]["step"] == 2
    train(replace(asked, resume=True), lambda _: None)
    whole = replace(asked, out=tmp_path / "whole")
    train(whole, lambda _: None)
    assert different(weights(asked.out), weights(whole.out)) == set()


def test_a_full_disk_before_the_first_checkpoint(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    asked = options(sessions, tmp_path / "run", tiny_llm, match_steps=1, save_every=1, twin=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full(MetricsLog):
        def __init__(self, *rest: Any):
            super().__init__(*rest)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "MetricsLog", Full)
            said = one_line(asked, "run: the disk is full; free space, run again")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "--resume" not in said
    train(asked, lambda _: None)


def test_a_file_in_the_place_of_the_run(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    said = one_line(options(sessions, tmp_path / "run", tiny_llm), r"run.* cannot be written \(Not a directory\); ")
    assert said.endswith("choose another folder")


def test_no_room_for_the_faces(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        one_line(options(sessions, tmp_path / "run", tiny_llm), r"\.faces: disk full; free space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "run" / ".faces").exists()


def test_one_session_says_what_is_lost(chat: ChatFormat, tiny_llm: Path, tmp_path: Path) -> None:
    data = tmp_path / "sessions"
    make_session(data / "only", chat, [("ann", "How was it?"), ("bob", "Good."), ("ann", "And?"), ("bob", "Bad.")])
    asked = options(data, tmp_path / "run", tiny_llm, twin=False)
    one_line(asked, "one session only: .*show whether the face is used; .* --test-share 0")
    assert train(replace(asked, test_share=0.0), lambda _: None) == 0, "nothing is held out"
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["train"], record["test"]) == (["only"], [])
    alone = replace(asked, out=tmp_path / "alone", test_share=0.0, validate_every=1)
    one_line(alone, "at least two training people or sessions")


def test_data_that_do_not_fit_are_told(chat: ChatFormat, sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    one_line(options(empty, tmp_path / "run", tiny_llm), "no session here")

    def changed(name: str, change: Callable[[Session], None]) -> Any:
        data = shutil.copytree(sessions, tmp_path / name)
        change(Session(data / "s3"))
        return options(data, tmp_path / "run", tiny_llm)

    def relabel(**fields: Any) -> Callable[[Session], None]:
        def change(session: Session) -> None:
            path = latents_file(session, "points", "video/000000.mp4")
            save_latents(path, replace(load_latents(path), **fields))

        return change

    def recut(session: Session) -> None:
        utterances = read_aligned(session.aligned_file)
        utterances[-1] = utterances[-1].model_copy(update={"tokenizer": "gpt2", "tokenizer_sha256": "0"})
        write_aligned(session.aligned_file, utterances)

    one_line(changed("a", relabel(encoder="dots")), "s3.*these are latents of dots, not of points; .*nvllm extract")
    one_line(changed("b", relabel(encoder_sha256="1" * 64)), "s3.*made by other weights of points")
    one_line(changed("c", relabel(latents=np.zeros((100, 6), np.float16))), "s3.*made by other weights")
    one_line(changed("d", recut), r"s3.*by the tokenizer of gpt2, which is not this LLM's; run nvllm align again")
    one_line(options(sessions, tmp_path / "run", tiny_llm, batch_size=0), "--batch-size is 0; it has to be 1 or more")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", float("nan"), "finite and above 0"),
        ("match_rate", float("inf"), "finite and above 0"),
        ("clip_norm", -1.0, "above 0"),
        ("window_s", 0.0, "above 0"),
        ("test_share", 1.0, "0 or more and below 1"),
        ("test_share", -0.1, "0 or more and below 1"),
        ("face_dropout", 1.0, "0 or more and below 1"),
        ("validation_share", 0.0, "above 0 and below 1"),
        ("own_text_weight", -0.3, "0 or more"),
        ("seed", -1, "0 or more"),
        ("folds", 1, "0, or 2 or more"),
    ],
)
def test_numbers_that_an_option_does_not_take(name: str, value: float, message: str, tmp_path: Path) -> None:
    asked = options(tmp_path / "nowhere", tmp_path / "run", tmp_path / "llm", **{name: value})
    said = one_line(asked, f"--{name.replace('_', '-')} is {value}; ")
    assert said.endswith(f"it has to be {message}")


def test_every_number_has_a_range(tmp_path: Path) -> None:
    taken = vars(TrainOptions(tmp_path, tmp_path))
    numbers = {name for name, value in taken.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    listed = [name for names in NUMBERS.values() for name in names]
    assert len(listed) == len(set(listed))
    assert set(listed) == numbers


def test_training_stops_when_people_left_out_are_served_no_better(
    chat: ChatFormat, tiny_llm: Path, tmp_path: Path
) -> None:
    """Everybody gets other answers: what is learned by heart of one person's is wrong for the next."""
    answers = ["Good to hear that.", "No idea whatsoever, ask again.", "Tea at 5 or 6?"]
    for number, answer in enumerate(answers):
        make_session(tmp_path / f"data/s{number}", chat, [("ann", "Well?"), ("bob", answer)], person=f"p{number}")
    stopping = {"validate_every": 2, "validation_share": 0.5, "patience": 2}
    unlike = {"twin": False, "learning_rate": 0.05, "match_steps": 0, "steps": 60} | stopping
    asked = options(tmp_path / "data", tmp_path / "run", tiny_llm, **unlike)
    train(asked, lambda _: None)
    bits = {line["step"]: line.get("left_out_bits_per_token") for line in metrics(asked.out)}
    looks = {step: value for step, value in bits.items() if value is not None}
    best = min(looks, key=lambda step: looks[step])
    assert max(bits) == best + 4 < 60, "two looks without a gain end it"

    def stop(progress: Progress) -> None:
        if progress.step == best:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(replace(asked, out=tmp_path / "again"), stop)
    assert different(weights(asked.out), weights(tmp_path / "again")) == set(), "the best weights are kept"


def test_a_tracker_is_asked_for_and_has_to_be_there(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "trackio", None)
        one_line(options(sessions, tmp_path / "run", tiny_llm, tracker="trackio"), "run: pip install trackio")
    assert Tracker.load("none") is None


def test_a_tracker_gets_every_figure(tmp_path: Path) -> None:
    """A module with the interface that wandb and trackio share, which writes down what it is told."""
    (tmp_path / "notebook_tracker.py").write_text(
        "told = []\n"
        "def init(*, project, name, config, resume):\n"
        "    told.append((project, name, config, resume))\n"
        "    return __import__('sys').modules[__name__]\n"
        "def log(figures): told.append(figures)\n"
        "def finish(): told.append('finished')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        tracker = Tracker.load("notebook_tracker")
        assert tracker is not None
        log = MetricsLog(tmp_path / "m", tracking=tracker.begin(tmp_path / "runs/a", {"seed": 3}, resumed=False))
        log.write("model", 1, bits_per_token=2.5)
        log.close()
        told = tracker.module.told
    assert told == [
        ("natural-video-llm", "runs-a", {"seed": 3}, "never"),
        {"step": 1, "model/bits_per_token": 2.5},
        "finished",
    ]


def test_a_terminated_run_goes_on(sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    """Through the command line: a recipe, and SIGTERM in mid-training."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'encoder = "points"\nllm = "{tiny_llm}"\nsteps = 400\nbatch_size = 4\ntwin = false\nown_text_weight = 0\n'
    )
    flags = ("--out", tmp_path / "run", "--config", recipe, "--steps", "60", "--match-steps=2", "--test-share", "0.34")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "train", str(sessions), *map(str, flags), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["part"] == "model":
            process.terminate()
            break
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    how = f"nvllm: {tmp_path / 'run'} can go on: the same command with --resume"
    assert errors.splitlines()[-2:] == [how, "nvllm: stopped"]
    told = [json.loads(line) for line in rest.splitlines()]
    done = told[-1]["done"] if told else 1
    assert done < 60 == told[-1]["total"], "stopped before its end; the command line outdoes the recipe"
    steps: list[int] = []
    asked = options(sessions, tmp_path / "run", tiny_llm, steps=60, twin=False, resume=True)
    train(asked, lambda progress: steps.append(progress.step))
    assert steps == list(range(done + 1, 61))
