"""An encoder of one's own: it learns, it is saved as it is, it is stopped and repeated, and no face is left behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel, VideoMAEForPreTraining, VideoMAEModel

from natural_video_llm import cli_pretrain
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing import pretrain_encoder
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.extract_video_latents import encode_segment
from natural_video_llm.preprocessing.options import Execution
from natural_video_llm.preprocessing.pretrain_encoder import PretrainProgress, pretrain
from natural_video_llm.preprocessing.pretrain_options import PretrainOptions
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.sessions.video import SegmentWriter

FILES = {"config.json", "metrics.jsonl", "model.safetensors", "preprocessor_config.json", "pretraining.json"}
SMALL = {"side_px": 32, "pictures": 4, "window_s": 1.5, "hidden_size": 64, "layers": 1, "batch_size": 16}


def options(sessions: Path, out: Path, **changed: object) -> PretrainOptions:
    return PretrainOptions(sessions, out, **{**SMALL, "steps": 3, "device": "cpu", **changed})


def errors(out: Path, kind: str) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["error"] for line in lines if line["hidden"] == kind]


@pytest.fixture(scope="module")
def sessions(tiny_sessions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, of whom the second is held out, with the first segment of video each."""
    copy = tmp_path_factory.mktemp("pretraining") / "sessions"
    for name in ("person_000", "person_002"):
        shutil.copytree(tiny_sessions / name, copy / name)
        log = copy / name / "session.jsonl"
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(line for line in lines if "video/" not in line or "video/000000.mp4" in line))
    return copy


@pytest.fixture(scope="module")
def own(sessions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, list[PretrainProgress]]:
    """An encoder, what was found out about it, and what was reported meanwhile."""
    out = tmp_path_factory.mktemp("own") / "encoder"
    said: list[PretrainProgress] = []
    record = pretrain(options(sessions, out, steps=100), said.append)
    return out, record, said


def test_it_learns(own: tuple[Path, dict, list[PretrainProgress]]) -> None:
    """What a small run shows on any machine; that held-out people's pictures are met better than by the last or the
    mean frame takes minutes (docs)."""
    out, _, _ = own
    fallen = errors(out, "later")
    assert np.mean(fallen[-10:]) < np.mean(fallen[:10]) - 0.015


def test_nothing_but_the_encoder_is_left(own: tuple[Path, dict, list[PretrainProgress]]) -> None:
    out, record, said = own
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "pretraining.json").read_text()) == json.loads(json.dumps(record))
    assert [(p.part, p.done, p.total) for p in said] == [
        *(("cropping faces", number, 2) for number in (1, 2)),
        *(("learning", number, 100) for number in range(1, 101)),
    ]


