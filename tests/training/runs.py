"""Small data and short runs, shared by the tests of training."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from test_dataset import make_session

from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.sessions.latents import latents_file, load_latents, save_latents
from natural_video_llm.training.options import TrainOptions

TALK = [("How was it?", "Good to hear that."), ("And then?", "I am sorry."), ("I see.", "Tell me more.")]


def make_data(folder: Path, chat: ChatFormat, tested: Sequence[str] = ()) -> None:
    """Three people, each in two sessions of three exchanges; `tested` marks sessions, and so the others."""
    for number in range(6):
        turns = [turn for said, answer in TALK for turn in (("ann", said), ("bob", answer))]
        name = f"s{number}"
        split = ("test" if name in tested else "train") if tested else None
        make_session(folder / name, chat, turns, person=f"p{number // 2}", split=split)
    show_other_faces(folder, seed=1)


def show_other_faces(folder: Path, seed: int) -> None:
    """New random latents for every session, one after the other."""
    rng = np.random.default_rng(seed)
    for session in find_sessions(folder):
        path = latents_file(session, "points", "video/000000.mp4")
        old = load_latents(path)
        save_latents(path, replace(old, latents=rng.normal(size=old.latents.shape).astype(np.float16)))


def options(sessions: Path, out: Path, llm: Path, **changed: object) -> TrainOptions:
    small = {"match_steps": 2, "steps": 2, "batch_size": 4, "encoder": "points", "llm": str(llm), "test_share": 0.34}
    small["own_text_weight"] = 0.0  # sampling it takes seconds
    return TrainOptions(sessions=sessions, out=out, **{**small, **changed})


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "logs/metrics/metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter.safetensors")


def different(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> set[str]:
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}
