"""Which encoders keep up with live video on this machine? A table, as Markdown.

Each is given frames one at a time, as a camera gives them: a portrait that drifts across 640x480 pixels at 30 Hz.
Speed does not depend on the values of weights: the nets are of the published sizes, with random weights, so that
nothing has to be downloaded; face geometry has its own. `x` is seconds of video encoded in a second, from 1 on it
keeps up; the time beside it is the median from a frame to the latent that it completes.

python benchmarks/bench_encoders.py [--seconds 2] [--only vit timesformer …]
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
    VJEPA2Config,
    VJEPA2Model,
)

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.encoders.real_time import measure_real_time
from natural_video_llm.preprocessing.options import Execution

EXECUTIONS = {
    "float32": Execution(),
    "bfloat16": Execution(dtype="bfloat16"),
    "ONNX, float32": Execution(onnx=True),
}
SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}


@dataclass(frozen=True)
class Model:
    """A published model.

    Args:
        kind: of encoder.
        make: the net.
        side_px: of its pictures.
        part: what of the net the encoder runs; empty for all of it.
        options: behind the folder in the encoder's name.
    """

    kind: str
    make: Callable[[], PreTrainedModel]
    side_px: int = 224
    part: str = ""
    options: str = ""


MODELS = {
    "ViT-base/16": Model("vit", lambda: ViTModel(ViTConfig())),
    "DINOv2-small/14": Model("vit", lambda: Dinov2Model(Dinov2Config(**SMALL, image_size=518, patch_size=14))),
    "SigLIP-base/16": Model("vit", lambda: SiglipVisionModel(SiglipVisionConfig())),
    "TimeSformer-base": Model("timesformer", lambda: TimesformerModel(TimesformerConfig())),
    "VideoMAE-small": Model("videomae", lambda: VideoMAEModel(VideoMAEConfig(**SMALL, intermediate_size=1536))),
    "VideoMAE-base": Model("videomae", lambda: VideoMAEModel(VideoMAEConfig())),
    # The default, 64 pictures, takes a CPU minutes a clip.
    "V-JEPA 2 large, 16 pictures": Model("vjepa2", lambda: VJEPA2Model(VJEPA2Config()), 256, "encoder", ",frames=16"),
}


def save(model: Model, folder: Path) -> tuple[str, int]:
    """Saves a model; returns the encoder's name and how many parameters it runs."""
    net = model.make()
    net.save_pretrained(folder)
    square = {"height": model.side_px, "width": model.side_px}
    settings = {"size": square, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return f"{model.kind}:{folder}{model.options}", parameters(net.get_submodule(model.part))


def save_r3d(folder: Path) -> tuple[str, int]:
    from torchvision.models.video import r3d_18

    net = r3d_18(weights=None)
    folder.mkdir()
    torch.save(net.state_dict(), folder / "r3d_18.pt")
    return f"r3d-18:{folder / 'r3d_18.pt'}", parameters(net) - parameters(net.fc)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def row(title: str, name: str, count: int | None, executions: dict[str, Execution], seconds: float) -> str:
    cells = []
    for execution in executions.values():
        try:
            encoder = make_encoder(name, execution)
            found = measure_real_time(encoder, video_s=seconds, at_most_s=30)
            latency = f"{1000 * found.median_s:.0f} ms" if found.median_s < 1 else f"{found.median_s:.1f} s"
            cells.append(f"{found.factor:.2g} x, {latency}")
        except UserError as error:
            print(f"{title}: {error}", flush=True)
            cells.append("–")
    window, stride = f"{encoder.window_s:g} s", f"{1 / encoder.rate_hz:g} s" if encoder.rate_hz else "each frame"
    size = f"{count / 1e6:.0f} M" if count else ""
    cells += [""] * (len(EXECUTIONS) - len(cells))
    return f"| {title} | {encoder.latent_size} | {window} | {stride} | {size} | {' | '.join(cells)} |"


def main() -> None:
    """Prints a line an encoder, as they are measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="video to time for each figure")
    parser.add_argument("--only", nargs="*", help="kinds of encoders; all by default")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"PyTorch {torch.__version__}, load {os.getloadavg()[0]:.1f} (1 min)\n"
    )
    columns = ["encoder", "numbers a latent", "window", "stride", "parameters", *EXECUTIONS]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)

    def wanted(kind: str) -> bool:
        return options.only is None or kind in options.only

    face_model = face_landmarker_file()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(face_model, folder)
        os.environ["NVLLM_CACHE"] = name  # exports are not to fill the person's own cache
        if wanted("face-geometry"):
            only = {"float32": EXECUTIONS["float32"]}
            print(row("face geometry", "face-geometry", None, only, options.seconds), flush=True)
        for title, model in MODELS.items():
            if wanted(model.kind):
                saved = save(model, folder / "model")
                print(row(title, *saved, EXECUTIONS, options.seconds), flush=True)
                shutil.rmtree(folder / "model")
        if wanted("r3d-18"):
            try:
                print(row("R3D-18", *save_r3d(folder / "model"), EXECUTIONS, options.seconds), flush=True)
            except (ImportError, RuntimeError) as error:
                print(f"\nR3D-18: torchvision cannot be imported here ({error})")


if __name__ == "__main__":
    main()
