"""Any decoder: saved as anyone would save it, loaded by name, trained, talked to, saved, and given back untouched."""

import copy
from pathlib import Path

import pytest
import torch
from tiny_llms import FAMILIES, LATENT_SIZE, make_face, make_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config, MambaConfig, PreTrainedModel

from natural_video_llm.checkpoint import BaseLLM, load_base_llm, load_run, load_tokenizer
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.decoder import TransformersDecoder
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM, decoder_layers
from natural_video_llm.models.generate import generate_reply
from natural_video_llm.models.loss import next_token_loss

ASKED, ANSWER = "How was it?", "Oh, I am so glad for you!"


@pytest.fixture(params=["gemma2", "gpt2", "llama", "mistral", "phi", "qwen3"])
def base(request: pytest.FixtureRequest, llm_dir: str, tmp_path: Path) -> BaseLLM:
    """A tiny random LLM of a family, with the words of the default LLM, from a folder."""
    tokenizer = load_tokenizer(llm_dir)
    torch.manual_seed(0)
    config = AutoConfig.for_model(**{**FAMILIES[request.param].to_dict(), "vocab_size": len(tokenizer)})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    base = load_base_llm(str(tmp_path / "llm"))
    base.model.float()
    return base


def conversation(base: BaseLLM) -> tuple[Tensor, Tensor, Tensor]:
    """ids, query times and labels of a question and its answer."""
    chat = ChatFormat(base.tokenizer)
    turns, now_s = [], 1.0
    for role, text in (("user", ASKED), ("assistant", ANSWER)):
        ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
        turns.append((role, TimedTokens(ids, [now_s + i / 10 for i in range(len(ids))])))
        now_s += 1.0
    tokens = chat.conversation(turns)
    ids = torch.tensor([tokens.ids, tokens.ids])
    return ids[:, :-1], torch.tensor(tokens.times[1:], dtype=torch.float64).expand(2, -1), ids[:, 1:]


def train(model: NaturalVideoLLM, base: BaseLLM, face: Face, steps: int = 6) -> list[float]:
    ids, times, labels = conversation(base)
    optimiser = torch.optim.AdamW([p for _, p in model.trained_parameters()], lr=5e-3)
    losses = []
    for _ in range(steps):
        loss = next_token_loss(model(ids, times, face).logits.flatten(0, 1), labels.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_from_a_folder_to_a_reply_and_back(base: BaseLLM, tmp_path: Path) -> None:
    ids, times, _ = conversation(base)
    face, untouched = make_face(), copy.deepcopy(base.model)
    with torch.no_grad():
        plain = untouched(ids, use_cache=False).logits
    model = make_model(base.model, moved=False, lora_rank=2, base_llm=base.name, base_llm_sha256=base.sha256)
    with torch.no_grad():
        assert torch.equal(model(ids, times, face).logits, plain), "nothing has been learned yet"
    losses = train(model, base, face)
    assert losses[-1] < losses[0]
    assert all(block.gate.abs().item() > 1e-3 for block in model.blocks.values())
    model.save_pretrained(tmp_path / "run")
    loaded, _ = load_run(tmp_path / "run")
    loaded.llm.float()
    with torch.no_grad():
        trained = model(ids, times, face).logits
        assert not torch.allclose(trained, plain, atol=1e-3)
        assert torch.equal(model(ids).logits, plain), "without a face it is the base LLM still"
        assert torch.equal(loaded(ids, times, face).logits, trained)
    decoder = TransformersDecoder(loaded)
    replied = list(generate_reply(loaded, decoder, _prompt(base), _looking(make_face(batch=1)), set(), max_tokens=4))
    assert len(replied) == 4
    model.detach()
    with torch.no_grad():
        assert torch.equal(base.model(ids, use_cache=False).logits, plain)
    assert [n for n, _ in base.model.named_modules()] == [n for n, _ in untouched.named_modules()]
    assert vars(base.model).keys() == vars(untouched).keys()


def _prompt(base: BaseLLM) -> TimedTokens:
    chat = ChatFormat(base.tokenizer)
    ids = base.tokenizer(ASKED, add_special_tokens=False)["input_ids"]
    asked, opening = chat.conversation([("user", TimedTokens(ids, [1.0] * len(ids)))]), chat.opening("assistant", 1.2)
    return TimedTokens(asked.ids + opening.ids, asked.times + opening.times)


def _looking(face: Face):
    return lambda: (2.0, face)


@torch.no_grad()
def test_merged_lora_gives_the_same_logits_and_leaves_no_trace(llm: PreTrainedModel) -> None:
    ids = torch.arange(9).expand(2, -1)
    times = torch.linspace(2.0, 3.6, 9, dtype=torch.float64).expand(2, -1)
    names = [name for name, _ in llm.named_modules()]
    model = make_model(llm, lora_rank=2)
    before = model(ids, times, make_face()).logits
    model.merge_lora()
    assert model.config.lora_rank == 0
    assert torch.allclose(model(ids, times, make_face()).logits, before, atol=1e-5)
    model.detach()
    assert [name for name, _ in llm.named_modules()] == names


def test_the_layers_of_a_multimodal_llm_are_those_that_write() -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": 64, "num_key_value_heads": 2, "head_dim": 8}
    vision = {**sizes, "image_size": 28, "patch_size": 14}
    llm = AutoModelForCausalLM.from_config(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))
    layers = decoder_layers(llm)
    assert all(hasattr(layer, "self_attn") and hasattr(layer.mlp, "gate_proj") for layer in layers)
    model = make_model(llm.eval())
    ids = torch.arange(5)[None]
    times = torch.linspace(2.0, 3.0, 5, dtype=torch.float64)[None]
    with torch.no_grad():
        nobody = model(ids, times, Face.absent(1, LATENT_SIZE)).logits
        assert not torch.allclose(model(ids, times, make_face(batch=1)).logits, nobody, atol=1e-3)


def test_an_llm_without_attention_is_refused() -> None:
    llm = AutoModelForCausalLM.from_config(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=4))
    with pytest.raises(ValueError, match="MambaForCausalLM has no key-value cache"):
        make_model(llm)
