"""Does a run that learned from sample speakers read real strangers?

python benchmarks/bench_strangers.py RUN CLIP [CLIP …]

For every second of each clip: the log-odds (in bits) between the glad and the consoling replies to the held-out
messages, as the face shown up to then moves them; then their means over the first and the second half of the clip. What
the text alone says is subtracted, so 0 means that the face says nothing.
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
from natural_video_llm.training.dataset import Example, FaceTrack, no_face

GLAD, CONSOLING = "smile_comes", "mouth_droops"
STEP_S = 1.0


def main() -> None:
    """Prints two lines a clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    arguments = parser.parse_args()
    model, tokenizer = load_run(arguments.run)
    examples, data = load_test_examples(arguments.run, model, tokenizer)
    candidates, chat = read_candidates(data / FILE_NAME), ChatFormat(tokenizer)
    posed = []
    for message, example in {e.prompt: e for e in examples}.items():
        replies = {c.motion: c.reply for c in candidates[message].candidates}
        posed += [pose_reply(example, replies[motion], tokenizer, chat) for motion in (GLAD, CONSOLING)]
    scorer = Scorer(model, tokenizer.pad_token_id or 0)
    encoder = make_encoder(model.config.encoder, sha256=model.config.encoder_sha256)
    for clip in arguments.clips:
        latents, _ = encode_segment(clip, encoder)
        relative = PersonNeutral(model.config.neutral_memory_s).extend(latents.latents, latents.times, latents.present)
        track = FaceTrack(relative, latents.times, latents.present)
        moments_s = np.arange(track.times[0] + STEP_S, track.times[-1], STEP_S)
        _report(clip.name, log_odds(scorer, posed, track, moments_s))


def log_odds(scorer: Scorer, posed: list[Example], track: FaceTrack, moments_s: np.ndarray) -> np.ndarray:
    """[moments, messages] bits by which the face up to each moment favours the first of two replies; `posed` holds the
    two replies of each message one after the other."""
    alone = scorer(posed, [no_face(e) for e in posed]).sums
    odds = []
    for moment_s in moments_s:
        # Nothing is shown after the moment: the reply is about what led to it.
        seen = track.between(-np.inf, moment_s)
        moved = scorer(posed, [seen.later(e.target_span_s[0] - moment_s) for e in posed]).sums - alone
        odds.append(moved[0::2] - moved[1::2])
    return np.array(odds)


def _report(clip: str, odds: np.ndarray) -> None:
    first, second = (half.mean(0) for half in np.array_split(odds, 2))
    print(f"{clip}: glad against consoling, bits, by second: {' '.join(f'{o:+.1f}' for o in odds.mean(1))}")
    print(
        f"  first half {first.mean():+.2f}, second half {second.mean():+.2f}; "
        f"rose for {np.mean(second > first):.0%} of {len(first)} messages"
    )


if __name__ == "__main__":
    main()
