"""Sessions whose faces say which reply comes, or say nothing: what a verdict has to tell apart.

A person's face takes one of four positions (numbers made up, no video) while a message is written; the reply is one of
four. In true pairs the position decides which one, in random pairs nothing does. The text alone never tells.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.sessions.aligned import AlignedUtterance, write_aligned
from natural_video_llm.sessions.events import SessionStart, VideoSegmentEnd
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.sessions.latents import Latents, latents_file, save_latents
from natural_video_llm.tokenization import tokenizer_sha256
from natural_video_llm.training.options import TrainOptions

# A kind of encoder that gives one latent a frame; it is never run.
ENCODER = "vit:planted"
MESSAGES = ("How was it?", "And then?", "I see.", "Really?", "That is all.", "Go on.")
REPLIES = ("Good to hear that.", "I am so sorry.", "Tell me more now.", "What a surprise!")
_RATE_HZ, _TURN_S, _WINDOW_S = 5, 1.0, 1.5
_LATENT_SIZE = 8
_OWN, _MOVED, _NOISE = 1.0, 1.0, 0.2


def make_tiny_llm(folder: Path, tokenizer_of: str) -> Path:
    """A random LLM of two layers with the real tokenizer."""
    tokenizer = load_tokenizer(tokenizer_of)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.3, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_sessions(
    folder: Path, tokenizer: PreTrainedTokenizerBase, true_pairs: bool, seed: int, people: int, turns: int
) -> None:
    """A session of so many turns for each of so many people."""
    rng = np.random.default_rng((seed, true_pairs))
    positions = np.random.default_rng(0).normal(size=(len(REPLIES), _LATENT_SIZE))
    for number in range(people):
        shown = rng.integers(len(REPLIES), size=turns)
        said = shown if true_pairs else rng.integers(len(REPLIES), size=turns)
        name = f"p{number:02d}"
        start = SessionStart(
            session_id=name, started_utc="2026-01-01T00:00:00Z", filmed_speaker="a", person=name, consent="made up"
        )
        times = np.arange(round(2 * turns * _TURN_S * _RATE_HZ)) / _RATE_HZ
        with SessionWriter(folder / name, start) as writer:
            writer.append(VideoSegmentEnd(t=float(times[-1]), file="video/000000.mp4", frames=len(times)))
        session = Session(folder / name)
        own = _OWN * rng.normal(size=_LATENT_SIZE)
        moved = _MOVED * positions[shown[(times // (2 * _TURN_S)).astype(int)]]
        faces = own + moved + _NOISE * rng.normal(size=(len(times), _LATENT_SIZE))
        latents = Latents(faces.astype(np.float16), times, np.ones(len(times), bool), ENCODER, "0" * 64, "made up")
        save_latents(latents_file(session, ENCODER, "video/000000.mp4"), latents)
        write_aligned(session.aligned_file, _talk(said, rng, tokenizer))


def _talk(said: np.ndarray, rng: np.random.Generator, tokenizer: PreTrainedTokenizerBase) -> list[AlignedUtterance]:
    turns = [turn for k in said for turn in (("a", str(rng.choice(MESSAGES))), ("b", REPLIES[k]))]
    sha256 = tokenizer_sha256(tokenizer)
    utterances = []
    for place, (speaker, text) in enumerate(turns):
        cut = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = np.linspace(place * _TURN_S + 0.2, (place + 1) * _TURN_S, len(cut["input_ids"])).tolist()
        utterances.append(
            AlignedUtterance(
                speaker=speaker,
                text=text,
                timing="char",
                t_start=place * _TURN_S,
                t_end=(place + 1) * _TURN_S,
                tokenizer="tiny",
                tokenizer_sha256=sha256,
                token_ids=cut["input_ids"],
                token_spans=cut["offset_mapping"],
                token_t_start=ends,
                token_t_end=ends,
                encoder=ENCODER,
                latents=(0, 0),
                window_s=_WINDOW_S,
            )
        )
    return utterances


def train_options(sessions: Path, out: Path, llm: Path, seed: int) -> TrainOptions:
    """Two folds: everybody is tested by a model that has never seen them."""
    return TrainOptions(
        sessions,
        out,
        llm=str(llm),
        encoder=ENCODER,
        match_steps=40,
        steps=80,
        batch_size=8,
        learning_rate=5e-3,
        window_s=_WINDOW_S,
        context_turns=0,
        temporal_encoder="mean",
        own_text_weight=0.0,
        folds=2,
        twin=False,
        seed=seed,
    )
