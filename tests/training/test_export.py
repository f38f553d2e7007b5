"""What is exported is a plain model and an adapter that together say what the run says."""

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from runs import options
from transformers import AutoModelForCausalLM, AutoTokenizer

from natural_video_llm.checkpoint import load_run
from natural_video_llm.errors import UserError
from natural_video_llm.export import export
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.training.train import train


@pytest.fixture(scope="module")
def run(
    sessions: Path,
    tiny_llm: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    changed = {"lora_rank": 2, "learning_rate": 0.1, "steps": 4, "twin": False}
    train(options(sessions, run, tiny_llm, **changed), lambda _: None)
    return run


@torch.no_grad()
def logits(model: NaturalVideoLLM, sighted: bool = True) -> torch.Tensor:
    size = model.config.latent_size
    ids = torch.arange(20, 28)[None]
    times = torch.linspace(1.0, 2.0, 8, dtype=torch.float64)[None]
    frames = torch.arange(0.0, 2.0, 0.1, dtype=torch.float64)[None]
    latents = torch.randn(1, 20, size, generator=torch.Generator().manual_seed(0))
    face = Face(latents, frames, torch.ones(1, 20, dtype=torch.bool))
    return model(ids, times, face if sighted else None).logits


def test_an_export_says_what_the_run_says(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "out", moved)
    model, _ = load_run(run, torch.float32)
    exported, tokenizer = load_run(moved / "adapter", torch.float32)
    assert torch.allclose(logits(exported), logits(model), atol=1e-4)
    difference = (logits(model) - logits(model, sighted=False)).abs().max()
    assert difference > 1e-2, "else this shows nothing"
    plain = AutoModelForCausalLM.from_pretrained(moved, dtype=torch.float32).eval()
    beside = NaturalVideoLLM.from_pretrained(moved / "adapter", plain).eval()
    assert torch.equal(logits(beside), logits(exported))
    assert not any("lora" in name for name, _ in plain.named_parameters())
    assert AutoTokenizer.from_pretrained(moved).get_vocab() == tokenizer.get_vocab()
    card = ModelCard.load(moved / "README.md")
    assert "THIS_FOLDER/adapter" in card.text
    assert "LoRA is merged in" in card.text
    assert "LoRA of rank 2" in card.text
    assert [p.name for p in tmp_path.iterdir()] == ["elsewhere"], "nothing half made is left"


def test_an_export_is_not_overwritten_and_needs_a_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="there exists already"):
        export(run, tmp_path / "there")
    with pytest.raises(UserError, match="no trained model here"):
        export(tmp_path, tmp_path / "out")
    folds = tmp_path / "folds"
    (folds / "fold_0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"several models; export one of them, such as .*fold_0"):
        export(folds, tmp_path / "out")
    assert not (tmp_path / "out").exists()
