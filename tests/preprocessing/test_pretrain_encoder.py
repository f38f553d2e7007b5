"""An encoder of one's own: it learns, it is saved as it is, it is stopped and repeated, and no face is left behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel, VideoMAEForPreTraining, VideoMAEModel

from natural_video_llm.preprocessing.encoders import Execution, make_encoder
from natural_video_llm.preprocessing.extract_video_latents import encode_segment
from natural_video_llm.preprocessing.pretrain_encoder import PretrainProgress, pretrain
from natural_video_llm.preprocessing.pretrain_options import PretrainOptions

FILES = {"config.json", "metrics.jsonl", "model.safetensors", "preprocessor_config.json", "pretraining.json"}
SMALL = {"side_px": 32, "pictures": 4, "window_s": 0.5, "hidden_size": 64, "layers": 2, "batch_size": 8}


def options(sessions: Path, out: Path, **changed: object) -> PretrainOptions:
    return PretrainOptions(sessions, out, **{**SMALL, "steps": 3, "device": "cpu", **changed})


def losses(out: Path, kind: str) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["hidden"] == kind]


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
    record = pretrain(options(sessions, out, steps=80), said.append)
    return out, record, said


def test_it_learns(own: tuple[Path, dict, list[PretrainProgress]]) -> None:
    out, _, _ = own
    for kind in ("later", "places"):
        fallen = losses(out, kind)
        assert len(fallen) == 40
        assert np.mean(fallen[-10:]) < 0.8 * np.mean(fallen[:10]), kind


def test_nothing_but_the_encoder_is_left(own: tuple[Path, dict, list[PretrainProgress]]) -> None:
    out, record, said = own
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "pretraining.json").read_text()) == json.loads(json.dumps(record))
    assert [(p.part, p.done, p.total) for p in said] == [
        *(("cropping faces", number, 2) for number in (1, 2)),
        *(("learning", number, 80) for number in range(1, 81)),
    ]


def test_what_is_saved_is_what_was_learned(own: tuple[Path, dict, list[PretrainProgress]]) -> None:
    out, _, _ = own
    saved = load_file(out / "model.safetensors")
    whole = VideoMAEForPreTraining.from_pretrained(out)
    tower, by_auto = VideoMAEModel.from_pretrained(out).eval(), AutoModel.from_pretrained(out).eval()
    assert saved.keys() == whole.state_dict().keys()
    clips = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = whole.eval().videomae(clips).last_hidden_state
        assert torch.equal(tower(clips).last_hidden_state, expected)
        assert torch.equal(by_auto(clips).last_hidden_state, expected)
    assert AutoConfig.from_pretrained(out).window_s == 0.5
    processor = AutoImageProcessor.from_pretrained(out)
    assert (dict(processor.size), processor.do_center_crop) == ({"height": 32, "width": 32}, False)


def test_the_name_that_is_told_is_an_encoder(sessions: Path, own: tuple[Path, dict, list[PretrainProgress]]) -> None:
    out, record, _ = own
    assert record["encoder"] == f"videomae:{out},window_s=0.5"
    encoder = make_encoder(record["encoder"], Execution("cpu"))
    assert (encoder.name, encoder.latent_size, encoder.window_s) == (record["encoder"], 64, 0.5)
    latents, _ = encode_segment(sessions / "person_000" / "video" / "000000.mp4", encoder)
    assert latents.present.mean() > 0.95
    assert (latents.latents[latents.present].std(axis=0) > 0).all()


def test_who_was_held_out_is_written_down(own: tuple[Path, dict, list[PretrainProgress]]) -> None:
    _, record, _ = own
    assert (record["train"]["sessions"], record["test"]["sessions"]) == (["person_000"], ["person_002"])
    assert min(record["train"]["clips"], record["test"]["clips"]) > 30
    assert record["steps_done"] == 80
    later, places = record["held_out"]["later"], record["held_out"]["places"]
    assert set(later) == {"model", "last frame", "mean frame", "average face"}
    assert set(places) == {"model", "average face"}
    assert all(0 < error < 255 for error in (*later.values(), *places.values()))
    assert later["last frame"] < later["mean frame"] < later["average face"]


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
    assert "held_out" not in record
    assert make_encoder(record["encoder"], Execution("cpu")).latent_size == 64


def test_crops_have_no_name_even_while_they_are_needed(sessions: Path, tmp_path: Path) -> None:
    seen: set[str] = set()

    def look(_: PretrainProgress) -> None:
        seen.update(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))

    pretrain(options(sessions, tmp_path / "own"), look)
    assert seen == {"own", "own/metrics.jsonl"}