def test_what_is_saved_is_what_was_learned(sessions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learners = []

    class Kept(pretrain_encoder.Learner):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            learners.append(self)

    monkeypatch.setattr(pretrain_encoder, "Learner", Kept)
    out = tmp_path / "own"
    pretrain(options(sessions, out), lambda _: None)
    clips = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(128).expand(2, -1) >= 64
    learned, loaded = learners[0].model.eval(), VideoMAEForPreTraining.from_pretrained(out).eval()
    with torch.inference_mode():
        assert torch.equal(loaded(clips, bool_masked_pos=mask).logits, learned(clips, bool_masked_pos=mask).logits)
        expected = learned.videomae(clips).last_hidden_state
        for by in (VideoMAEModel, AutoModel):
            assert torch.equal(by.from_pretrained(out).eval()(clips).last_hidden_state, expected)
    assert AutoConfig.from_pretrained(out).window_s == 1.5
    processor = AutoImageProcessor.from_pretrained(out)
    assert (dict(processor.size), processor.do_center_crop) == ({"height": 32, "width": 32}, False)


def test_the_name_that_is_told_is_an_encoder(sessions: Path, own: tuple[Path, dict, list[PretrainProgress]]) -> None:
    out, record, _ = own
    assert record["encoder"] == f"videomae:{out},window_s=1.5"
    encoder = make_encoder(record["encoder"], Execution("cpu"))
    assert (encoder.name, encoder.latent_size, encoder.window_s) == (record["encoder"], 64, 1.5)
    latents, _ = encode_segment(sessions / "person_000" / "video" / "000000.mp4", encoder)
    assert latents.present.mean() > 0.95
    assert (latents.latents[latents.present].std(axis=0) > 0).all()


def test_who_was_held_out_is_written_down(own: tuple[Path, dict, list[PretrainProgress]]) -> None:
    _, record, _ = own
    assert (record["train"]["sessions"], record["test"]["sessions"]) == (["person_000"], ["person_002"])
    assert min(record["train"]["clips"], record["test"]["clips"]) > 30
    assert record["steps_done"] == 100
    later, places = record["held_out"]["later"], record["held_out"]["places"]
    assert set(later) == {"model", "last frame", "mean frame", "best mix of both", "average face"}
    assert set(places) == {"model", "average face"}
    assert all(0 < error < 255 for error in (*later.values(), *places.values()))
    assert max(later["last frame"], later["mean frame"]) < later["average face"]


def test_the_same_seed_gives_the_same_weights_however_many_workers(sessions: Path, tmp_path: Path) -> None:
    weights = []
    for number, (seed, workers) in enumerate(((1, 1), (1, 2), (2, 1))):
        pretrain(options(sessions, tmp_path / str(number), seed=seed, workers=workers), lambda _: None)
        weights.append(load_file(tmp_path / str(number) / "model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_an_interrupt_leaves_what_there_is_and_no_crops(sessions: Path, tmp_path: Path) -> None:
    def stop(now: PretrainProgress) -> None:
        if (now.part, now.done) == ("learning", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(options(sessions, tmp_path / "own"), stop)
    assert {path.name for path in (tmp_path / "own").iterdir()} == FILES
    record = json.loads((tmp_path / "own" / "pretraining.json").read_text())
    assert record["steps_done"] == 2
    assert record["held_out"] is None
    assert make_encoder(record["encoder"], Execution("cpu")).latent_size == 64


def test_crops_have_no_name_even_while_they_are_needed(sessions: Path, tmp_path: Path) -> None:
    seen: set[str] = set()

    def look(_: PretrainProgress) -> None:
        seen.update(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))

    pretrain(options(sessions, tmp_path / "own"), look)
    assert seen == {"own", "own/metrics.jsonl"}


@pytest.mark.parametrize("moment", ["cropping faces", "learning"])
def test_a_killed_process_leaves_no_crops(moment: str, sessions: Path, tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from natural_video_llm.preprocessing.pretrain_encoder import pretrain
from natural_video_llm.preprocessing.pretrain_options import PretrainOptions
def kill(now):
    if now.part == {moment!r}:
        os.kill(os.getpid(), signal.SIGKILL)
pretrain(PretrainOptions(Path({str(sessions)!r}), Path({str(tmp_path / "own")!r}), **{SMALL!r}), kill)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == (["metrics.jsonl"] if moment == "learning" else [])


def test_no_more_is_kept_than_there_is_room_for(sessions: Path, tmp_path: Path) -> None:
    frames = [s.finished_segments[0].frames for s in find_sessions(sessions)]
    with pytest.raises(UserError, match=r"no stretch of 1.5 s that shows a face to (learn from|hold out)"):
        pretrain(options(sessions, tmp_path / "own", cache_gb=max(frames) * 32 * 32 * 3 / 1e9), lambda _: None)


def test_nobody_need_be_held_out(sessions: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sessions / "person_000", tmp_path / "alone")
    log = copy / "session.jsonl"
    log.write_text(log.read_text().replace(',"split":"train"', ""))
    with pytest.raises(UserError, match="one session only"):
        pretrain(options(copy, tmp_path / "own"), lambda _: None)
    record = pretrain(options(copy, tmp_path / "own", test_share=0), lambda _: None)
    assert record["held_out"] is None
    assert record["train"]["clips"] > 0


def test_no_face_is_told(sessions: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sessions, tmp_path / "sessions")
    for session in find_sessions(copy):
        writer = SegmentWriter(session.path / session.finished_segments[0].file, 64, 48, 10)
        for number in range(30):
            writer.write(np.zeros((48, 64, 3), np.uint8), number / 10)
        writer.close()
    with pytest.raises(UserError, match="no face in any video"):
        pretrain(options(copy, tmp_path / "own"), lambda _: None)
    assert not list((tmp_path / "own").iterdir())


def test_a_loss_that_is_no_number_stops(sessions: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step [0-9]+; lower --learning-rate"):
        pretrain(options(sessions, tmp_path / "own", learning_rate=1e30, steps=60), lambda _: None)
    assert not (tmp_path / "own" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"side_px": 60}, "--side-px must be a multiple of 8, not 60"),
        ({"pictures": 3}, "--pictures must be a multiple of 2, not 3"),
        ({"hidden_size": 48}, "--hidden-size must be a multiple of 32, not 48"),
        ({"steps": 0}, "--steps must be above zero, not 0"),
        ({"window_s": float("nan")}, "--window-s must be above zero, not nan"),
        ({"window_s": 60.0}, "no stretch of 60 s that shows a face"),
        ({"device": "toaster"}, "device 'toaster' cannot be used here"),
    ],
)
def test_unusable_options_are_one_clear_line(
    changed: dict[str, object], words: str, sessions: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        pretrain(options(sessions, tmp_path / "own", **changed), lambda _: None)


def test_another_model_is_never_written_over(
    sessions: Path, own: tuple[Path, dict, list[PretrainProgress]], tmp_path: Path
) -> None:
    out, _, _ = own
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds a model already"):
        pretrain(options(sessions, out), lambda _: None)
    assert (out / "model.safetensors").read_bytes() == before
    with pytest.raises(UserError, match="no session here"):
        pretrain(options(tmp_path, tmp_path / "own"), lambda _: None)


def test_the_verb_says_what_was_learned_and_what_comes_next(
    sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_pretrain.pretrain_encoder(options(sessions, tmp_path / "own"))
    said = capsys.readouterr().out
    for words in (
        "hidden later: model",
        "last frame",
        "hidden places: model",
        f"--encoder videomae:{tmp_path / 'own'}",
    ):
        assert words in said
    cli_pretrain.pretrain_encoder(options(sessions, tmp_path / "other"), json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == json.loads((tmp_path / "other" / "pretraining.json").read_text())
    assert lines[-2]["part"] == "learning"
