"""Aligned sessions → a run folder: the adapter, its text-only twin, the split and the metrics.

RUN/
├── config.json, adapter.safetensors   the checkpoint
├── run.json                           data, split, options
├── logs/metrics/                      metrics.jsonl and TensorBoard events
├── twin/                              the same training with no face at all
├── fold_0/ …                          with --folds: such a run for each fold
└── checkpoints/                       while it is trained: where --resume goes on
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from natural_video_llm.checkpoint import BaseLLM, load_base_llm
from natural_video_llm.device import pick_device, pick_dtype
from natural_video_llm.disk import DISK_FULL, write_error, write_whole
from natural_video_llm.errors import UserError
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM, default_fusion_layers
from natural_video_llm.preprocessing.encoders import parse_encoder
from natural_video_llm.run_folder import RUN_FILE, run_parts
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.sessions.latents import load_session_latents
from natural_video_llm.sessions.split import fold_sessions, split_sessions
from natural_video_llm.tokenization import tokenizer_sha256
from natural_video_llm.training.checkpoints import Checkpoint, Checkpoints, checkpoint_folders
from natural_video_llm.training.dataset import (
    Example,
    load_examples,
    load_tracks,
)
from natural_video_llm.training.face_store import FaceStore
from natural_video_llm.training.metrics import Log, MetricsLog, NoLog, Tracker
from natural_video_llm.training.model_card import data_facts, write_card
from natural_video_llm.training.number_ranges import check_numbers
from natural_video_llm.training.options import NUMBERS, TrainOptions
from natural_video_llm.training.own_text import sample_text
from natural_video_llm.training.processes import Processes
from natural_video_llm.training.setting import Progress, Setting
from natural_video_llm.training.trainer import Trainer, part_name

__all__ = ["Progress", "Report", "holds_run", "train"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

Report = Callable[[Progress], None]


def train(options: TrainOptions, report: Report, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Train the run (and its folds and twins) that `options` describe, or what is left of it to train.

    Args:
        report: told of every step; the training stops where it raises KeyboardInterrupt.
        should_stop: asked after every step; training then stops in all processes at once, by KeyboardInterrupt.

    Returns:
        How many sessions were held out; 0 means that nothing can be evaluated.

    Raises:
        UserError: a mistake in the options or the data, a run in the place of a new one, or the machine is too small.
    """
    check_numbers(vars(options), NUMBERS)
    if not options.resume and holds_run(options.out):
        raise UserError(f"{options.out} holds a run already; add --resume to go on with it, or choose another --out")
    options = replace(options, encoder=str(parse_encoder(options.encoder)))
    try:
        return _Run(options, report, should_stop).train()
    except (OSError, SafetensorError) as error:
        if not _is_disk_full(error):
            raise
        saved = checkpoint_folders(options.out)
        then = "what was saved before is whole: free space and add --resume" if saved else "free space, run again"
        raise UserError(f"{options.out}: the disk is full; {then}") from error


def holds_run(out: Path) -> bool:
    """Whether there is a run in `out` that is trained or can go on; one that came to no checkpoint can only begin
    anew."""
    return bool(checkpoint_folders(out)) or any(map(_is_trained, run_parts(out)))


@dataclass(frozen=True)
class _Split:
    """Where one model and its twin are written, what they are trained and tested on, and how much that is."""

    out: Path
    train_ids: set[str]
    test_ids: set[str]
    data: dict[str, Any]


