"""Aligned sessions → a run folder: the adapter, its text-only twin, the split and the metrics.

    RUN/
    ├── config.json, adapter.safetensors   the checkpoint
    ├── run.json                           data, split, options
    ├── logs/metrics/                      metrics.jsonl and TensorBoard events
    ├── twin/                              the same training with no face at all
    └── fold_0/ …                          with --folds: such a run for each fold
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from natural_video_llm.checkpoint import BaseLLM, autocast, load_base_llm
from natural_video_llm.errors import UserError
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM, default_fusion_layers
from natural_video_llm.models.loss import next_token_loss
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.sessions.latents import load_session_latents
from natural_video_llm.tokenization import tokenizer_sha256
from natural_video_llm.training.dataset import (
    Batch,
    Example,
    FaceTrack,
    collate,
    epochs,
    fold_sessions,
    load_examples,
    split_sessions,
)
from natural_video_llm.training.metrics import MetricsLog
from natural_video_llm.training.options import TrainOptions

RUN_FILE = "run.json"
_GATE_RATE = 20  # a gate is one number that has far to go from zero; the weights behind it have not


@dataclass(frozen=True)
class Progress:
    """Where training is: which model, step of steps, losses in bits a token, seconds left for this model."""

    model: str
    step: int
    steps: int
    bits: float
    contrastive: float
    left_s: float


def train(options: TrainOptions, report: Callable[[Progress], None]) -> None:
    """Train the run (and its folds and twins) that `options` describe."""
    sessions = find_sessions(options.sessions)
    base = load_base_llm(options.llm)
    latents = load_session_latents(sessions[0], options.encoder)
    config = FusionConfig(
        base_llm=base.name,
        base_llm_sha256=base.sha256,
        encoder=latents.encoder,
        encoder_sha256=latents.encoder_sha256,
        latent_size=2 * latents.latents.shape[1],
        fusion_layers=default_fusion_layers(base.model.config.get_text_config().num_hidden_layers),
        window_s=options.window_s,
        lora_rank=options.lora_rank,
    )
    examples = load_examples(
        sessions,
        ChatFormat(base.tokenizer),
        tokenizer_sha256(base.tokenizer),
        options.encoder,
        config.neutral_memory_s,
        options.context_turns,
    )
    if options.folds:
        splits = fold_sessions(sessions, options.folds, options.seed)
        outs = [options.out / f"fold_{i}" for i in range(options.folds)]
    else:
        splits, outs = [split_sessions(sessions, options.test_share, options.seed)], [options.out]
    for out, (train_ids, test_ids) in zip(outs, splits, strict=True):
        _write_run_file(out, options, train_ids, test_ids)
        part = [e for e in examples if e.session_id in train_ids]
        if not part:
            raise UserError(f"{options.sessions}: no training session left after the split; lower --test-share")
        for name in ("face", "twin") if options.twin else ("face",):
            folder = out if name == "face" else out / "twin"
            _train_one(base, config, part, options, folder, sighted=name == "face", report=report)


def _train_one(
    base: BaseLLM,
    config: FusionConfig,
    examples: Sequence[Example],
    options: TrainOptions,
    out: Path,
    sighted: bool,
    report: Callable[[Progress], None],
) -> None:
    torch.manual_seed(options.seed)
    model = NaturalVideoLLM(base.model, config).to(base.model.device)
    try:
        model.temporal_encoder.basis.fit(_sample_latents(examples, options.seed))
        fit(model, examples, base.tokenizer.pad_token_id or 0, options, out, sighted, report)
    finally:
        model.detach()


def fit(
    model: NaturalVideoLLM,
    examples: Sequence[Example],
    pad_id: int,
    options: TrainOptions,
    out: Path,
    sighted: bool,
    report: Callable[[Progress], None],
) -> None:
    """Optimise the adapter and save it to `out`; an interrupt saves what there is before it goes on up."""
    optimiser, schedule = _optimiser(model, options)
    log = MetricsLog(out / "logs" / "metrics")
    batches = epochs(len(examples), options.batch_size, options.seed)
    rng = np.random.default_rng((options.seed, 1))
    started = time.monotonic()
    model.train()
    try:
        for step in range(1, options.steps + 1):
            chosen = [examples[i] for i in next(batches)]
            faces = [_training_face(e, model, options, sighted, rng) for e in chosen]
            batch = collate(chosen, faces, model.config.window_s, pad_id).to(model.absence.device)
            bits, contrastive = _step(model, batch, optimiser, schedule, options, step)
            spent_s = time.monotonic() - started
            log.write(step, bits_per_token=bits, contrastive=contrastive, learning_rate=schedule.get_last_lr()[0])
            left_s = spent_s / step * (options.steps - step)
            report(Progress("face" if sighted else "twin", step, options.steps, bits, contrastive, left_s))
    finally:
        log.close()
        model.eval()
        model.save_pretrained(out)


def _step(
    model: NaturalVideoLLM,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    options: TrainOptions,
    step: int,
) -> tuple[float, float]:
    """One optimiser step; returns the language loss in bits a token and the contrastive loss in nats."""
    with autocast(batch.ids.device):
        out = model(batch.ids, batch.query_times, batch.face, attention_mask=batch.mask, keep=batch.keep)
        language = next_token_loss(out.logits, batch.labels[batch.keep])
        contrastive = torch.zeros(())
        if options.contrastive_weight:
            contrastive = model.contrastive(out.text_hidden, batch.keep, out.encodings, batch.face, batch.in_reach)
        loss = language + options.contrastive_weight * contrastive
    if not torch.isfinite(loss):
        raise UserError(f"the loss became {loss.item()} at step {step}; lower --learning-rate and train again")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for _, p in model.trained_parameters()], 1.0)
    optimiser.step()
    schedule.step()
    return language.item() / math.log(2), float(contrastive)


def _training_face(
    example: Example, model: NaturalVideoLLM, options: TrainOptions, sighted: bool, rng: np.random.Generator
) -> FaceTrack:
    """The example's own face, moved a little in time, or withheld."""
    jitter_s = rng.uniform(-options.time_jitter_s, options.time_jitter_s)
    withheld = rng.random() < options.face_dropout
    face = example.seen(model.memory_s, example.track.later(jitter_s))
    return face.between(-math.inf, -math.inf) if withheld or not sighted else face


