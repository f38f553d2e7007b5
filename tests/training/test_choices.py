"""What can be chosen for a training: temporal encoder, where blocks stand, the loss of the face ahead."""

from pathlib import Path

import pytest
from runs import metrics, options
from safetensors.torch import load_file

from natural_video_llm.errors import UserError
from natural_video_llm.models.fusion_transformer import read_config
from natural_video_llm.training.train import train


def test_temporal_encoder_blocks_and_reaction_by_option(
    sessions: Path,
    tiny_llm: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    chosen = {"temporal_encoder": "gru", "fusion_layers": (1, 0), "reaction_weight": 0.5, "micro_batch_size": 3}
    train(options(sessions, run, tiny_llm, **chosen), lambda _: None)
    config = read_config(run)
    assert (config.temporal_encoder, config.fusion_layers, config.reaction) == ("gru", (0, 1), True)
    weights = load_file(run / "adapter.safetensors")
    assert weights["reaction.out.1.weight"].abs().max() > 0, "it has learned"
    assert {"temporal_encoder.cell.weight_hh", "blocks.0.gate", "blocks.1.gate"} < weights.keys()
    fitted = [line for line in metrics(run) if line["part"] == "model"]
    assert fitted
    assert all(line["reaction"] > 0 and line["contrastive"] > 0 for line in fitted)
    assert not read_config(run / "twin").reaction, "without a face there is nothing to look ahead from"
    assert all("reaction" not in line for line in metrics(run / "twin"))


def test_the_reaction_loss_is_the_same_however_a_batch_is_cut(
    sessions: Path,
    tiny_llm: Path,
    tmp_path: Path,
) -> None:
    lines = []
    for size in (0, 1):
        alike = {
            "reaction_weight": 0.5,
            "micro_batch_size": size,
            "twin": False,
            "face_noise": 0.0,
            "precision": "fp32",
        }
        alike |= {"text_dropout": 0.0, "steps": 3}
        train(options(sessions, tmp_path / str(size), tiny_llm, **alike), lambda _: None)
        lines.append([x["reaction"] for x in metrics(tmp_path / str(size)) if x["part"] == "model"])
    assert lines[0] == pytest.approx(lines[1], abs=1e-5)


def test_layers_that_the_llm_does_not_have_are_refused(
    sessions: Path,
    tiny_llm: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"--fusion-layers \(1, 2\): .* has the layers 0 to 1"):
        train(options(sessions, tmp_path, tiny_llm, fusion_layers=(2, 1)), lambda _: None)


def test_plain_lines_are_announced(
    sessions: Path,
    tiny_llm: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bare = tmp_path / "llm"
    bare.mkdir()
    for file in tiny_llm.iterdir():
        if "template" not in file.name:
            (bare / file.name).symlink_to(file)
    settings = options(sessions, tmp_path / "run", bare, match_steps=0, steps=0, twin=False)
    train(settings, lambda _: None)
    assert "has no chat template; turns are written as plain lines" in capsys.readouterr().err
