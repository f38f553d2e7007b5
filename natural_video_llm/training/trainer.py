"""One model's training: steps, checkpoints, looks at people left out.

How a step's batch is cut, among processes and into micro-batches, changes its result by rounding only; and a step is a
function of the weights, the seed and its number, so that a resumed run is the unbroken one.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from natural_video_llm.checkpoint import autocast
from natural_video_llm.errors import UserError
from natural_video_llm.models.face import Face, SeenFace
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.loss import next_token_loss
from natural_video_llm.models.reaction import HORIZONS_S, TOLERANCE_S
from natural_video_llm.preprocessing.encoders import mirror_of
from natural_video_llm.training.checkpoints import Checkpoint, Position, Standing
from natural_video_llm.training.dataset import Batch, Example, FaceTrack, batch_at, collate, collate_faces, no_face
from natural_video_llm.training.metrics import Log
from natural_video_llm.training.optimiser import fitting_optimiser, matching_optimiser, warm_up_and_decay
from natural_video_llm.training.own_text import OwnText, faces_of_step, texts_of_step
from natural_video_llm.training.read_texts import ReadTexts
from natural_video_llm.training.setting import Progress, Setting

MATCH, FIT = "match", "fit"
_MATCH_BATCHES = 4  # matching takes so many times the batch: it is cheap, and more counterexamples teach more


def part_name(phase: str, twin: bool = False) -> str:
    """What people and metrics call a phase of a model's training."""
    if phase == MATCH:
        return "matching faces and words"
    return "text-only twin" if twin else "model"


@dataclass(frozen=True)
class _Phase:
    """One of the two phases of training: name, what metrics call it, and how long and with what it goes."""

    name: str
    part: str
    steps: int
    batch_size: int
    optimiser: torch.optim.Optimizer


