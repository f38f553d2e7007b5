"""How much an adapter changes the LLM's language where the face has nothing to say.

python benchmarks/bench_text_intact.py TEXT_FILE CLIP [--run RUN]

Perplexity of a text file in stretches of 256 tokens: by the base LLM (no face at all), with nobody in view, and with
the clip's face in view all along, its time spread over each stretch.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from natural_video_llm.assets import STARTER
from natural_video_llm.checkpoint import autocast, load_run
from natural_video_llm.models.face import Face, PersonNeutral
from natural_video_llm.models.loss import token_log_probs
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.extract_video_latents import encode_segment

STRETCH = 256


def main() -> None:
    """Prints a line for each of the three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--run", type=Path, default=Path(STARTER))
    arguments = parser.parse_args()
    model, tokenizer = load_run(arguments.run)
    ids = torch.tensor(tokenizer(arguments.text.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"])
    stretches = ids[: len(ids) // STRETCH * STRETCH].view(-1, STRETCH)
    seen = face_of(arguments.clip, model.config.encoder, model.config.neutral_memory_s)
    times = torch.linspace(float(seen.times[0, 0]), float(seen.times[0, -1]), STRETCH, dtype=torch.float64)[None]
    faces = {"base LLM": None, "nobody in view": Face.absent(1, seen.latents.shape[-1]), arguments.clip.name: seen}
    base = math.nan
    for name, face in faces.items():
        found = nats(model, stretches, times, face)
        base = found if face is None else base
        print(f"{name}: perplexity {math.exp(found):.2f}, {math.exp(found - base):.4f} of the base LLM's")


def face_of(clip: Path, encoder: str, neutral_memory_s: float) -> Face:
    """The clip's face, a batch of one."""
    found, _ = encode_segment(clip, make_encoder(encoder))
    relative = PersonNeutral(neutral_memory_s).extend(found.latents, found.times, found.present)
    return Face(*(torch.from_numpy(np.array(part))[None] for part in (relative, found.times, found.present)))


@torch.no_grad()
def nats(model: torch.nn.Module, stretches: torch.Tensor, times: torch.Tensor, face: Face | None) -> float:
    """Mean cost of a token."""
    costs = []
    for stretch in stretches:
        with autocast(stretch.device):
            logits = model(stretch[None], times, face).logits[0, :-1]
        costs.append(-token_log_probs(logits, stretch[1:]).mean().item())
    return float(np.mean(costs))


if __name__ == "__main__":
    main()
