"""Recordings → a video encoder of one's own, without labels: a small VideoMAE on face crops.

FOLDER/
├── config.json, model.safetensors, preprocessor_config.json   what transformers' AutoModel reads
├── pretraining.json                                            options, who was held out, what was learned
└── metrics.jsonl                                               one line a step
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEImageProcessorPil,
    get_cosine_schedule_with_warmup,
)
from transformers.utils.logging import disable_progress_bar

from natural_video_llm.device import pick_device, pick_dtype
from natural_video_llm.errors import UserError, first_line
from natural_video_llm.preprocessing.encoders import parse_encoder
from natural_video_llm.preprocessing.encoders.picture_rules import PictureRules
from natural_video_llm.preprocessing.face_clips import CroppedSegment, CropStore, crop_segments, draw_videos
from natural_video_llm.preprocessing.masked_video import Hidden, begin, hide_later, hide_places
from natural_video_llm.preprocessing.pretrain_options import PretrainOptions
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.sessions.split import split_sessions

RECORD_FILE = "pretraining.json"
METRICS_FILE = "metrics.jsonl"
HIDDEN = ("later", "places")

_PATCHES_A_SIDE = 8
_HEAD_SIZE = 32
_DECODER_LAYERS = 2
# Of pixels between 0 and 1; the processor that is saved beside the model says the same to whoever uses it.
_MEAN, _STD = 0.5, 0.25
_GREY_LEVELS = 255
_SAMPLED_CLIPS = 512
_STILL = 0.1
# Standard deviations: of ln contrast, for all colours and for each, and of brightness as the model takes it.
_LIGHT, _TINT, _BRIGHTNESS = 0.15, 0.08, 0.2
_LATER_ALONE = 0.3


@dataclass(frozen=True)
class PretrainProgress:
    """Where it is: `done` of `total` segments (cropping faces) or steps (learning). `error` is the squared error of a
    batch as a share of that of what is known without a model."""

    part: str
    done: int
    total: int
    error: float | None = None


Report = Callable[[PretrainProgress], None]


def pretrain(options: PretrainOptions, report: Report) -> dict[str, Any]:
    """Learn an encoder from the sessions that `options` name; returns what is written to `pretraining.json`.

    An interrupt while it learns saves what there is before it goes on up. Crops are never left behind.

    Raises:
        UserError: an option has no usable value; `out` holds a model or cannot be written; there is no session, no face
            or nobody to hold out; a video cannot be read; the loss is no number any more.
    """
    config, device = _config(options), _device(options.device)
    _check_free(options.out)
    sessions = find_sessions(options.sessions)
    train_ids, test_ids = split_sessions(sessions, options.test_share, options.seed)
    split = {"train": train_ids, "test": test_ids}
    videos = draw_videos(sessions, options.side_px, options.cache_gb * 1e9, options.seed)
    with CropStore(options.out, options.side_px) as store:

        def tell(done: int) -> None:
            report(PretrainProgress("cropping faces", done, len(videos)))

        segments = crop_segments(videos, store, options.side_px, options.workers, tell)
        clips = {part: Clips(store.crops, segments, ids, options, device) for part, ids in split.items()}
        _check_clips(clips, options, len(store.crops))
        record: dict[str, Any] = {
            "encoder": encoder_name(options.out, options.window_s),
            "options": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()},
            "held_out": None,
            **{part: {"sessions": sorted(ids), "clips": len(clips[part])} for part, ids in split.items()},
        }
        learner = Learner(config, clips["train"], options)
        try:
            learner.fit(report)
            if len(clips["test"]):
                record |= {"held_out": learner.measure(clips["test"])}
        except KeyboardInterrupt:
            _save(learner, options, record)
            raise
        _save(learner, options, record)
    return record


def encoder_name(folder: Path, window_s: float) -> str:
    """What `--encoder` takes for the model in `folder`."""
    return str(parse_encoder(f"videomae:{folder},window_s={float(window_s)}"))


class Clips:
    """The clips of some sessions, as the model takes them.

    Args:
        crops: [n, side, side, 3] uint8, all that there are.
        segments: which of them follow each other.
        session_ids: whose clips.
        options: pictures a clip and its length in seconds.
        device: where the clips are wanted.
    """

    def __init__(
        self,
        crops: np.ndarray,
        segments: Sequence[CroppedSegment],
        session_ids: Collection[str],
        options: PretrainOptions,
        device: torch.device,
    ):
        own = [s.clips(options.pictures, options.window_s) for s in segments if s.session_id in session_ids]
        self._rows = np.concatenate([np.zeros((0, options.pictures), np.int64), *own])
        self._crops, self.device = crops, device
        self._rules = PictureRules.from_settings(_processor(options).to_dict(), "of one's own")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, numbers: np.ndarray) -> Tensor:
        """[n, pictures, 3, side, side] float32 of the clips with these numbers."""
        return torch.from_numpy(self._rules(self._crops[self._rows[numbers]])).to(self.device)

    def spread(self, most: int) -> np.ndarray:
        """Numbers of at most `most` clips, evenly spread over all."""
        return np.unique(np.linspace(0, len(self) - 1, most).astype(np.int64))


class Learner:
    """A model and what it learns from: every other batch hides later pictures, the others hide places.

    Args:
        config: of the model.
        clips: to learn from.
        options: how long and how fast.
    """

    def __init__(self, config: VideoMAEConfig, clips: Clips, options: PretrainOptions):
        torch.manual_seed(options.seed)
        self.model = VideoMAEForPreTraining(config)
        begin(self.model)
        nn.Module.to(self.model, clips.device)  # the model's own `to` is typed for quantised weights only
        self.steps_done = 0
        self._clips, self._options = clips, options
        self._rng = np.random.default_rng((options.seed, 1))
        batches = list(_batches(clips.spread(_SAMPLED_CLIPS), options.batch_size))
        self._average_face = torch.stack([clips[b].mean(dim=(0, 1)) for b in batches]).mean(dim=0)
        # The model speaks in units of how far truth is from what is known, so that both tasks weigh the same.
        self._unit = {
            kind: float(np.mean([_squared_error(h.known, h.truth) for h in self._hide_all(clips, batches, kind)]))
            ** 0.5
            for kind in HIDDEN
        }

    def fit(self, report: Report) -> None:
        """Take all steps.

        Raises:
            UserError: the loss is no number any more.
        """
        options, device = self._options, self._clips.device
        optimiser = torch.optim.AdamW(
            self.model.parameters(), options.learning_rate, (0.9, 0.95), weight_decay=options.weight_decay
        )
        schedule = get_cosine_schedule_with_warmup(optimiser, options.steps // 20, options.steps)
        self.model.train()
        with (options.out / METRICS_FILE).open("w", encoding="utf-8") as lines:
            for step in range(1, options.steps + 1):
                # Time comes first: begun together, places drown out what is to be learned of it.
                kind = HIDDEN[step % len(HIDDEN)] if step > _LATER_ALONE * options.steps else "later"
                # On a CPU without units for it bfloat16 is slower than float32.
                with torch.autocast(device.type, pick_dtype(device), enabled=device.type == "cuda"):
                    loss, share = self._loss(kind)
                if not torch.isfinite(loss):
                    raise UserError(
                        f"the loss became {loss.item()} at step {step}; lower --learning-rate (now "
                        f"{options.learning_rate:g})"
                    )
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                rate = float(schedule.get_last_lr()[0])
                optimiser.step()
                schedule.step()
                self.steps_done = step
                line = {"step": step, "hidden": kind, "error": share, "learning_rate": rate}
                lines.write(json.dumps(line) + "\n")
                lines.flush()
                report(PretrainProgress("learning", step, options.steps, share))

    def _loss(self, kind: str) -> tuple[Tensor, float]:
        """Of a batch of clips drawn at random: what to lessen, and the squared error as a share of that of what is
        known without a model."""
        clips = self._varied(self._clips[self._rng.integers(len(self._clips), size=self._options.batch_size)])
        hidden = self._hide(kind, clips, self._average_face, self._rng)
        asked = (hidden.truth - hidden.known) / self._unit[kind]
        errors = (hidden.ask(self.model).float() - asked).square().mean(dim=(1, 2))
        nothing_learned = asked.square().mean(dim=(1, 2))
        # A still clip teaches no less than a lively one.
        return (errors / (nothing_learned + _STILL)).mean(), float(errors.detach().sum() / nothing_learned.sum())

    def _varied(self, clips: Tensor) -> Tensor:
        """The same clips in other light, as often as not seen in a mirror: of few people, looks are soon known by
        heart."""
        count = len(clips)
        light = self._rng.normal(0, _LIGHT, (count, 1, 1, 1, 1)) + self._rng.normal(0, _TINT, (count, 1, 3, 1, 1))
        brightness = self._rng.normal(0, _BRIGHTNESS, (count, 1, 1, 1, 1))
        mirrored = torch.from_numpy(self._rng.random((count, 1, 1, 1, 1)) < 0.5).to(clips.device)
        facing = torch.where(mirrored, clips.flip(-1), clips)
        return facing * torch.from_numpy(np.exp(light)).to(clips) + torch.from_numpy(brightness).to(clips)

    def _hide(self, kind: str, clips: Tensor, average_face: Tensor, rng: np.random.Generator) -> Hidden:
        if kind == "later":
            return hide_later(clips, self.model.config)
        return hide_places(clips, self.model.config, average_face, rng)

    def _hide_all(self, clips: Clips, batches: Iterable[np.ndarray], kind: str) -> Iterator[Hidden]:
        """Batches with the same parts hidden each time."""
        rng = np.random.default_rng((self._options.seed, 2))
        return (self._hide(kind, clips[batch], self._average_face, rng) for batch in batches)

    def _best_mix(self) -> float:
        """How much of the last frame, and how little of the mean of those shown, comes nearest to later pictures of the
        people learned from: the best that can be said without looking at the faces."""
        product = square = 0.0
        batches = _batches(self._clips.spread(_SAMPLED_CLIPS), self._options.batch_size)
        for hidden in self._hide_all(self._clips, batches, "later"):
            mean = hidden.of(hidden.shown_mean)
            product += float(((hidden.truth - mean) * (hidden.known - mean)).sum())
            square += float((hidden.known - mean).square().sum())
        return product / square if square else 1.0

    @torch.inference_mode()
    def measure(self, clips: Clips) -> dict[str, dict[str, float]]:
        """How far off the model is on other people's clips, and how far off is what needs no model: for each way of
        hiding the root mean squared error of the hidden pixels, in grey levels (of 255)."""
        self.model.eval()
        batches = list(_batches(clips.spread(_SAMPLED_CLIPS), self._options.batch_size))
        found: dict[str, dict[str, float]] = {}
        mix = self._best_mix()
        for kind in HIDDEN:
            sums: dict[str, float] = {}
            count = 0
            for hidden in self._hide_all(clips, batches, kind):
                guesses = {"model": hidden.known + self._unit[kind] * hidden.ask(self.model)}
                guesses["average face"] = hidden.of(self._average_face)
                if kind == "later":
                    guesses["last frame"] = hidden.known
                    guesses["mean frame"] = hidden.of(hidden.shown_mean)
                    guesses["best mix of both"] = torch.lerp(guesses["mean frame"], hidden.known, mix)
                for name, guess in guesses.items():
                    sums[name] = sums.get(name, 0.0) + len(guess) * _squared_error(guess, hidden.truth)
                count += len(hidden.clips)
            found[kind] = {name: _GREY_LEVELS * _STD * (total / count) ** 0.5 for name, total in sums.items()}
        return found


def summary(record: dict[str, Any]) -> str:
    """What `pretrain` found, in lines for a person."""
    held_out = record["held_out"]
    if held_out is None:
        return "nobody was held out, so nothing says how well it has learned"
    lines = [f"error on {record['test']['clips']} clips of held-out people, in grey levels (of 255):"]
    for kind, errors in held_out.items():
        others = ", ".join(f"{name} {error:.1f}" for name, error in errors.items() if name != "model")
        lines.append(f"  hidden {kind}: model {errors['model']:.1f}; {others}")
    return "\n".join(lines)


def _batches(numbers: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (numbers[i : i + size] for i in range(0, len(numbers), size))


def _squared_error(guess: Tensor, truth: Tensor) -> float:
    return float((guess - truth).square().mean())


def _config(options: PretrainOptions) -> VideoMAEConfig:
    """Raises UserError where the sizes do not fit each other."""
    for name, unit in (
        ("side_px", _PATCHES_A_SIDE),
        ("pictures", 2),
        ("hidden_size", _HEAD_SIZE),
    ):
        value = getattr(options, name)
        if value < unit or value % unit:
            raise UserError(f"--{name.replace('_', '-')} must be a multiple of {unit}, not {value}")
    for name in ("window_s", "layers", "steps", "batch_size", "learning_rate", "cache_gb"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be above zero, not {getattr(options, name)}")
    size = {"hidden_size": options.hidden_size, "num_attention_heads": options.hidden_size // _HEAD_SIZE}
    size |= {"intermediate_size": 4 * options.hidden_size}
    sizes: dict[str, Any] = {**size, **{f"decoder_{name}": value for name, value in size.items()}}
    # Not VideoMAE's own: what the clips lasted.
    own: dict[str, Any] = {"window_s": options.window_s}
    return VideoMAEConfig(
        image_size=options.side_px,
        patch_size=options.side_px // _PATCHES_A_SIDE,
        num_frames=options.pictures,
        tubelet_size=options.pictures // 2,  # a token sees what its place does in half a clip
        num_hidden_layers=options.layers,
        **sizes,
        decoder_num_hidden_layers=_DECODER_LAYERS,
        use_mean_pooling=False,  # ends with a normalisation, so that tokens are of one size
        norm_pix_loss=False,
        initializer_range=options.hidden_size**-0.5,
        **own,
    )


def _processor(options: PretrainOptions) -> VideoMAEImageProcessorPil:
    side = {"height": options.side_px, "width": options.side_px}
    return VideoMAEImageProcessorPil(size=side, do_center_crop=False, image_mean=[_MEAN] * 3, image_std=[_STD] * 3)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name) if name else pick_device()
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used here: {first_line(error)}") from error
    return device


def _check_free(out: Path) -> None:
    for file in ("config.json", RECORD_FILE):
        if (out / file).exists():
            raise UserError(f"{out} holds a model already ({file}); choose another --out or delete it")


def _check_clips(clips: dict[str, Clips], options: PretrainOptions, crops: int) -> None:
    if not crops:
        raise UserError(f"{options.sessions}: no face in any video; check light, distance and camera")
    for part, words in (("train", "learn from"), ("test", "hold out")):
        if not len(clips[part]) and (part == "train" or options.test_share):
            raise UserError(
                f"{options.sessions}: no stretch of {options.window_s:g} s that shows a face to {words}; record more, "
                "lower --window-s or change --seed"
            )


def _save(learner: Learner, options: PretrainOptions, record: dict[str, Any]) -> None:
    record["steps_done"] = learner.steps_done
    try:
        disable_progress_bar()  # of a file that is written at once
        learner.model.save_pretrained(options.out)
        _processor(options).save_pretrained(options.out)
        (options.out / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{options.out} cannot be written ({error}); free disk space, run again") from error
