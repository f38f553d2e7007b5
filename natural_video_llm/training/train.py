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
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from natural_video_llm.checkpoint import BaseLLM, autocast, load_base_llm
from natural_video_llm.errors import UserError
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM, default_fusion_layers
from natural_video_llm.models.loss import next_token_loss
from natural_video_llm.preprocessing.encoders import mirror_of, parse_encoder
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.sessions.latents import load_session_latents
from natural_video_llm.sessions.split import fold_sessions, split_sessions
from natural_video_llm.tokenization import tokenizer_sha256
from natural_video_llm.training.dataset import (
    Example,
    FaceTrack,
    collate,
    epochs,
    load_examples,
    no_face,
)
from natural_video_llm.training.metrics import MetricsLog
from natural_video_llm.training.options import TrainOptions
from natural_video_llm.training.read_texts import ReadTexts

RUN_FILE = "run.json"
_GATE_RATE = 20  # a gate is one number that has far to go from zero; the weights behind it have not
_MATCHED_RATE = 0.1  # what matching has taught is to be kept while the LLM learns to use it


@dataclass(frozen=True)
class Progress:
    """Where training is: what is being trained, step of steps, loss in bits (a token; a pair while matching), seconds
    left for this part."""

    part: str
    step: int
    steps: int
    bits: float
    left_s: float


Report = Callable[[Progress], None]


def train(options: TrainOptions, report: Report) -> None:
    """Train the run (and its folds and twins) that `options` describe."""
    options = replace(options, encoder=str(parse_encoder(options.encoder)))
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
        reach_s=options.window_s / 3,
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
    report: Report,
) -> None:
    """Train one model; an interrupt saves what there is before it goes on up."""
    torch.manual_seed(options.seed)
    model = NaturalVideoLLM(base.model, config).to(base.model.device)
    log = MetricsLog(out / "logs" / "metrics")
    model.temporal_encoder.training_noise = options.face_noise
    trainer = Trainer(model, examples, base.tokenizer.pad_token_id or 0, options, log, report)
    try:
        model.temporal_encoder.basis.fit(_sample_latents(examples, options.seed))
        if sighted and options.contrastive_weight and options.match_steps:
            trainer.match()
        trainer.fit(sighted)
    except KeyboardInterrupt:
        model.save_pretrained(out)
        raise
    else:
        model.save_pretrained(out)
    finally:
        log.close()
        model.detach()


