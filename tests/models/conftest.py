"""Tiny random LLMs of several families, and a moving face made of numbers."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM

LATENT_SIZE = 20
VOCABULARY = 64

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SIZES),
    "qwen2": Qwen2Config(**_SIZES),
    "gemma2": Gemma2Config(**_SIZES, head_dim=8),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=4, n_head=4),
}


def make_llm(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(FAMILIES[family]).eval()


def make_model(llm: PreTrainedModel, moved: bool = True, lora_rank: int = 0) -> NaturalVideoLLM:
    """An adapter on `llm`; `moved` as training would move it: gates open, LoRA away from zero."""
    config = FusionConfig(
        "tiny",
        "0" * 64,
        "face-geometry",
        "1" * 64,
        LATENT_SIZE,
        fusion_layers=(1, 3),
        components=6,
        face_size=24,
        heads=6,
        lora_rank=lora_rank,
    )
    torch.manual_seed(1)
    model = NaturalVideoLLM(llm, config).eval()
    model.temporal_encoder.basis.fit(torch.randn(200, LATENT_SIZE))
    if moved:
        for name, parameter in model.trained_parameters():
            if name.endswith(".gate"):
                torch.nn.init.constant_(parameter, 0.8)
            elif "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return model


def make_face(batch: int = 2, frames: int = 60, rate_hz: float = 15, seed: int = 2) -> Face:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, frames, LATENT_SIZE, generator=generator).cumsum(1) / 8
    times = (torch.arange(frames, dtype=torch.float64) / rate_hz).expand(batch, -1)
    return Face(latents.half(), times, torch.ones(batch, frames, dtype=torch.bool))


@pytest.fixture(params=sorted(FAMILIES))
def llm(request: pytest.FixtureRequest) -> PreTrainedModel:
    return make_llm(request.param)