def _optimiser(
    model: NaturalVideoLLM, options: TrainOptions
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with warm-up over the first twentieth and cosine decay to zero."""
    gates = [p for name, p in model.trained_parameters() if name.endswith("_gate")]
    lora = [p for name, p in model.trained_parameters() if ".lora_" in name]
    special = {id(p) for p in gates + lora}
    rest = [p for _, p in model.trained_parameters() if id(p) not in special]
    rate, decay = options.learning_rate, options.weight_decay
    groups = [
        {"params": rest, "lr": rate, "weight_decay": decay},
        {"params": gates, "lr": _GATE_RATE * rate, "weight_decay": 0.0},
        {"params": lora, "lr": rate / 2, "weight_decay": decay},
    ]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], betas=(0.9, 0.98))
    warm = max(1, options.steps // 20)

    def scale(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, options.steps - warm)))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, scale)


def _sample_latents(examples: Sequence[Example], seed: int, limit: int = 20_000) -> torch.Tensor:
    """Frames with a face, at most `limit`, drawn evenly from the training sessions."""
    tracks = {id(e.track): e.track for e in examples}
    faces = np.concatenate([t.latents[t.present] for t in tracks.values()])
    if not len(faces):
        raise UserError("no face was found in any training video; look at the recordings, then extract again")
    rng = np.random.default_rng(seed)
    return torch.from_numpy(faces[rng.permutation(len(faces))[:limit]])


def _write_run_file(out: Path, options: TrainOptions, train_ids: set[str], test_ids: set[str]) -> None:
    own = replace(options, sessions=options.sessions.resolve(), out=out.resolve(), folds=0)
    record = {
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(own).items()},
        "train": sorted(train_ids),
        "test": sorted(test_ids),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / RUN_FILE).write_text(json.dumps(record, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); choose another --out") from error