class Trainer:
    """Optimises one adapter on one set of examples."""

    def __init__(
        self,
        model: NaturalVideoLLM,
        examples: Sequence[Example],
        pad_id: int,
        options: TrainOptions,
        log: MetricsLog,
        report: Report,
    ):
        self.model, self.examples, self.options = model, examples, options
        self._pad_id, self._log, self._report = pad_id, log, report
        self._read = ReadTexts(model, pad_id)
        self._is_matched = False
        self._mirror = mirror_of(model.config.encoder)
        self._faces = np.random.default_rng((options.seed, 1))

    def match(self) -> None:
        """Teach the temporal encoder which face belongs to which words, by the contrastive loss alone."""
        options, model = self.options, self.model
        parameters = [*model.temporal_encoder.parameters(), *model.contrastive.parameters()]
        optimiser = torch.optim.AdamW(parameters, options.match_rate, (0.9, 0.98), weight_decay=options.weight_decay)
        memory_s = model.config.window_s + model.temporal_encoder.memory_s

        def step(chosen: list[Example]) -> tuple[Tensor, dict[str, float]]:
            faces = []
            for example in chosen:
                first_s, last_s = example.target_span_s
                faces.append(self._varied(example.track.between(first_s - memory_s, last_s)))
            batch = collate(chosen, faces, self._pad_id).to(model.absence.device)
            loss = model.match(batch.labels, batch.pieces, batch.query_times, model.encode(batch.face))
            return loss, {"contrastive": loss.item()}

        self._optimise("matching faces and words", optimiser, options.match_steps, 4 * options.batch_size, step)
        model.look_as_matched()
        self._is_matched = True

    def fit(self, sighted: bool) -> None:
        """Teach the adapter the words that came next, with the face or, for the twin, without."""
        options, model = self.options, self.model

        def step(chosen: list[Example]) -> tuple[Tensor, dict[str, float]]:
            faces = [self._training_face(e, sighted) for e in chosen]
            batch = collate(chosen, faces, self._pad_id).to(model.absence.device)
            out = model(
                batch.ids,
                batch.query_times,
                batch.face,
                text_hidden=self._read(chosen),
                attention_mask=batch.mask,
                keep=batch.keep,
            )
            language = next_token_loss(out.logits, batch.labels[batch.keep])
            figures = {"bits_per_token": language.item() / math.log(2)}
            if not (sighted and options.contrastive_weight):
                return language, figures
            contrastive = model.match(batch.labels, batch.pieces, batch.query_times, out.face)
            return language + options.contrastive_weight * contrastive, figures | {"contrastive": contrastive.item()}

        name = "model" if sighted else "text-only twin"
        self._optimise(name, _optimiser(model, options, self._is_matched), options.steps, options.batch_size, step)

    def _optimise(
        self,
        part: str,
        optimiser: torch.optim.Optimizer,
        steps: int,
        batch_size: int,
        step: Callable[[list[Example]], tuple[Tensor, dict[str, float]]],
    ) -> None:
        schedule = _warm_up_and_decay(optimiser, steps)
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        batches = epochs(len(self.examples), batch_size, self.options.seed)
        started = time.monotonic()
        self.model.train()
        for number in range(1, steps + 1):
            with autocast(self.model.absence.device):
                loss, figures = step([self.examples[i] for i in next(batches)])
            if not torch.isfinite(loss):
                raise UserError(f"{part}: the loss became {loss.item()} at step {number}; lower its rate of learning")
            optimiser.zero_grad(set_to_none=True)
            if loss.requires_grad:
                loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            self._log.write(part, number, learning_rate=float(schedule.get_last_lr()[0]), **figures)
            left_s = (time.monotonic() - started) / number * (steps - number)
            bits = figures.get("bits_per_token", loss.item() / math.log(2))
            self._report(Progress(part, number, steps, bits, left_s))

    def _training_face(self, example: Example, sighted: bool) -> FaceTrack:
        """The example's own face, varied, or withheld."""
        withheld = self._faces.random() < self.options.face_dropout
        return no_face(example) if withheld or not sighted else self._varied(example.seen(self.model.memory_s))

    def _varied(self, face: FaceTrack) -> FaceTrack:
        """The same face a little earlier or later, and as often as not seen in a mirror."""
        limit_s = self.options.time_jitter_s
        face = face.later(self._faces.uniform(-limit_s, limit_s))
        return face.mirrored(self._mirror) if self._mirror and self._faces.random() < 0.5 else face


def _optimiser(model: NaturalVideoLLM, options: TrainOptions, is_matched: bool) -> torch.optim.Optimizer:
    rate, decay = options.learning_rate, options.weight_decay
    groups: dict[str, dict[str, Any]] = {
        "gate": {"lr": _GATE_RATE * rate, "weight_decay": 0.0},
        "lora": {"lr": rate / 2, "weight_decay": decay},
        "matched": {"lr": (_MATCHED_RATE if is_matched else 1.0) * rate, "weight_decay": decay},
        "fusion": {"lr": rate, "weight_decay": decay},
    }
    for name, parameter in model.trained_parameters():
        groups[_group_of(name)].setdefault("params", []).append(parameter)
    return torch.optim.AdamW([g for g in groups.values() if "params" in g], betas=(0.9, 0.98))


def _group_of(parameter: str) -> str:
    if parameter.endswith(".gate"):
        return "gate"
    if ".lora_" in parameter:
        return "lora"
    matched = parameter.startswith(("temporal_encoder.", "contrastive.")) or ".attention." in parameter
    return "matched" if matched else "fusion"


def _warm_up_and_decay(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up over the first twentieth, then a cosine down to zero."""
    warm = max(1, steps // 20)

    def scale(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, scale)


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
