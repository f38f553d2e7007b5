"""The options of `nvllm train`, apart from the code that needs PyTorch, so that --help answers at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from natural_video_llm.assets import DEFAULT_LLM


@dataclass(frozen=True)
class TrainOptions:
    """What to train, on what, for how long.

    Args:
        sessions: a session folder or a folder of them, extracted and aligned.
        out: the run folder to write.
        config: a TOML file with other defaults for these options, by their names here; what is given on the command
            line still counts.
        resume: go on with the run in --out where its last checkpoint was written, with the same options.
        llm: base LLM: the default's name, a folder, or a Hub id.
        encoder: whose latents to read.
        match_steps: optimiser steps before that in which the temporal encoder alone learns which face belongs to which
            words; a tenth of the cost of a step through the LLM.
        match_rate: their peak learning rate.
        steps: optimiser steps through the LLM.
        batch_size: conversations a step; four times as many in matching.
        micro_batch_size: how many of them go through the LLM at a time, in each process; less takes less memory and
            comes to the same. 0 for all.
        learning_rate: peak, for the adapter's weights.
        weight_decay: AdamW's.
        clip_norm: gradients longer than this are shortened to it.
        precision: of the LLM and of what is computed; the adapter's weights are kept in float32. auto takes bf16 where
            the machine computes it.
        contrastive_weight: weight of the utterance-face contrastive loss; 0 leaves it out.
        text_dropout: in that loss, share of each word's numbers that are dropped.
        own_text_weight: weight of keeping the LLM's own text as likely as it was, whatever the face does; 0 leaves it
            out.
        face_dropout: share of training examples whose face is withheld.
        face_noise: noise on the faces while training, in standard deviations of a component of movement.
        time_jitter_s: each example's face is moved by up to this much either way.
        window_s: how far back a token sees, in seconds; the temporal encoder's layers look a third of that back.
        context_turns: earlier turns shown before the last message.
        temporal_encoder: what makes encodings of single frames into those of a face that moves.
        reaction_weight: weight of the loss of predicting the face 0.5, 1 and 2 s ahead; 0 leaves it out.
        fusion_layers: the LLM's layers before which a block looks at the face, counted from 0; every fourth of the
            upper half by default. The layers below the first one are run once a text.
        fusion_every: every n-th of the upper half instead.
        lora_rank: LoRA on the LLM's upper layers; 0 keeps it frozen.
        test_share: share of people held out (of sessions where there is one person), unless the data marks its own; 0
            trains on all and leaves nothing to evaluate with.
        folds: train this many models, each with another part held out; 0 for one split.
        twin: also train the text-only twin that `nvllm eval` compares with.
        validate_every: steps after which to look at training people who are left out for it; the weights that did best
            on them are kept. 0 leaves nobody out and keeps the last weights.
        validation_share: share of the training people left out for that.
        patience: stop after this many such looks in a row without a gain.
        save_every: steps after which to write a checkpoint, to resume from.
        text_cache_mb: memory for what the LLM's lower layers make of the texts, which is computed once; 0 computes it
            anew every time.
        tracker: also send the metrics to Weights & Biases or trackio; nothing is sent unless asked for.
        seed: of the split, the initial weights and the order of the data.
    """

    sessions: Positional[Path]
    out: Path
    config: Path | None = None
    resume: bool = False
    llm: str = DEFAULT_LLM
    encoder: str = "face-geometry"
    match_steps: int = 100
    match_rate: float = 2e-3
    steps: int = 150
    batch_size: int = 16
    micro_batch_size: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    contrastive_weight: float = 0.1
    text_dropout: float = 0.5
    own_text_weight: float = 0.3
    face_dropout: float = 0.15
    face_noise: float = 0.3
    time_jitter_s: float = 0.04
    window_s: float = 3.0
    context_turns: int = 2
    temporal_encoder: Literal["mean", "max", "attention", "gru", "transformer"] = "transformer"
    reaction_weight: float = 0.0
    fusion_layers: tuple[int, ...] = ()
    fusion_every: int = 4
    lora_rank: int = 0
    test_share: float = 0.25
    folds: int = 0
    twin: bool = True
    validate_every: int = 0
    validation_share: float = 0.15
    patience: int = 3
    save_every: int = 50
    text_cache_mb: int = 2000
    tracker: Literal["none", "wandb", "trackio"] = "none"
    seed: int = 0


# By range (`number_ranges.check_numbers`), all options that are numbers.
NUMBERS = {
    "0 or more": (
        *("match_steps", "steps", "micro_batch_size", "context_turns", "validate_every", "text_cache_mb", "lora_rank"),
        *("contrastive_weight", "own_text_weight", "reaction_weight", "weight_decay", "face_noise", "time_jitter_s"),
        "seed",
    ),
    "1 or more": ("batch_size", "fusion_every", "patience", "save_every"),
    "above 0": ("match_rate", "learning_rate", "clip_norm", "window_s"),
    "0 or more and below 1": ("test_share", "face_dropout", "text_dropout"),
    "above 0 and below 1": ("validation_share",),
    "0, or 2 or more": ("folds",),
}
