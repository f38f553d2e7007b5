"""The live engine beside the bare base LLM in transformers: times per token, to the first token, from face to word.

Both are timed in turns in one process, so that what else the machine does weighs on both. With two clips, also one
reply whose face changes midway, in words.

    python benchmarks/bench_live.py [RUN] [--weights int4] [--clips CLIP_A CLIP_B]
"""

import argparse
import threading
import time
from contextlib import closing
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from skimage.data import astronaut

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.inference.conversation import Conversation, Sampling
from natural_video_llm.inference.engine import Engine
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.video import read_frames

MESSAGES = ("I talked to my sister about the journey.", "We had not met for a long time.", "It rained all day.")
RATE_HZ, TOKENS, IDLE_S = 15.0, 40, 10.0
GREEDY = Sampling(temperature=0.0, max_tokens=TOKENS)


class Video(threading.Thread):
    """Geometry of a real face that trembles, RATE_HZ times a second, until closed."""

    def __init__(self, conversation: Conversation):
        super().__init__(daemon=True)
        found = FaceLandmarker(face_landmarker_file())(np.ascontiguousarray(astronaut()[:256, 90:346]))
        assert found is not None
        self._points, self._conversation, self._over = found.points, conversation, threading.Event()
        self.start()

    def run(self) -> None:
        rng = np.random.default_rng(0)
        while not self._over.wait(1 / RATE_HZ):
            points = self._points + rng.normal(scale=0.5, size=self._points.shape)
            self._conversation.see_points(self._conversation.clock.now_s(), points, 256, 256)

    def close(self) -> None:
        self._over.set()
        self.join()


@torch.no_grad()
def base_tokens_ms(engine: Engine, context: int) -> list[float]:
    """Each decoding step of the LLM by itself behind so many tokens of context; the adapter's hooks do nothing."""
    llm = engine.model.llm
    ids = torch.arange(100, 100 + context)[None].to(llm.device)
    cache, took = llm(ids, use_cache=True, logits_to_keep=1).past_key_values, []
    for token in range(TOKENS):
        began = time.perf_counter()
        out = llm(torch.tensor([[100 + token]], device=llm.device), past_key_values=cache, use_cache=True)
        int(out.logits[0, -1].argmax())
        took.append(1000 * (time.perf_counter() - began))
    return took


def round_of(engine: Engine, message: str) -> dict[str, float]:
    """One conversation: typed, answered; and the bare LLM right after it."""
    with closing(engine.open(SessionClock(), GREEDY)) as conversation, closing(Video(conversation)):
        time.sleep(1.5)
        for end in range(4, len(message) + 1, 4):
            conversation.draft(message[:end])
        conversation.draft(message)
        conversation.settle()
        for _ in conversation.reply(message):
            pass
        reply, stages = conversation.last_reply, conversation.stages
        assert reply is not None
        assert reply.first_token_s is not None
        base = median(base_tokens_ms(engine, reply.input_tokens))
        return {
            "base token": base,
            "token": 1000 * median(reply.token_s),
            "first token": 1000 * reply.first_token_s,
            "newest face to token": 1000 * median(stages.last_s("face_to_token")) - 500 / RATE_HZ,
        }


def idle_cores(engine: Engine) -> float:
    """Seconds of a core a second of video while nothing is written."""
    with closing(engine.open()) as conversation, closing(Video(conversation)):
        time.sleep(1)
        began = time.process_time()
        time.sleep(IDLE_S)
        return (time.process_time() - began) / IDLE_S


def frame_to_latent_ms(engine: Engine) -> float:
    picture = cv2.resize(np.ascontiguousarray(astronaut()[:256, 90:346]), (640, 480))
    with closing(engine.open()) as conversation:
        for _ in range(60):
            conversation.see(conversation.clock.now_s(), picture)
            conversation.settle()
            time.sleep(0.02)
        return 1000 * median(conversation.stages.last_s("frame_to_latent")[5:])


def bent_midway(engine: Engine, clips: list[Path], message: str, change_at: int) -> list[str]:
    """The greedy reply under the first clip's face, and the one whose face becomes the second clip's midway."""
    replies = []
    for later in clips:
        clock = _StepClock()
        frames = {clip: [rgb for _, rgb in read_frames(clip)] for clip in {clips[0], later}}
        with closing(engine.open(clock, GREEDY)) as conversation:
            _play(conversation, clock, frames[clips[0]][-45:])
            text = ""
            for number, piece in enumerate(conversation.reply(message)):
                text += piece.text
                if number == change_at:
                    text += " | "
                    _play(conversation, clock, frames[later][-45:])
            replies.append(text)
    return replies


class _StepClock(SessionClock):
    time_s = 0.0

    def now_s(self) -> float:
        return self.time_s


def _play(conversation: Conversation, clock: _StepClock, pictures: list[np.ndarray]) -> None:
    for rgb in pictures:
        clock.time_s += 1 / RATE_HZ
        conversation.see(clock.time_s, rgb)
        conversation.settle()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=Path("starter"))
    parser.add_argument("--weights", default="native")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", nargs=2, type=Path)
    args = parser.parse_args()
    with Engine.load(args.run, weights=args.weights) as engine:
        if args.clips:
            for kept in bent_midway(engine, args.clips, MESSAGES[0], change_at=5):
                print(kept)
        round_of(engine, MESSAGES[0])
        rounds = [round_of(engine, MESSAGES[n % len(MESSAGES)]) for n in range(args.rounds)]
        figures = {name: median(r[name] for r in rounds) for name in rounds[0]}
        for name, ms in figures.items():
            ratio = median(r[name] / r["base token"] for r in rounds)
            print(f"{name:22s} {ms:7.1f} ms  {ratio:5.2f} of the base LLM's token")
        print(f"{'first token':22s} {median(r['first token'] / r['token'] for r in rounds):7.2f} of one's own token")
        print(f"{'frame to latent':22s} {frame_to_latent_ms(engine):7.1f} ms (640 x 480, median)")
        print(f"{'video without a reply':22s} {idle_cores(engine):7.3f} s of a core a second at {RATE_HZ:.0f} Hz")


if __name__ == "__main__":
    main()
