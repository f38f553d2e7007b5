"""What the face will do next: predicted from the text and the face so far, as a loss of its own."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from natural_video_llm.models.face import Face, SeenFace
from natural_video_llm.models.temporal_encoder import LatentBasis

HORIZONS_S = (0.5, 1.0, 2.0)
TOLERANCE_S = 0.2  # a frame that far from the moment asked for still shows it
SLOPE_S = 0.5


@dataclass(frozen=True)
class Reaction:
    """How a face moved after each of some moments, and what was expected of it.

    Every tensor but `known` is a change from the moment's own frame, [moments, horizons, components], in standard
    deviations of a component of the basis.

    Args:
        actual: what happened.
        predicted: by the model.
        continued: the movement of the last SLOPE_S seconds, going on in a straight line.
        relaxed: back to the person's neutral as it is known by then.
        known: [moments, horizons] bool, whether the face was in view both at the moment and the horizon after it.
    """

    actual: Tensor
    predicted: Tensor
    continued: Tensor
    relaxed: Tensor
    known: Tensor

    def loss(self, moments: int | None = None) -> Tensor:
        """Mean squared error over what is known; 0 where nothing is.

        `moments` is how many the mean is over, known or not, where these are a part of them: the parts' losses then
        add up to the whole's.
        """
        total = ((self.predicted - self.actual).square().mean(-1) * self.known).sum()
        return total / (self.known.sum().clamp(min=1) if moments is None else moments * len(HORIZONS_S))

    def squared_errors(self) -> dict[str, Tensor]:
        """By who expected it: mean squared error over components [moments, horizons], 0 where it is not known."""
        expected = {
            "model": self.predicted,
            "stays as it is": torch.zeros_like(self.actual),
            "linear extrapolation": self.continued,
            "back to neutral": self.relaxed,
        }
        return {name: (e - self.actual).square().mean(-1) * self.known for name, e in expected.items()}


@dataclass(frozen=True)
class _Now:
    """The face at each of some moments: components [moments, 2 * components], their slope a second
    [moments, components], encoding [moments, face_size], seen [moments] bool."""

    components: Tensor
    slope: Tensor
    encoding: Tensor
    seen: Tensor


class Moments(NamedTuple):
    """From where it is looked ahead.

    Args:
        hidden: [moments, hidden_size], the LLM's last hidden states.
        times: [moments] float64 seconds.
        rows: [moments], the row of the faces that a moment belongs to.
    """

    hidden: Tensor
    times: Tensor
    rows: Tensor


class ReactionHead(nn.Module):
    """Text and face so far → the face HORIZONS_S seconds later, as a change of its basis components.

    The change is taken of the latents as they are: relative to the person's neutral it would hold the drift of that
    neutral too. Before it has learned anything a face goes back to its neutral: of those who know nothing of text and
    time that one is hard to beat, so that what is learned is what comes on top.
    """

    def __init__(self, hidden_size: int, face_size: int, components: int, size: int = 128):
        super().__init__()
        self.components = components
        self.text = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, size))
        self.face = nn.Linear(face_size, size)
        self.movement = nn.Linear(2 * components, size)
        self.relaxing = nn.Parameter(torch.ones(len(HORIZONS_S), components))
        last = nn.Linear(size, len(HORIZONS_S) * components)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.out = nn.Sequential(nn.GELU(), last)

    def forward(self, moments: Moments, basis: LatentBasis, face: Face, seen: SeenFace, future: Face) -> Reaction:
        """Predict from what was there at each moment, and compare.

        Args:
            face, seen: the face so far and its encodings; frames after a moment do not count for it.
            future: frames up to HORIZONS_S after the last moment, on the same clock; nothing is predicted from them.
        """
        # In bfloat16 the build of a face would drown the change in it.
        with torch.autocast(moments.times.device.type, enabled=False):
            now = _now(moments, basis, face, seen, self.components)
            horizons = torch.tensor(HORIZONS_S, dtype=torch.float64, device=moments.times.device)
            later, known = _nearest(moments.times[:, None] + horizons, moments.rows, basis, future, self.components)
            as_is, relative = now.components.split(self.components, dim=-1)
            # Of how the face is, only what is relative to the neutral: nothing follows from its build.
            movement = self.movement(torch.cat([relative, now.slope], dim=-1))
            mixed = movement + self.face(now.encoding) + self.text(moments.hidden.float())
            relaxed = -relative[:, None]
            predicted = self.relaxing * relaxed + self.out(mixed).unflatten(-1, (len(HORIZONS_S), self.components))
            return Reaction(
                actual=later - as_is[:, None],
                predicted=predicted,
                continued=now.slope[:, None] * horizons.float()[:, None],
                relaxed=relaxed.expand_as(predicted),
                known=known & now.seen[:, None],
            )


def _now(moments: Moments, basis: LatentBasis, face: Face, seen: SeenFace, components: int) -> _Now:
    """The newest frame with a face at each moment, not older than TOLERANCE_S, and where it was heading."""
    rows = moments.rows
    if face.times.shape[1] == 0:
        nothing = moments.hidden.new_zeros(len(rows), 1, dtype=torch.float32)
        movement, slope, encoding = (
            nothing.expand(-1, n) for n in (2 * components, components, seen.encodings.shape[-1])
        )
        return _Now(movement, slope, encoding, torch.zeros_like(rows, dtype=torch.bool))
    age_s = (moments.times[:, None] - face.times[rows]).masked_fill(~face.present[rows], torch.inf)
    age_s = age_s.masked_fill(age_s < 0, torch.inf)
    newest_s, place = age_s.min(-1)
    found = newest_s <= TOLERANCE_S
    movement = basis(face.latents)
    return _Now(
        movement[rows, place] * found[:, None],
        _slope(age_s, movement[..., :components][rows]) * found[:, None],
        seen.encodings[rows, place].float() * found[:, None],
        found,
    )


def _slope(age_s: Tensor, movement: Tensor) -> Tensor:
    """Least-squares slope a second over the last SLOPE_S; age_s [moments, frames], movement [moments, frames,
    components] -> [moments, components], 0 where there is one frame or none."""
    recent = (age_s < SLOPE_S).float()
    time_s = -age_s.masked_fill(age_s >= SLOPE_S, 0.0).float()
    count = recent.sum(-1, keepdim=True).clamp(min=1)
    centred = (time_s - (time_s * recent).sum(-1, keepdim=True) / count) * recent
    spread = centred.square().sum(-1, keepdim=True)
    slope = (centred[:, None] @ movement)[:, 0] / spread.clamp(min=1e-6)
    return slope * (spread > 1e-6)


def _nearest(times: Tensor, rows: Tensor, basis: LatentBasis, face: Face, components: int) -> tuple[Tensor, Tensor]:
    """Components of the frame with a face that is nearest to each of times [moments, horizons] ->
    [moments, horizons, components], and whether there is one within TOLERANCE_S."""
    if face.times.shape[1] == 0:
        known = torch.zeros_like(times, dtype=torch.bool)
        return times.new_zeros(*times.shape, components, dtype=torch.float32), known
    gap_s = (face.times[rows][:, None] - times[..., None]).abs()
    nearest_s, place = gap_s.masked_fill(~face.present[rows][:, None], torch.inf).min(-1)
    found = nearest_s <= TOLERANCE_S
    movement = basis(face.latents)[..., :components]
    return movement[rows[:, None], place] * found[..., None], found