class _Run:
    """All models of one call of `nvllm train`."""

    def __init__(self, options: TrainOptions, report: Report, should_stop: Callable[[], bool]):
        self._options = options
        self._processes = Processes()
        self._checkpoints = Checkpoints(options.out, options)
        self._tracker = Tracker.load(options.tracker) if self._processes.is_main else None
        self._report, self._should_stop = report, should_stop

    def train(self) -> int:
        options, processes = self._options, self._processes
        sessions = find_sessions(options.sessions)
        splits = _splits(sessions, options)
        held_out = sum(len(split.test_ids) for split in splits)
        if options.resume and all(_is_trained(split.out) for split in splits):
            return held_out
        begun = self._checkpoints.load() if options.resume else None
        dtype = _DTYPES.get(options.precision) or pick_dtype(pick_device())
        base = load_base_llm(options.llm, dtype)
        config = _fusion_config(base, sessions[0], options)
        examples = self._examples(sessions, base, config)
        processes.shard(base.model)
        if processes.is_main and begun is None:
            self._checkpoints.clear()
        setting = Setting(
            options=options,
            processes=processes,
            pad_id=base.tokenizer.pad_token_id or 0,
            dtype=dtype,
            own_text=sample_text(base.model, options.seed) if options.own_text_weight else None,
            report=self._report,
            should_stop=self._should_stop,
            save=self._checkpoints.save,
        )
        for fold, split in enumerate(splits):
            if begun is None or fold >= begun.position.fold:
                self._train_split(base, config, examples, setting, fold, split, begun)
                begun = None
        if processes.is_main:
            self._checkpoints.clear()
        return held_out

    def _examples(self, sessions: Sequence[Session], base: BaseLLM, config: FusionConfig) -> list[Example]:
        """All examples, their faces mapped from files that the main process writes and then takes away."""
        options, store = self._options, FaceStore(self._options.out / ".faces")
        chat = ChatFormat(base.tokenizer)
        if chat.notice and self._processes.is_main:
            print(f"nvllm: {base.name}: {chat.notice}", file=sys.stderr)
        try:
            if self._processes.is_main:
                store.write(load_tracks(sessions, options.encoder, config.neutral_memory_s))
            self._processes.wait()
            tracks = store.read()
            self._processes.wait()
        finally:
            if self._processes.is_main:
                store.clear()
        return load_examples(
            sessions,
            chat,
            tokenizer_sha256(base.tokenizer),
            options.encoder,
            config.neutral_memory_s,
            options.context_turns,
            tracks,
        )

    def _train_split(
        self,
        base: BaseLLM,
        config: FusionConfig,
        examples: Sequence[Example],
        setting: Setting,
        fold: int,
        split: _Split,
        begun: Checkpoint | None,
    ) -> None:
        """Train the model of a split and its twin, or what is left of them."""
        options = self._options
        if self._processes.is_main:
            _write_run_file(split, options, trained=False)
        trained_on, left_out = _left_out([e for e in examples if e.session_id in split.train_ids], options)
        if not trained_on:
            raise UserError(f"{options.sessions}: no training session left after the split; lower --test-share")
        for twin in (False, True) if options.twin else (False,):
            at = begun if begun is not None and begun.position.twin == twin else None
            if begun is not None and begun.position.twin and not twin:
                continue
            out = split.out / "twin" if twin else split.out
            torch.manual_seed(options.seed)
            own = replace(config, reaction=config.reaction and not twin)  # it needs a face
            model = NaturalVideoLLM(base.model, own).to(base.model.device)
            log = self._log(out, at)
            try:
                self._prepare(model, trained_on)
                trainer = Trainer(model, trained_on, left_out, setting, log, fold, twin)
                self._train_one(trainer, out, at)
            finally:
                log.close()
                model.detach()
        if self._processes.is_main:
            _write_run_file(split, options, trained=True)
            write_card(split.out, evidence=None)

    def _train_one(self, trainer: Trainer, out: Path, begun: Checkpoint | None) -> None:
        """Train one model and write it; an interrupt writes what there is before it goes on up."""
        try:
            trainer.train(begun)
        except KeyboardInterrupt:
            self._write(trainer.model, out)
            raise
        self._write(trainer.model, out)

    def _write(self, model: NaturalVideoLLM, out: Path) -> None:
        if self._processes.is_main:
            model.save_pretrained(out)

    def _prepare(self, model: NaturalVideoLLM, examples: Sequence[Example]) -> None:
        """What of a new model the data and the options decide; the same in all processes."""
        model.temporal_encoder.basis.fit(_sample_latents(examples, self._options.seed))
        model.temporal_encoder.training_noise = self._options.face_noise
        model.contrastive.token_dropout.p = self._options.text_dropout
        self._processes.take_from_main(list(model.adapter_state().values()))

    def _log(self, out: Path, begun: Checkpoint | None) -> Log:
        if not self._processes.is_main:
            return NoLog()
        kept = None
        if begun is not None:
            position = begun.position
            kept = part_name(position.phase, position.twin), position.step
        tracking = self._tracker.begin(out, _plain(self._options), begun is not None) if self._tracker else None
        return MetricsLog(out / "logs" / "metrics", kept, tracking)


