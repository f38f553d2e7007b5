"""Latents of every kind of encoder carry the main path: extract, align, train, evaluate."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_models import ENCODERS, encoder_with_model

from natural_video_llm import cli, cli_eval
from natural_video_llm.models.fusion_transformer import read_config
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.options import ExtractOptions
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.sessions.latents import load_session_latents
from natural_video_llm.training.options import TrainOptions


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_from_video_to_evidence(
    kind: str, tiny_sessions: Path, tiny_llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    carried_to_evidence(encoder_with_model(kind, tmp_path / "model"), tiny_sessions, tiny_llm, tmp_path)
    assert "Traceback" not in capsys.readouterr().err


def carried_to_evidence(name: str, tiny_sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    sessions, run = shutil.copytree(tiny_sessions, tmp_path / "sessions"), tmp_path / "run"
    encoder = make_encoder(name)
    cli.extract(ExtractOptions(sessions, name, workers=1), json=True)
    for session in find_sessions(sessions):
        found = load_session_latents(session, encoder.name)
        assert found.encoder_sha256 == encoder.weights_sha256
        assert found.latents.shape == (len(found.times), encoder.latent_size)
        assert found.present.mean() > 0.95
        assert np.isfinite(found.latents).all()
        assert (found.latents[found.present].std(axis=0) > 0).mean() > 0.9
    cli.align(sessions, encoder=name, llm=str(tiny_llm), json=True)
    small = {"match_steps": 4, "match_rate": 1e-3, "steps": 4, "batch_size": 4}
    cli.train(TrainOptions(sessions, run, llm=str(tiny_llm), encoder=name, **small), json=True)
    config = read_config(run)
    assert (config.encoder, config.encoder_sha256) == (encoder.name, encoder.weights_sha256)
    steps = [json.loads(line) for line in (run / "logs/metrics/metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 8
    assert all(math.isfinite(step["contrastive"]) for step in steps)
    cli_eval.eval_(run, json=True)
    result = json.loads((run / "eval.json").read_text())
    assert result["data"]["people"] == 1
    true, none = (result["conditions"][condition]["bits_per_token"][0] for condition in ("true", "none"))
    assert math.isfinite(true)
    assert true != none, "the face reaches the words"
