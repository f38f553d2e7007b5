"""Does an adapter that learned from sample speakers read real strangers?

python benchmarks/bench_strangers.py CLIP [CLIP …] [--run RUN]

For every second of each clip: the log-odds (in bits) between the glad and the consoling replies to the sample corpus's
held-out messages, as the face shown up to then moves them; then their means over the first and the second half of the
clip. What the text alone says is subtracted, so 0 means that the face says nothing.
"""

import argparse
from pathlib import Path

import numpy as np

from natural_video_llm.assets import STARTER
from natural_video_llm.capture.sample_corpus import load_corpus
from natural_video_llm.checkpoint import load_run
from natural_video_llm.evaluation.clip_odds import reply_odds
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.extract_video_latents import encode_segment

GLAD, CONSOLING = "smile_comes", "mouth_droops"
HELD_OUT_MESSAGES = 30  # as `nvllm sample` holds out by default


def main() -> None:
    """Prints two lines a clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--run", type=Path, default=Path(STARTER))
    parser.add_argument("--step-s", type=float, default=1.0)
    arguments = parser.parse_args()
    model, tokenizer = load_run(arguments.run)
    choices = [(c.message, c.replies[GLAD], c.replies[CONSOLING]) for c in load_corpus()[-HELD_OUT_MESSAGES:]]
    encoder = make_encoder(model.config.encoder, sha256=model.config.encoder_sha256)
    for clip in arguments.clips:
        latents, _ = encode_segment(clip, encoder)
        moments_s = np.arange(latents.times[0] + arguments.step_s, latents.times[-1] + 0.02, arguments.step_s)
        odds = reply_odds(model, tokenizer, latents, choices, moments_s)
        first, second = (half.mean(0) for half in np.array_split(odds, 2))
        print(f"{clip.name}: glad against consoling, bits: {' '.join(f'{o:+.1f}' for o in odds.mean(1))}")
        print(
            f"  first half {first.mean():+.2f}, second half {second.mean():+.2f}; "
            f"rose for {np.mean(second > first):.0%} of {len(first)} messages"
        )


if __name__ == "__main__":
    main()