class Trainer:
    """Optimises one adapter on one set of examples; for the text-only twin no face is ever shown.

    Args:
        left_out: examples of people that are looked at, never trained on, to see when to stop.
        fold, twin: which of the run's models this is.
    """

    def __init__(
        self,
        model: NaturalVideoLLM,
        examples: Sequence[Example],
        left_out: Sequence[Example],
        setting: Setting,
        log: Log,
        fold: int,
        twin: bool,
    ):
        self.model, self.examples, self.left_out = model, examples, left_out
        self._setting, self._log, self._fold, self._twin = setting, log, fold, twin
        self.options, self._processes = setting.options, setting.processes
        self._device = model.absence.device
        self._read = self._reader()
        self._mirror = mirror_of(model.config.encoder)
        self._own_text: OwnText | None = None
        self._reacts = bool(self.options.reaction_weight) and not twin
        self._standing = Standing()
        self._best: dict[str, Tensor] | None = None
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=setting.dtype == torch.float16)

    def train(self, begun: Checkpoint | None = None) -> None:
        """Run all phases, or what is left of them after the checkpoint; the model then holds what is to be kept.

        Raises:
            UserError: the loss is no number, or memory or disk are too small.
            KeyboardInterrupt: asked to stop; a checkpoint was written.
        """
        options, model = self.options, self.model
        if begun is not None:
            model.load_state_dict(begun.adapter, strict=False)
            self._standing, self._best = begun.position.standing, begun.best
        at = begun.position.phase if begun is not None else None
        matches = not self._twin and bool(options.contrastive_weight) and options.match_steps > 0
        if matches and at != FIT:
            size = _MATCH_BATCHES * options.batch_size
            optimiser = matching_optimiser(model, options)
            self._optimise(_Phase(MATCH, part_name(MATCH), options.match_steps, size, optimiser), begun)
            model.look_as_matched()
        if self._setting.own_text is not None:
            self._own_text = OwnText(model, self._setting.own_text, self._read is not None)
        optimiser = fitting_optimiser(model, options, matches)
        phase = _Phase(FIT, part_name(FIT, self._twin), options.steps, options.batch_size, optimiser)
        self._optimise(phase, begun if at == FIT else None)
        if self._best is not None:
            model.load_state_dict(self._best, strict=False)

    def _optimise(self, phase: _Phase, begun: Checkpoint | None) -> None:
        schedule = warm_up_and_decay(phase.optimiser, phase.steps)
        parts: dict[str, Any] = {"optimiser": phase.optimiser, "schedule": schedule, "scaler": self._scaler}
        first = 0
        if begun is not None:
            first = begun.position.step
            for name, part in parts.items():
                part.load_state_dict(begun.optimiser[name])
        started = time.monotonic()
        for step in range(first, phase.steps):
            if self.left_out and phase.name == FIT and self._standing.waited >= self.options.patience:
                return
            figures, should_stop = self._guarded_step(phase, step)
            schedule.step()
            if phase.name == FIT:
                figures |= self._look(step + 1)
            self._log.write(phase.part, step + 1, learning_rate=float(schedule.get_last_lr()[0]), **figures)
            is_last = step + 1 == phase.steps
            is_saved = is_last or (step + 1) % self.options.save_every == 0
            if is_saved:
                self._save(phase, step + 1, parts)
            left_s = (time.monotonic() - started) / (step + 1 - first) * (phase.steps - step - 1)
            try:
                self._report(phase, step + 1, figures, left_s)
                if should_stop:
                    raise KeyboardInterrupt
            except KeyboardInterrupt:
                if not is_saved:
                    self._save(phase, step + 1, parts)
                raise

    def _report(self, phase: _Phase, step: int, figures: dict[str, float], left_s: float) -> None:
        bits = figures.get("bits_per_token", figures.get("contrastive", 0.0) / math.log(2))
        if self._processes.is_main:
            self._setting.report(Progress(phase.part, step, phase.steps, bits, left_s))

    def _save(self, phase: _Phase, step: int, parts: dict[str, Any]) -> None:
        if not self._processes.is_main:
            return
        position = Position(self._fold, self._twin, phase.name, step, self._standing)
        states = {name: part.state_dict() for name, part in parts.items()}
        self._setting.save(Checkpoint(position, _copy(self.model), self._best, states))

    def _guarded_step(self, phase: _Phase, step: int) -> tuple[dict[str, float], bool]:
        """One step: its figures, and whether any process was asked to stop. Weights that a bad step would spoil are
        left as they were."""
        try:
            return self._step(phase, step)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            smaller = "--text-cache-mb, --context-turns or --batch-size"
            if phase.name == FIT and self.options.micro_batch_size != 1:
                smaller = "--micro-batch-size, which changes nothing else"
            raise UserError(f"{phase.part}: out of memory at step {step + 1}; lower {smaller}") from error

    def _step(self, phase: _Phase, step: int) -> tuple[dict[str, float], bool]:
        processes = self._processes
        chosen = self._batch(phase, step)
        mine = self._share(chosen)
        seed = np.random.SeedSequence((self.options.seed, 2, int(phase.name == FIT), step, processes.rank))
        torch.manual_seed(int(seed.generate_state(1)[0]))
        self.model.train()
        phase.optimiser.zero_grad(set_to_none=True)
        figures = self._match(mine, step) if phase.name == MATCH else self._fit(mine, step, _predicted(chosen))
        asked = torch.tensor(float(self._setting.should_stop()))
        sums = processes.add(torch.stack([*figures.values(), asked.to(self._device)]).double()).tolist()
        parameters = [p for group in phase.optimiser.param_groups for p in group["params"]]
        processes.add_gradients(parameters)
        self._scaler.unscale_(phase.optimiser)
        norm = float(nn.utils.clip_grad_norm_(parameters, self.options.clip_norm))
        if not all(map(math.isfinite, sums)) or not (math.isfinite(norm) or self._scaler.is_enabled()):
            wrong = next((x for x in sums if not math.isfinite(x)), norm)
            raise UserError(_what_went_wrong(phase.part, step + 1, wrong, chosen))
        self._scaler.step(phase.optimiser)
        self._scaler.update()
        return dict(zip(figures, sums[:-1], strict=True)), sums[-1] > 0

    def _batch(self, phase: _Phase, step: int) -> list[Example]:
        """The examples of a step, of all processes."""
        count = self._processes.count
        size = min(phase.batch_size, len(self.examples)) // count * count
        if not size:
            few = min(self.options.batch_size, len(self.examples))
            raise UserError(f"{few} conversations a step are too few for {count} processes; start fewer")
        return [self.examples[i] for i in batch_at(step, len(self.examples), size, self.options.seed)]

    def _share(self, chosen: list[Example]) -> list[tuple[int, Example]]:
        """This process's part of a batch, each with its place in the whole, the shortest first: texts of like length
        then go through the LLM together, and no process has the long ones alone."""
        by_length = sorted(enumerate(chosen), key=lambda place: len(place[1].ids))
        return by_length[self._processes.rank :: self._processes.count]

    def _match(self, mine: list[tuple[int, Example]], step: int) -> dict[str, Tensor]:
        """Teach the temporal encoder which face belongs to which words, by the contrastive loss alone."""
        model, memory_s = self.model, self.model.config.window_s + self.model.temporal_encoder.memory_s
        faces = []
        for place, example in mine:
            first_s, last_s = example.target_span_s
            vary = self._variation(self._chance(step, place))
            faces.append(vary(example.track.between(first_s - memory_s, last_s)))
        batch = collate([e for _, e in mine], faces, self._setting.pad_id).to(self._device)
        with autocast(self._device, self._setting.dtype):
            face = model.encode(batch.face)
            loss = model.match(batch.labels, batch.pieces, batch.query_times, face, self._processes.gather)
        return {"contrastive": self._backward(loss / self._processes.count)}

    def _fit(self, mine: list[tuple[int, Example]], step: int, tokens: int) -> dict[str, Tensor]:
        """Teach the adapter the words that came next, with the face or, for the twin, without.

        Faces are encoded once. The gradients of all that looks at them meet in `seen` before they go on back.
        """
        options, model = self.options, self.model
        examples = [e for _, e in mine]
        faces, ahead = zip(*(self._training_faces(e, self._chance(step, place)) for place, e in mine), strict=True)
        batch = collate(examples, faces, self._setting.pad_id).to(self._device)
        future = collate_faces(ahead).to(self._device) if self._reacts else None
        with autocast(self._device, self._setting.dtype):
            encoded = model.encode(batch.face)
        seen = SeenFace(encoded.encodings.detach().requires_grad_(), encoded.times, encoded.present)
        figures = {"bits_per_token": torch.zeros((), device=self._device)}
        if self._reacts:
            figures["reaction"] = torch.zeros((), device=self._device)
        for part in _cut(len(mine), options.micro_batch_size):
            language, reaction = self._losses(examples, batch, seen, part, tokens, future)
            self._backward(language + options.reaction_weight * reaction)
            figures["bits_per_token"] += language.detach().float() / math.log(2)
            if self._reacts:
                figures["reaction"] += reaction.detach()
        if self._own_text is not None:
            figures["own_text_bits"] = self._keep_own_text(self._own_text, mine, batch, seen, step) / math.log(2)
        if not self._twin and options.contrastive_weight:
            with autocast(self._device, self._setting.dtype):
                loss = model.match(batch.labels, batch.pieces, batch.query_times, seen, self._processes.gather)
            share = loss / self._processes.count
            figures["contrastive"] = self._backward(options.contrastive_weight * share) / options.contrastive_weight
        if seen.encodings.grad is not None and encoded.encodings.requires_grad:
            encoded.encodings.backward(seen.encodings.grad)
        return figures

    def _keep_own_text(
        self, own_text: OwnText, mine: list[tuple[int, Example]], batch: Batch, seen: SeenFace, step: int
    ) -> Tensor:
        """Texts of the LLM's own under some faces of the batch; their mean loss in nats."""
        processes, weight = self._processes, self.options.own_text_weight
        size = len(mine) * processes.count
        count = texts_of_step(size)
        chosen = faces_of_step(step, size, processes.rank, processes.count)
        total = torch.zeros((), device=self._device)
        for first, last in _cut(len(chosen), self.options.micro_batch_size):
            places, texts = (torch.tensor(part, device=self._device) for part in zip(*chosen[first:last], strict=True))
            with autocast(self._device, self._setting.dtype):
                numbers = (step * count + texts) % len(own_text)
                losses = own_text.losses(numbers, seen.rows(places), batch.query_times[places].amax(1))
            total += self._backward(weight * (losses * (texts < count)).sum() / count) / weight
        return total

    def _losses(
        self,
        examples: list[Example],
        batch: Batch,
        seen: SeenFace,
        part: tuple[int, int],
        tokens: int,
        future: Face | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sums of the next-token and, with a `future`, the reaction losses of the rows [first, last), over `tokens`."""
        first, last = part
        texts = batch.texts(first, last, max(len(e.ids) for e in examples[first:last]))
        face = SeenFace(seen.encodings[first:last], seen.times[first:last], seen.present[first:last])
        with autocast(self._device, self._setting.dtype):
            out = self.model(
                texts.ids,
                texts.query_times,
                face,
                text_hidden=self._read(examples[first:last]) if self._read else None,
                attention_mask=texts.mask,
                keep=texts.keep,
            )
            language = next_token_loss(out.logits, texts.labels[texts.keep], tokens)
        if future is None:
            return language, torch.zeros((), device=self._device)
        now, later = batch.face.part(first, last), future.part(first, last)
        return language, self.model.react(out, texts.keep, texts.query_times, now, later).loss(tokens)

    def _backward(self, loss: Tensor) -> Tensor:
        if loss.requires_grad:
            self._scaler.scale(loss).backward()
        return loss.detach().float()

    def _look(self, step: int) -> dict[str, float]:
        """After every `validate_every` steps, how well the people left out are predicted."""
        options = self.options
        if not self.left_out or step % options.validate_every:
            return {}
        bits = self._processes.agreed(self._validate())
        if bits < self._standing.bits:
            self._standing, self._best = Standing(bits, step), _copy(self.model)
        else:
            self._standing = Standing(self._standing.bits, self._standing.step, self._standing.waited + 1)
        return {"left_out_bits_per_token": bits}

    @torch.no_grad()
    def _validate(self) -> float:
        self.model.eval()
        by_length = sorted(self.left_out, key=lambda e: len(e.ids))
        total, tokens = 0.0, _predicted(by_length)
        for first, last in _cut(len(by_length), self.options.micro_batch_size or self.options.batch_size):
            part = by_length[first:last]
            faces = [no_face(e) if self._twin else e.seen(self.model.memory_s) for e in part]
            batch = collate(part, faces, self._setting.pad_id).to(self._device)
            with autocast(self._device, self._setting.dtype):
                seen = self.model.encode(batch.face)
            total += float(self._losses(part, batch, seen, (0, len(part)), tokens)[0])
        return total / math.log(2)

    def _chance(self, step: int, place: int) -> np.random.Generator:
        """What varies an example's face: the same however the batch is cut."""
        return np.random.default_rng((self.options.seed, 1, step, place))

    def _training_faces(self, example: Example, chance: np.random.Generator) -> tuple[FaceTrack, FaceTrack]:
        """The example's own face, varied, or withheld; and what it does afterwards, for the reaction loss alone."""
        withheld = chance.random() < self.options.face_dropout
        if withheld or self._twin:
            return no_face(example), no_face(example)
        vary = self._variation(chance)
        return vary(example.seen(self.model.memory_s)), vary(example.ahead(max(HORIZONS_S) + TOLERANCE_S))

    def _variation(self, chance: np.random.Generator) -> Callable[[FaceTrack], FaceTrack]:
        """The same face a little earlier or later, and as often as not seen in a mirror."""
        limit_s = self.options.time_jitter_s
        seconds = chance.uniform(-limit_s, limit_s)
        mirror = self._mirror if self._mirror and chance.random() < 0.5 else None
        return lambda face: face.later(seconds).mirrored(mirror) if mirror else face.later(seconds)

    def _reader(self) -> ReadTexts | None:
        """What keeps the texts' hidden states; none where that was declined, or where the layers' weights are parted
        among processes, which must run all of them together."""
        if not self.options.text_cache_mb or self._processes.shards:
            return None
        # On the CPU a resumed run is promised to be the unbroken one to the last bit, whatever was read before.
        alone = self._device.type == "cpu"
        return ReadTexts(self.model, self._setting.pad_id, 1e6 * self.options.text_cache_mb, alone)


def _cut(count: int, size: int) -> list[tuple[int, int]]:
    """[first, last) of parts of equal length but for one, each at most `size`; 0 for one part."""
    parts = np.array_split(np.arange(count), -(-count // size) if size else 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


def _predicted(examples: Sequence[Example]) -> int:
    """How many tokens are to be predicted."""
    return int(sum(e.target[1:].sum() for e in examples))


def _copy(model: NaturalVideoLLM) -> dict[str, Tensor]:
    """The adapter on the CPU, apart from the model."""
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in model.adapter_state().items()}


def _is_out_of_memory(error: Exception) -> bool:
    texts = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in texts)


def _what_went_wrong(part: str, step: int, loss: float, batch: Sequence[Example]) -> str:
    names = sorted({e.session_id for e in batch})
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return (
        f"{part}: the loss became {loss} at step {step}; lower its rate of learning, or look at the sessions of that "
        f"step ({listed}); the last checkpoint stays as it was"
    )
