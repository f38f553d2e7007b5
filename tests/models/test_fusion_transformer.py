"""The promises of the fused model: same as the base LLM where it must be, and causal in time."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_llms import LATENT_SIZE, VOCABULARY, make_face, make_llm, make_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM

TOKENS = 9
IDS = torch.randint(0, VOCABULARY, (2, TOKENS), generator=torch.Generator().manual_seed(3))
TIMES = torch.linspace(2.0, 3.6, TOKENS, dtype=torch.float64).expand(2, -1)


@torch.no_grad()
def logits(model: NaturalVideoLLM, face: Face | None, times: torch.Tensor = TIMES) -> torch.Tensor:
    return model(IDS, times, face).logits


@torch.no_grad()
def test_untrained_adapter_gives_the_base_logits_exactly(llm: PreTrainedModel) -> None:
    base = llm(IDS).logits
    model = make_model(llm, moved=False)
    assert torch.equal(logits(model, make_face()), base)
    assert torch.equal(logits(model, Face.absent(2, LATENT_SIZE)), base)


@torch.no_grad()
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_without_a_face_a_trained_model_is_the_base_llm(llm: PreTrainedModel, lora_rank: int) -> None:
    base = llm(IDS).logits
    model = make_model(llm, lora_rank=lora_rank)
    assert torch.equal(model(IDS).logits, base)
    assert not torch.allclose(logits(model, make_face()), base, atol=1e-3)
    assert torch.equal(model(IDS).logits, base), "also after a face was seen"


def test_the_face_matters_and_absence_is_its_own_state(llm: PreTrainedModel) -> None:
    model = make_model(llm)
    seen = logits(model, make_face())
    assert not torch.allclose(seen, logits(model, make_face(seed=9)), atol=1e-3)
    absent = logits(model, Face.absent(2, LATENT_SIZE))
    assert not torch.allclose(seen, absent, atol=1e-3)
    hidden = replace(make_face(), present=torch.zeros(2, 60, dtype=torch.bool))
    assert torch.allclose(logits(model, hidden), absent, atol=1e-5), "an empty picture is no face"


def test_later_frames_change_nothing_earlier(llm: PreTrainedModel) -> None:
    model, face = make_model(llm), make_face()
    before = logits(model, face)
    position = 4
    later = face.times > TIMES[0, position]
    assert later.any()
    changed = replace(face, latents=torch.where(later[..., None], face.latents + 3, face.latents))
    after = logits(model, changed)
    assert torch.equal(after[:, : position + 1], before[:, : position + 1])
    assert not torch.allclose(after[:, position + 1 :], before[:, position + 1 :], atol=1e-4)


def test_frames_older_than_the_memory_change_nothing(llm: PreTrainedModel) -> None:
    model, face = make_model(llm), make_face()
    times = TIMES + model.memory_s - 1.0
    old = face.times <= times.min() - model.memory_s
    assert old.any()
    changed = replace(face, latents=torch.where(old[..., None], face.latents + 3, face.latents))
    assert torch.allclose(logits(model, changed, times), logits(model, face, times), atol=1e-5)


def test_only_relative_time_counts(llm: PreTrainedModel) -> None:
    model, face = make_model(llm), make_face()
    hour = 3600.0
    moved = replace(face, times=face.times + hour)
    assert torch.allclose(logits(model, moved, TIMES + hour), logits(model, face), atol=1e-4)


def test_padding_frames_and_frame_order_in_the_batch_change_nothing(llm: PreTrainedModel) -> None:
    model, face = make_model(llm), make_face()
    padded = Face(
        torch.cat([face.latents, torch.randn(2, 7, LATENT_SIZE).half()], 1),
        torch.cat([face.times, torch.zeros(2, 7, dtype=torch.float64)], 1),
        torch.cat([face.present, torch.zeros(2, 7, dtype=torch.bool)], 1),
    )
    assert torch.allclose(logits(model, padded), logits(model, face), atol=1e-5)


def test_the_order_of_frames_matters() -> None:
    model, face = make_model(make_llm("llama")), make_face()
    backwards = replace(face, latents=face.latents.flip(1))
    assert not torch.allclose(logits(model, backwards), logits(model, face), atol=1e-3)


@torch.no_grad()
def test_token_by_token_with_a_cache_equals_all_at_once(llm: PreTrainedModel) -> None:
    model, face = make_model(llm), make_face()
    whole = logits(model, face)
    cache, steps = None, []
    for i in range(TOKENS):
        now = TIMES[0, i]
        until = int((face.times[0] <= now).sum())
        seen = Face(face.latents[:, :until], face.times[:, :until], face.present[:, :until])
        out = model(IDS[:, i : i + 1], TIMES[:, i : i + 1], seen, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        steps.append(out.logits)
    assert torch.allclose(torch.cat(steps, 1), whole, atol=1e-4)


@torch.no_grad()
def test_reading_the_text_first_changes_nothing(llm: PreTrainedModel) -> None:
    model, face = make_model(llm), make_face()
    mask = torch.ones_like(IDS, dtype=torch.bool)
    hidden = model.read(IDS, mask)
    out = model(IDS, TIMES, face, text_hidden=hidden, attention_mask=mask)
    assert torch.equal(out.logits, model(IDS, TIMES, face, attention_mask=mask).logits)


@torch.no_grad()
def test_keep_chooses_positions(llm: PreTrainedModel) -> None:
    model, face = make_model(llm), make_face()
    keep = torch.zeros(2, TOKENS, dtype=torch.bool)
    keep[0, 3] = keep[1, 5:8] = True
    assert torch.allclose(model(IDS, TIMES, face, keep=keep).logits, logits(model, face)[keep], atol=1e-6)


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_saved_is_loaded_bit_for_bit(llm: PreTrainedModel, lora_rank: int, tmp_path: Path) -> None:
    llm.save_pretrained(tmp_path / "llm")
    model = make_model(llm, lora_rank=lora_rank)
    model.save_pretrained(tmp_path / "run")
    fresh = AutoModelForCausalLM.from_pretrained(tmp_path / "llm", dtype=torch.float32)
    loaded = NaturalVideoLLM.from_pretrained(tmp_path / "run", fresh).eval()
    for (name, saved), (_, read) in zip(model.adapter_state().items(), loaded.adapter_state().items(), strict=True):
        assert torch.equal(saved, read), name
    assert torch.equal(logits(loaded, make_face()), logits(model, make_face()))


def test_a_file_that_does_not_fit_its_config_is_refused(tmp_path: Path) -> None:
    model = make_model(make_llm("llama"))
    model.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"lora_rank": 0', '"lora_rank": 2'))
    with pytest.raises(ValueError, match=r"does not fit its config\.json"):
        NaturalVideoLLM.from_pretrained(tmp_path, make_llm("llama"))


@torch.no_grad()
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_detach_gives_the_llm_back(llm: PreTrainedModel, lora_rank: int) -> None:
    untouched = copy.deepcopy(llm)
    model = make_model(llm, lora_rank=lora_rank)
    model.detach()
    assert torch.equal(llm(IDS).logits, untouched(IDS).logits)
    assert [name for name, _ in llm.named_parameters()] == [name for name, _ in untouched.named_parameters()]


def test_only_the_adapter_gets_gradients(llm: PreTrainedModel) -> None:
    model = make_model(llm)
    model(IDS, TIMES, make_face()).logits.sum().backward()
    assert all(p.grad is None for p in llm.parameters())
    without = [n for n, p in model.trained_parameters() if p.grad is None]
    assert all(name.startswith("contrastive.") for name in without)


def test_a_face_without_times_is_refused() -> None:
    with pytest.raises(ValueError, match="query_times"):
        make_model(make_llm("llama"))(IDS, None, make_face())
