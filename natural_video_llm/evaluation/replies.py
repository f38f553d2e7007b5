"""Replies to one message under different faces, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from natural_video_llm.evaluation.conditions import moved_to
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.generate import generate_reply
from natural_video_llm.training.dataset import Example, FaceTrack, no_face

_SECONDS_A_TOKEN = 0.04


@dataclass(frozen=True)
class ReplyUnderFace:
    """What the model writes to `message` seeing a face, beside what was answered where that face was filmed."""

    message: str
    face: str
    answered_there: str
    reply: str
    moved_bits: float


def replies_under_faces(
    model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase, example: Example, faces: Sequence[Example]
) -> list[ReplyUnderFace]:
    """Greedy replies to the example's message with nobody in view and under each of `faces`."""
    shown = [("nobody in view", "", no_face(example))]
    shown += [(f"as {e.person} to {e.prompt!r}", e.reply, moved_to(example, e, model.memory_s)) for e in faces]
    return [
        ReplyUnderFace(example.prompt, name, answer, *_reply(model, tokenizer, example, track))
        for name, answer, track in shown
    ]


def _reply(
    model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase, example: Example, track: FaceTrack
) -> tuple[str, float]:
    chat = ChatFormat(tokenizer)
    first = int(np.flatnonzero(example.target)[0])
    prompt = TimedTokens(example.ids[:first].tolist(), example.times[:first].tolist())
    now_s = example.target_span_s[0]

    def look() -> tuple[float, Face]:
        nonlocal now_s
        now_s += _SECONDS_A_TOKEN
        seen = track.between(-np.inf, now_s)
        return now_s, Face(
            torch.from_numpy(seen.latents)[None],
            torch.from_numpy(seen.times)[None],
            torch.from_numpy(seen.present)[None],
        ).to(model.absence.device)

    tokens = list(generate_reply(model, prompt, look, chat.end_ids["assistant"]))
    moved = float(np.mean([t.moved_bits for t in tokens])) if tokens else 0.0
    return str(tokenizer.decode([t.id for t in tokens])).strip(), moved
