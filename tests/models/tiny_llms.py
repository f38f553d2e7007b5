"""Tiny random LLMs of several families, and a moving face made of numbers."""

from dataclasses import replace

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM

LATENT_SIZE = 20
VOCABULARY = 64

_WIDTHS = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
_SIZES = {**_WIDTHS, "num_key_value_heads": 2}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SIZES),
    "qwen2": Qwen2Config(**_SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=2),
    "qwen3": Qwen3Config(**_SIZES, head_dim=8),
    "gemma2": Gemma2Config(**_SIZES, head_dim=8, final_logit_softcapping=1.0, tie_word_embeddings=True),
    "gemma3": Gemma3TextConfig(**_SIZES, head_dim=8, sliding_window=4),
    "mistral": MistralConfig(**_SIZES, sliding_window=4),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=4, n_head=4),
    "gpt_neox": GPTNeoXConfig(**_WIDTHS),
    "phi": PhiConfig(**_SIZES),
    # Its word embeddings are narrower than its layers.
    "opt": OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        word_embed_proj_dim=16,
        init_std=0.2,
        pad_token_id=1,
    ),
}


def make_llm(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(FAMILIES[family]).eval()


def make_model(llm: PreTrainedModel, moved: bool = True, lora_rank: int = 0, **settings: object) -> NaturalVideoLLM:
    """An adapter on `llm`, with settings of its config; `moved` as training would move it: gates open, LoRA away from
    zero."""
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
    config = replace(config, **settings)  # type: ignore[arg-type]
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
