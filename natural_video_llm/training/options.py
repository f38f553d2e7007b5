"""The options of `nvllm train`, apart from the code that needs PyTorch, so that --help answers at once."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from natural_video_llm.assets import DEFAULT_LLM


@dataclass(frozen=True)
class TrainOptions:
    """What to train, on what, for how long.

    Args:
        sessions: a session folder or a folder of them, extracted and aligned.
        out: the run folder to write.
        llm: base LLM: the default's name, a folder, or a Hub id.
        encoder: whose latents to read.
        match_steps: optimiser steps before that in which the temporal encoder alone learns which face belongs to which
            words; a tenth of the cost of a step through the LLM.
        match_rate: their peak learning rate.
        steps: optimiser steps through the LLM.
        batch_size: conversations a step; four times as many in matching.
        learning_rate: peak, for the adapter's weights.
        weight_decay: AdamW's.
        contrastive_weight: weight of the utterance-face contrastive loss; 0 leaves it out.
        face_dropout: share of training examples whose face is withheld.
        face_noise: noise on the faces while training, in standard deviations of a component of movement.
        time_jitter_s: each example's face is moved by up to this much either way.
        window_s: how far back a token sees, in seconds; the temporal encoder's layers look a third of that back.
        context_turns: earlier turns shown before the last message.
        lora_rank: LoRA on the LLM's upper layers; 0 keeps it frozen.
        test_share: share of people held out (of sessions where there is one person), unless the data marks its own.
        folds: train this many models, each with another part held out; 0 for one split.
        twin: also train the text-only twin that `nvllm eval` compares with.
        seed: of the split, the initial weights and the order of the data.
    """

    sessions: Positional[Path]
    out: Path
    llm: str = DEFAULT_LLM
    encoder: str = "face-geometry"
    match_steps: int = 100
    match_rate: float = 2e-3
    steps: int = 150
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    contrastive_weight: float = 0.1
    face_dropout: float = 0.15
    face_noise: float = 0.3
    time_jitter_s: float = 0.04
    window_s: float = 3.0
    context_turns: int = 2
    lora_rank: int = 0
    test_share: float = 0.25
    folds: int = 0
    twin: bool = True
    seed: int = 0
