"""Tiny models with random weights, saved as the library saves them, with the real processors."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEImageProcessorPil,
    VideoMAEModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
    VJEPA2Config,
    VJEPA2Model,
)

from natural_video_llm.checkpoint import load_base_llm, weights_sha256
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM
from natural_video_llm.preprocessing.encoders import make_encoder

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SQUARE = {"height": 32, "width": 32}

# What the processor of the published models, which cannot be made without torchvision, is saved as.
DINOV3_PROCESSOR = {
    "crop_size": None,
    "data_format": "channels_first",
    "do_center_crop": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "DINOv3ViTImageProcessorFast",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": SQUARE,
}
# The same for V-JEPA 2.
VJEPA2_PROCESSOR = {
    "crop_size": SQUARE,
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "return_metadata": False,
    "size": {"shortest_edge": 36},
    "video_processor_type": "VJEPA2VideoProcessor",
}


def seeded(make: Callable[[], PreTrainedModel], spread: float = 0.1) -> PreTrainedModel:
    """A model with weights of some size, so that what it says depends on the picture."""
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=spread)
    return model


def save_vit(folder: Path) -> None:
    seeded(lambda: ViTModel(ViTConfig(**SIZES, image_size=32, patch_size=8))).save_pretrained(folder)
    ViTImageProcessorPil(size=SQUARE).save_pretrained(folder)


def save_dinov2(folder: Path) -> None:
    seeded(lambda: Dinov2Model(Dinov2Config(**SIZES, image_size=28, patch_size=7))).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    BitImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size=size,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)


def save_dinov3(folder: Path) -> None:
    seeded(lambda: DINOv3ViTModel(DINOv3ViTConfig(**SIZES, image_size=32, patch_size=8))).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(DINOV3_PROCESSOR), encoding="utf-8")


def save_siglip(folder: Path) -> None:
    config = SiglipConfig(
        text_config=SIZES | {"vocab_size": 50}, vision_config=SIZES | {"image_size": 32, "patch_size": 8}
    )
    seeded(lambda: SiglipModel(config)).save_pretrained(folder)
    SiglipImageProcessorPil(size=SQUARE).save_pretrained(folder)


def save_timesformer(folder: Path) -> None:
    config = TimesformerConfig(**SIZES, image_size=32, patch_size=16, num_frames=8)
    seeded(lambda: TimesformerModel(config)).save_pretrained(folder)
    VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE).save_pretrained(folder)


def save_videomae(folder: Path) -> None:
    config = VideoMAEConfig(**SIZES, image_size=32, patch_size=16, num_frames=4)
    seeded(lambda: VideoMAEModel(config)).save_pretrained(folder)
    VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE).save_pretrained(folder)


def save_vjepa2(folder: Path) -> None:
    sizes = {size: SIZES[size] for size in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    predictor = {"pred_hidden_size": 32, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    config = VJEPA2Config(**sizes, **predictor, crop_size=32, patch_size=16, frames_per_clip=6)
    seeded(lambda: VJEPA2Model(config)).save_pretrained(folder)
    (folder / "video_preprocessor_config.json").write_text(json.dumps(VJEPA2_PROCESSOR), encoding="utf-8")


# Frame encoders: what saves a model of each family.
PICTURE_MODELS = {"vit": save_vit, "dinov2": save_dinov2, "dinov3": save_dinov3, "siglip": save_siglip}
# Clip encoders, the same.
CLIP_MODELS = {"timesformer": save_timesformer, "videomae": save_videomae, "vjepa2": save_vjepa2}
# Every kind of encoder that needs a model: what saves one, and what comes behind its folder in the specification.
ENCODERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "vit": (save_vit, ""),
    **{kind: (save, "") for kind, save in CLIP_MODELS.items()},
}


def save_model(save: Callable[[Path], None], folder: Path) -> Path:
    folder.mkdir(parents=True)
    save(folder)
    return folder


def encoder_with_model(kind: str, folder: Path) -> str:
    """Saves a tiny model for an encoder of `kind` in `folder`; returns the encoder's specification."""
    save, options = ENCODERS[kind]
    return f"{kind}:{save_model(save, folder)}{options}"


def make_run(folder: Path, llm: Path) -> Path:
    """A run folder: random weights, gates open, so that a face moves the words."""
    encoder = make_encoder("face-geometry")
    config = FusionConfig(
        str(llm),
        weights_sha256(str(llm)),
        encoder.name,
        encoder.weights_sha256,
        2 * encoder.latent_size,
        (1,),
        face_size=24,
        components=6,
    )
    torch.manual_seed(1)
    model = NaturalVideoLLM(load_base_llm(str(llm)).model, config).eval()
    model.temporal_encoder.basis.fit(torch.randn(200, config.latent_size))
    for block in model.blocks.values():
        torch.nn.init.constant_(block.gate, 0.8)
    model.save_pretrained(folder)
    return folder