def _splits(sessions: Sequence[Session], options: TrainOptions) -> list[_Split]:
    if options.folds:
        parts = fold_sessions(sessions, options.folds, options.seed)
        outs = [options.out / f"fold_{i}" for i in range(options.folds)]
    else:
        parts, outs = [split_sessions(sessions, options.test_share, options.seed)], [options.out]
    return [
        _Split(out, train, test, data_facts([s for s in sessions if s.start.session_id in train]))
        for out, (train, test) in zip(outs, parts, strict=True)
    ]


def _left_out(examples: Sequence[Example], options: TrainOptions) -> tuple[list[Example], list[Example]]:
    """(examples to train on, examples of people left out of that to see when to stop)

    Raises:
        UserError: there are not two people (or sessions of one) to part.
    """
    people: dict[str, set[str]] = {}
    for example in examples:
        people.setdefault(example.person, set()).add(example.session_id)
    if not options.validate_every or not people:
        return list(examples), []
    groups = list(people.values()) if len(people) > 1 else [{s} for s in sorted(next(iter(people.values())))]
    if len(groups) < 2:
        raise UserError("--validate-every needs at least two training people or sessions, and there is one")
    count = min(max(1, round(options.validation_share * len(groups))), len(groups) - 1)
    order = np.random.default_rng((options.seed, 3)).permutation(len(groups))
    chosen = set().union(*(groups[i] for i in order[:count]))
    return [e for e in examples if e.session_id not in chosen], [e for e in examples if e.session_id in chosen]


def _fusion_config(base: BaseLLM, session: Session, options: TrainOptions) -> FusionConfig:
    latents = load_session_latents(session, options.encoder)
    return FusionConfig(
        base_llm=base.name,
        base_llm_sha256=base.sha256,
        encoder=latents.encoder,
        encoder_sha256=latents.encoder_sha256,
        latent_size=2 * latents.latents.shape[1],
        fusion_layers=_fusion_layers(base, options),
        window_s=options.window_s,
        reach_s=options.window_s / 3,
        lora_rank=options.lora_rank,
        temporal_encoder=options.temporal_encoder,
        reaction=options.reaction_weight > 0,
    )


def _fusion_layers(base: BaseLLM, options: TrainOptions) -> tuple[int, ...]:
    count = base.model.config.get_text_config().num_hidden_layers
    chosen = tuple(sorted(set(options.fusion_layers)))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < count:
        raise UserError(f"--fusion-layers {chosen}: {base.name} has the layers 0 to {count - 1}")
    return chosen or default_fusion_layers(count, options.fusion_every)


def _sample_latents(examples: Sequence[Example], seed: int, limit: int = 20_000) -> torch.Tensor:
    """Frames with a face, at most `limit`, drawn evenly from the training sessions."""
    tracks = list({id(e.track): e.track for e in examples}.values())
    present = [np.flatnonzero(track.present) for track in tracks]
    ends = np.cumsum([len(rows) for rows in present])
    if not ends[-1]:
        raise UserError("no face was found in any training video; look at the recordings, then extract again")
    drawn = np.sort(np.random.default_rng(seed).choice(ends[-1], min(limit, ends[-1]), replace=False))
    parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
    starts = ends - [len(rows) for rows in present]
    frames = [t.latents[rows[part - s]] for t, rows, part, s in zip(tracks, present, parts, starts, strict=True)]
    return torch.from_numpy(np.concatenate(frames))


def _is_trained(run: Path) -> bool:
    try:
        return bool(json.loads((run / RUN_FILE).read_text(encoding="utf-8"))["trained"])
    except (OSError, ValueError, KeyError):
        return False


def _write_run_file(split: _Split, options: TrainOptions, trained: bool) -> None:
    own = replace(options, sessions=options.sessions.resolve(), out=split.out.resolve(), folds=0)
    record = {
        "options": _plain(own),
        "train": sorted(split.train_ids),
        "test": sorted(split.test_ids),
        "trained": trained,
        "data": split.data,
    }
    try:
        split.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(split.out, error) from error
    write_whole(split.out / RUN_FILE, json.dumps(record, indent=2) + "\n")


def _plain(options: TrainOptions) -> dict[str, object]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}


def _is_disk_full(error: Exception) -> bool:
    """safetensors tells the system's error as text alone."""
    return getattr(error, "errno", None) in DISK_FULL or any(f"os error {n}" in str(error) for n in DISK_FULL)
