"""The ways from tokens to logits beside the bare LLM: time a token, and how far from float32 throughout.

    python benchmarks/bench_decoder.py TEXT_FILE CLIP [--run RUN]

A hundred tokens of the text are fed one by one, with the clip's face in view, on one thread, the paths in turns.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from bench_text_intact import face_of
from torch import Tensor

from natural_video_llm.assets import STARTER
from natural_video_llm.checkpoint import load_run
from natural_video_llm.models.decoder import Decoder, TransformersDecoder
from natural_video_llm.models.face import SeenFace
from natural_video_llm.models.lean_decoder import LeanDecoder, LeanWeights
from natural_video_llm.models.lean_linear import WEIGHTS

PROMPT, TOKENS, ROUNDS = 60, 100, 3


def read(decoder: Decoder, ids: list[int], seen: SeenFace) -> tuple[Tensor, float]:
    """Log-probabilities with and without the face [TOKENS, 2, vocabulary], and the median time of a token in ms."""
    now_s = float(seen.times[0, -1])
    decoder.feed(ids[:PROMPT], [now_s] * PROMPT, seen)
    found, took = [], []
    for token in ids[PROMPT:]:
        began = time.perf_counter()
        found.append(decoder.feed([token], [now_s], seen))
        took.append(time.perf_counter() - began)
    return torch.stack(found), 1000 * median(took)


@torch.no_grad()
def bare_token_ms(llm: torch.nn.Module, ids: list[int]) -> float:
    """The LLM by itself; the adapter's hooks do nothing."""
    cache, took = llm(torch.tensor([ids[:PROMPT]]), use_cache=True, logits_to_keep=1).past_key_values, []
    for token in ids[PROMPT:]:
        began = time.perf_counter()
        cache = llm(torch.tensor([[token]]), past_key_values=cache, use_cache=True).past_key_values
        took.append(time.perf_counter() - began)
    return 1000 * median(took)


def bits(exact: Tensor, found: Tensor) -> float:
    """Divergence of log-probabilities [..., vocabulary], the mean over all."""
    return float((exact.exp() * (exact - found)).sum(-1).mean()) / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--run", type=Path, default=Path(STARTER))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_run(arguments.run)
    ids = tokenizer(arguments.text.read_text(encoding="utf-8"))["input_ids"][: PROMPT + TOKENS]
    with torch.no_grad():
        seen = model.encode(face_of(arguments.clip, model.config.encoder, model.config.neutral_memory_s))
    paths: dict[str, Callable[[], Decoder]] = {"two rows, transformers": lambda: TransformersDecoder(model)}
    for name in WEIGHTS:
        arranged = LeanWeights(model, PROMPT + TOKENS, name)
        paths[f"lean, {name}"] = lambda arranged=arranged: LeanDecoder(arranged)  # type: ignore[misc]
    found: dict[str, Tensor] = {}
    ratios: dict[str, list[float]] = {name: [] for name in paths}
    bare_ms = []
    for _ in range(ROUNDS):
        bare_ms.append(bare_token_ms(model.llm, ids))
        for name, make in paths.items():
            found[name], token_ms = read(make(), ids, seen)
            ratios[name].append(token_ms / bare_ms[-1])
    exact, _ = read(TransformersDecoder(model.float()), ids, seen)
    print(f"{'bare LLM, transformers':24s} {median(bare_ms):5.1f} ms")
    for name, log_probs in found.items():
        print(f"{name:24s} {median(ratios[name]):5.2f} of it; {bits(exact, log_probs):.5f} bits from float32")
    print(f"for scale: the face moves these tokens by {bits(exact[:, 0], exact[:, 1]):.3f} bits")


if __name__ == "__main__":
    main()
