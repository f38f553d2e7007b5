"""Latents over time: from single frames to what a face is doing. Pooling, recurrent or a small transformer, by name."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from natural_video_llm.models.face import Face
from natural_video_llm.models.timed_attention import RelativeTime, TimedAttention

TEMPORAL_ENCODERS = ("mean", "max", "attention", "gru", "transformer")
_SEEN_ABOUT_THEN = 1e-2  # the weight in a bump below which nothing was seen there


class LatentBasis(nn.Module):
    """The directions in which faces move: a fixed principal-component basis of the neutral-relative latents.

    Fitted once on the training data, without any label. How people differ in build is the largest variance of all and
    says nothing; taken from relative latents, the basis holds movement only, and both halves of a latent (as it is,
    relative to the person's neutral) are read along the same directions.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, latent_size: int, components: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_size))
        self.register_buffer("directions", torch.zeros(latent_size // 2, components))

    @torch.no_grad()
    def fit(self, latents: Tensor, floor: float = 0.02) -> None:
        """Take the basis from latents [frames, latent_size].

        Components are scaled to unit variance; those whose standard deviation is below `floor` times the largest
        one are scaled as if they had that much, so that landmark noise is not blown up.
        """
        latents = latents.float()
        self.mean.copy_(latents.mean(0))
        relative = (latents - self.mean)[:, latents.shape[1] // 2 :]
        values, vectors = torch.linalg.eigh(relative.T @ relative / len(relative))
        count = min(self.directions.shape[1], len(values))
        deviation = values.flip(0)[:count].clamp(min=0).sqrt()
        self.directions.zero_()
        scale = deviation.clamp(min=float(deviation[0]) * floor + 1e-8)
        self.directions[:, :count] = vectors.flip(1)[:, :count] / scale

    def forward(self, latents: Tensor) -> Tensor:
        """[..., latent_size] -> [..., 2 * components]"""
        halves = (latents.float() - self.mean).unflatten(-1, (2, -1))
        return (halves @ self.directions).flatten(-2)


class TemporalEncoder(nn.Module, ABC):
    """What every temporal encoder keeps to.

    - Causal: a frame's encoding depends on that frame and earlier ones, so that a stream and a file agree.
    - Bounded: on those of the last `memory_s` seconds and on nothing else, so that a live conversation keeps a ring of
      `window_s + memory_s` seconds of latents.
    - By time: what counts is the seconds between two frames, never how many lie between them.
    - Frames without a face are skipped by all others; what is given for them means nothing and is never looked at.

    `training_noise`, in standard deviations of a component, is added while training: landmarks tremble differently on
    every camera, and a few faces are soon known by heart.
    """

    def __init__(self, latent_size: int, components: int, size: int, reach_s: float):
        super().__init__()
        self.size, self.training_noise = size, 0.0
        self.basis = LatentBasis(latent_size, components)
        self.relative_time = RelativeTime(reach_s, bumps=12)

    @property
    def memory_s(self) -> float:
        """How far back a frame's encoding looks."""
        return self.relative_time.window_s

    def forward(self, face: Face) -> Tensor:
        """-> encodings [batch, frames, size]"""
        x = self.basis(face.latents)
        if self.training and self.training_noise:
            x = x + self.training_noise * torch.randn_like(x)
        if x.shape[1] == 0:
            return x.new_zeros(len(x), 0, self.size)
        return self._encode(x, *self.relative_time(face.times, face.times, face.present))

    @abstractmethod
    def _encode(self, x: Tensor, time_features: Tensor, visible: Tensor) -> Tensor:
        """x [batch, frames, 2 * components], time_features [batch, frames, frames, bumps], visible [batch, frames,
        frames] (of a frame without a face, not even itself) -> [batch, frames, size]"""


class TemporalMean(TemporalEncoder):
    """Each frame by itself, then the mean over the last `reach_s` seconds: what a face was like, in no order."""

    def __init__(self, latent_size: int, components: int, size: int, reach_s: float):
        super().__init__(latent_size, components, size, reach_s)
        self.inner = _per_frame(2 * components, size)
        self.norm = nn.LayerNorm(size)

    def _encode(self, x: Tensor, time_features: Tensor, visible: Tensor) -> Tensor:
        share = visible / visible.sum(-1, keepdim=True).clamp(min=1)
        return self.norm(share @ self.inner(x).float())


class TemporalMax(TemporalEncoder):
    """Each frame by itself, then the largest value of each number over the last `reach_s` seconds."""

    def __init__(self, latent_size: int, components: int, size: int, reach_s: float):
        super().__init__(latent_size, components, size, reach_s)
        self.inner = _per_frame(2 * components, size)
        self.norm = nn.LayerNorm(size)

    def _encode(self, x: Tensor, time_features: Tensor, visible: Tensor) -> Tensor:
        return self.norm(_visible_max(self.inner(x), visible))


class TemporalAttention(TemporalEncoder):
    """Attention pooling over the last `reach_s` seconds: learned queries, the same for every frame, look for what they
    have learned to look for, each head along a learned curve over time."""

    def __init__(self, latent_size: int, components: int, size: int, heads: int, reach_s: float):
        super().__init__(latent_size, components, size, reach_s)
        self.inner = _per_frame(2 * components, size)
        self.query = nn.Parameter(0.02 * torch.randn(size))
        self.attention = TimedAttention(size, size, size, heads, self.relative_time)
        self.norm = nn.LayerNorm(size)

    def _encode(self, x: Tensor, time_features: Tensor, visible: Tensor) -> Tensor:
        inner = self.inner(x)
        queries = self.query.to(inner.dtype).expand(*inner.shape[:2], -1)
        return self.norm(self.attention(queries, inner, time_features, _or_itself(visible)))


class TemporalGRU(TemporalEncoder):
    """A gated recurrent unit (Cho et al. 2014) that reads the last `reach_s` seconds anew for every frame.

    Run on without end, its memory would have none. It starts afresh at each frame instead and takes one step for each
    bump of relative time, the oldest first; a step reads the mean of the frames about then, and is left out where
    there are none. So it costs the same number of steps at any frame rate.
    """

    def __init__(self, latent_size: int, components: int, size: int, reach_s: float):
        super().__init__(latent_size, components, size, reach_s)
        self.cell = nn.GRUCell(2 * components, size)
        self.norm = nn.LayerNorm(size)

    def _encode(self, x: Tensor, time_features: Tensor, visible: Tensor) -> Tensor:
        weights = time_features * visible[..., None]
        total = weights.sum(2)[..., None]
        # Divided first: summed in bfloat16 and divided after, a mean would be off by half a per cent.
        shares = weights / total.clamp(min=_SEEN_ABOUT_THEN).transpose(2, 3)
        steps = torch.einsum("bqkn,bkc->bqnc", shares, x.float()).flatten(0, 1)
        seen = (total > _SEEN_ABOUT_THEN).flatten(0, 1)
        state = x.new_zeros(len(steps), self.cell.hidden_size)
        for step in range(steps.shape[1] - 1, -1, -1):
            state = torch.where(seen[:, step], self.cell(steps[:, step], state).to(state.dtype), state)
        return self.norm(state.unflatten(0, x.shape[:2]))


class TemporalTransformer(TemporalEncoder):
    """A small causal transformer over latents; in each layer a frame sees the `reach_s` seconds before it."""

    def __init__(self, latent_size: int, components: int, size: int, heads: int, layers: int, reach_s: float):
        super().__init__(latent_size, components, size, reach_s)
        self.inner = nn.Linear(2 * components, size)
        self.layers = nn.ModuleList(_TemporalLayer(size, heads, self.relative_time) for _ in range(layers))
        self.norm = nn.LayerNorm(size)

    @property
    def memory_s(self) -> float:
        return len(self.layers) * self.relative_time.window_s

    def _encode(self, x: Tensor, time_features: Tensor, visible: Tensor) -> Tensor:
        x, visible = self.inner(x), _or_itself(visible)
        for layer in self.layers:
            x = layer(x, time_features, visible)
        return self.norm(x)


class _TemporalLayer(nn.Module):
    def __init__(self, size: int, heads: int, time: RelativeTime):
        super().__init__()
        self.attention_norm = nn.LayerNorm(size)
        self.attention = TimedAttention(size, size, size, heads, time)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size)
        )

    def forward(self, x: Tensor, time_features: Tensor, visible: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed, time_features, visible)
        return x + self.feed_forward(x)


def make_temporal_encoder(
    name: str, *, latent_size: int, components: int, size: int, heads: int, layers: int, reach_s: float
) -> TemporalEncoder:
    """The temporal encoder called `name`, one of TEMPORAL_ENCODERS.

    Args:
        size: of an encoding.
        heads: of the attention, where there is any.
        layers: of the transformer; the others have one.
        reach_s: how far back one layer sees.

    Raises:
        ValueError: there is none of that name.
    """
    match name:
        case "mean":
            return TemporalMean(latent_size, components, size, reach_s)
        case "max":
            return TemporalMax(latent_size, components, size, reach_s)
        case "attention":
            return TemporalAttention(latent_size, components, size, heads, reach_s)
        case "gru":
            return TemporalGRU(latent_size, components, size, reach_s)
        case "transformer":
            return TemporalTransformer(latent_size, components, size, heads, layers, reach_s)
    raise ValueError(f"no temporal encoder {name!r}; choose one of {', '.join(TEMPORAL_ENCODERS)}")


def _per_frame(inputs: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, size), nn.GELU(), nn.Linear(size, size))


def _or_itself(visible: Tensor) -> Tensor:
    """A frame without a face sees itself, or softmax over nothing would give NaN."""
    return visible | torch.eye(visible.shape[-1], dtype=torch.bool, device=visible.device)


def _visible_max(x: Tensor, visible: Tensor) -> Tensor:
    """The maximum of x [batch, frames, size] over the visible frames of each row of visible [batch, frames, frames];
    0 where none is.

    What a row sees is a range of the frames with a face, so that two overlapping maxima over 1, 2, 4 … frames give it
    (a sparse table): the cost grows with the logarithm of the stretch, where one maximum a row would take its length.
    """
    frames = x.shape[1]
    first = visible.int().argmax(-1)
    last = frames - 1 - visible.flip(-1).int().argmax(-1)
    present = visible.diagonal(dim1=1, dim2=2)
    tables = [x.masked_fill(~present[..., None], float("-inf"))]
    while 2 ** len(tables) <= frames:
        shorter, half = tables[-1], 2 ** (len(tables) - 1)
        shifted = functional.pad(shorter[:, half:], (0, 0, 0, half), value=float("-inf"))
        tables.append(torch.maximum(shorter, shifted))
    level = torch.frexp((last - first + 1).clamp(min=1).float()).exponent.long() - 1
    batch = torch.arange(len(x), device=x.device)[:, None]
    levels = torch.stack(tables)
    found = torch.maximum(levels[level, batch, first], levels[level, batch, last + 1 - 2**level])
    return found.masked_fill(~visible.any(-1, keepdim=True), 0.0)
