"""The LLM's own text: sampled from it, and kept as likely as it was."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM
from natural_video_llm.training.own_text import OwnText, faces_of_step, sample_text, texts_of_step


@pytest.fixture
def model(tiny_llm: Path) -> NaturalVideoLLM:
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_pretrained(tiny_llm, dtype=torch.float32).eval()
    return NaturalVideoLLM(llm, FusionConfig("tiny", "0" * 64, "face-geometry", "0" * 64, 8, fusion_layers=(1,))).eval()


def some_face(rows: int) -> Face:
    generator = torch.Generator().manual_seed(1)
    times = torch.arange(30, dtype=torch.float64)[None] / 10
    return Face(
        torch.randn(rows, 30, 8, generator=generator), times.expand(rows, -1), torch.ones(rows, 30, dtype=torch.bool)
    )


def test_the_same_seed_gives_the_same_text_one_token_after_the_other(model: NaturalVideoLLM) -> None:
    llm = model.llm
    ids = sample_text(llm, 4, 3, 12)
    assert ids.shape == (3, 12)
    assert torch.equal(ids, sample_text(llm, 4, 3, 12))
    assert not torch.equal(ids, sample_text(llm, 5, 3, 12))


def test_text_read_once_costs_the_same_bits(model: NaturalVideoLLM) -> None:
    with torch.no_grad():
        for block in model.blocks.values():
            block.gate.fill_(0.5)
        model.temporal_encoder.basis.directions.normal_()
        seen, ends_s = model.encode(some_face(2)), torch.tensor([2.0, 2.9], dtype=torch.float64)
        ids = sample_text(model.llm, 0)
        read, unread = OwnText(model, ids, is_read=True), OwnText(model, ids, is_read=False)
        losses = read.losses(torch.tensor([0, 3]), seen, ends_s)
        assert losses.shape == (2,)
        torch.testing.assert_close(losses, unread.losses(torch.tensor([0, 3]), seen, ends_s))
        torch.testing.assert_close(losses[1:], read.losses(torch.tensor([3]), seen.rows(torch.tensor([1])), ends_s[1:]))
        unseen = read.losses(torch.tensor([0, 3]), model.encode(Face.absent(2, 8)), ends_s)
        assert (losses - unseen).abs().min() > 1e-4


def test_training_on_it_brings_the_adapted_model_back_to_the_base(model: NaturalVideoLLM) -> None:
    with torch.no_grad():
        for block in model.blocks.values():
            block.gate.fill_(1.0)
            block.feed_forward[-1].weight.mul_(20)
    own, face = OwnText(model, sample_text(model.llm, 0), is_read=True), some_face(6)
    ends_s = torch.full((6,), 2.9, dtype=torch.float64)
    optimiser = torch.optim.Adam([p for _, p in model.trained_parameters()], 3e-3)

    @torch.no_grad()
    def apart() -> float:
        """Kullback-Leibler divergence from the base LLM in nats a token, on texts that were not trained on."""
        times = torch.full((6, own.ids.shape[1]), 2.9, dtype=torch.float64)
        adapted, base = (model(own.ids[-6:], times, f).logits.log_softmax(-1) for f in (face, None))
        return float((base.exp() * (base - adapted)).sum(-1).mean())

    before = apart()
    for step in range(15):
        optimiser.zero_grad()
        own.losses(torch.arange(6) + 6 * step, model.encode(face), ends_s).sum().backward()
        optimiser.step()
    assert apart() < before / 2


@pytest.mark.parametrize(("size", "processes"), [(16, 1), (16, 2), (12, 2), (12, 3), (1, 1), (6, 3), (9, 3)])
def test_processes_share_a_steps_texts_and_faces_take_turns(size: int, processes: int) -> None:
    count, seen = texts_of_step(size), set()
    for step in range(size):
        shares = [faces_of_step(step, size, rank, processes) for rank in range(processes)]
        assert len({len(share) for share in shares}) == 1, "a process would wait for the others for ever"
        counted = [(r + processes * i, text) for r, part in enumerate(shares) for i, text in part if text < count]
        assert sorted(text for _, text in counted) == list(range(count))
        assert sorted(counted) == sorted(faces_of_step(step, size, 0, 1))
        seen |= {place for place, _ in counted}
    assert seen == set(range(size))
