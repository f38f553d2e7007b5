"""Does a run that learned from sample speakers read real strangers?

python benchmarks/bench_strangers.py RUN CLIP [CLIP …]

For every second of each clip: the log-odds (in bits) between the glad and the consoling replies to the held-out
messages, as the face shown up to then moves them; then the mean over the first and the second half of the clip. The
text alone is subtracted, so 0 means that the face says nothing.
"""

import argparse
from pathlib import Path

import numpy as np

from natural_video_llm.checkpoint import load_run
from natural_video_llm.evaluation.eval import load_test_examples, pose_reply
from natural_video_llm.evaluation.evidence import Scorer
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.models.face import PersonNeutral
from natural_video_llm.preprocessing.encoders import make_encoder
from natural_video_llm.preprocessing.extract_video_latents import encode_segment
from natural_video_llm.sessions.candidates import FILE_NAME, read_candidates
from natural_video_llm.training.dataset import FaceTrack, no_face

GLAD, CONSOLING = "smile_comes", "mouth_droops"
STEP_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    arguments = parser.parse_args()
    model, tokenizer = load_run(arguments.run)
    examples, data = load_test_examples(arguments.run, model, tokenizer)
    candidates = read_candidates(data / FILE_NAME)
    chat = ChatFormat(tokenizer)
    by_message = {e.prompt: e for e in examples}
    posed = []
    for message, example in by_message.items():
        replies = {c.motion: c.reply for c in candidates[message].candidates}
        posed += [pose_reply(example, replies[motion], tokenizer, chat) for motion in (GLAD, CONSOLING)]
    scorer = Scorer(model, tokenizer.pad_token_id or 0)
    alone = scorer(posed, [no_face(e) for e in posed]).sums
    encoder = make_encoder(model.config.encoder, sha256=model.config.encoder_sha256)
    for clip in arguments.clips:
        latents, _ = encode_segment(clip, encoder)
        relative = PersonNeutral(model.config.neutral_memory_s).extend(
            latents.latents, latents.times, latents.present
        )
        track = FaceTrack(relative, latents.times, latents.present)
        moments = np.arange(latents.times[0] + STEP_S, latents.times[-1], STEP_S)
        odds = []
        for moment_s in moments:
            faces = []
            for e in posed:
                begins_s, ends_s = e.target_span_s
                # Held still from the moment on: a reply is quick, and the clip's next second is another moment's.
                faces.append(track.between(-np.inf, moment_s).later(begins_s - moment_s))
            moved = (scorer(posed, faces).sums - alone).reshape(-1, 2)
            odds.append(moved[:, 0] - moved[:, 1])
        print(f"{clip.name}: glad against consoling, bits, by second")
        print("  " + " ".join(f"{o.mean():+.1f}" for o in odds))
        half = moments < (latents.times[0] + latents.times[-1]) / 2
        first, second = np.mean([o for o, h in zip(odds, half) if h], 0), np.mean([o for o, h in zip(odds, half) if not h], 0)
        rose = np.mean(second > first)
        print(f"  first half {first.mean():+.2f}, second half {second.mean():+.2f}; rose for {rose:.0%} of {len(first)} messages")


if __name__ == "__main__":
    main()
