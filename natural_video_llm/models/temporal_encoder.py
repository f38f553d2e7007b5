"""Latents over time: from single frames to what a face is doing."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from natural_video_llm.models.face import Face


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


class RelativeTime(nn.Module):
    """Seconds between a query and a latent as smooth bumps: continuous, so that any frame rate will do.

    Only latents with 0 <= query time - latent time < window are visible.
    """

    centres: Tensor

    def __init__(self, window_s: float, bumps: int = 16):
        super().__init__()
        self.window_s, self.bumps = window_s, bumps
        # Denser near zero: what happened just now is told apart more finely than what was seconds ago.
        self.register_buffer("centres", window_s * torch.linspace(0, 1, bumps) ** 1.5, persistent=False)

    def forward(self, query_times: Tensor, times: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """query_times [batch, queries], times and present [batch, frames] -> features [batch, queries, frames, bumps],
        visible [batch, queries, frames]"""
        age_s = (query_times.double()[:, :, None] - times[:, None, :]).float()
        visible = (age_s >= 0) & (age_s < self.window_s) & present[:, None, :]
        width = 0.5 * self.window_s / self.bumps * (1 + 2 * self.centres / self.window_s)
        return torch.exp(-0.5 * ((age_s[..., None] - self.centres) / width) ** 2), visible


class TimedAttention(nn.Module):
    """Multi-head attention whose scores are shifted by a learned curve over relative time, one curve a head.

    The curves start as slopes of different steepness (as in ALiBi, Press et al. 2022): heads that look at now, at the
    last second and at the whole window, so that the order of things can be seen from the first step.
    """

    def __init__(self, query_size: int, key_size: int, size: int, heads: int, time: "RelativeTime"):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(query_size, size)
        self.key_value = nn.Linear(key_size, 2 * size, bias=False)
        self.time_curve = nn.Linear(time.bumps, heads, bias=False)
        slopes = torch.tensor([0.0, *(0.5 * 2.0**i for i in range(heads - 1))])
        with torch.no_grad():
            self.time_curve.weight.copy_(-slopes[:, None] * (2 * time.centres / time.window_s))
        self.out = nn.Linear(size, size, bias=False)

    def forward(self, queries: Tensor, keys: Tensor, time_features: Tensor, visible: Tensor) -> Tensor:
        """queries [batch, q, query_size], keys [batch, k, key_size], time_features [batch, q, k, bumps],
        visible [batch, q, k] with at least one True in each row -> [batch, q, size]"""
        query = self._split(self.query(queries))
        key, value = (self._split(part) for part in self.key_value(keys).chunk(2, dim=-1))
        bias = self.time_curve(time_features).permute(0, 3, 1, 2)
        bias = bias.masked_fill(~visible[:, None], float("-inf")).to(query.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).flatten(2))

    @torch.no_grad()
    def begin_as(self, other: "TimedAttention", query: Tensor) -> None:
        """Attend at first as `other` does for the one query [query_size of other], hardly minding the own queries."""
        self.query.weight.mul_(0.02)
        self.query.bias.copy_(other.query(query))
        for name in ("key_value", "time_curve", "out"):
            getattr(self, name).load_state_dict(getattr(other, name).state_dict())

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class TemporalTransformer(nn.Module):
    """A small causal transformer over latents; each frame sees the `reach_s` seconds before it.

    With two layers a frame's encoding depends on the last 2 * reach_s seconds and on nothing else, so a ring of
    window_s + 2 * reach_s seconds of latents is all that a live conversation has to keep.

    `training_noise`, in standard deviations of a component, is added while training: landmarks tremble differently on
    every camera, and a few faces are soon known by heart.
    """

    def __init__(self, latent_size: int, components: int, size: int, heads: int, layers: int, reach_s: float):
        super().__init__()
        self.training_noise = 0.0
        self.basis = LatentBasis(latent_size, components)
        self.inner = nn.Linear(2 * components, size)
        self.relative_time = RelativeTime(reach_s, bumps=12)
        self.layers = nn.ModuleList(_TemporalLayer(size, heads, self.relative_time) for _ in range(layers))
        self.norm = nn.LayerNorm(size)

    @property
    def memory_s(self) -> float:
        """How far back a frame's encoding looks."""
        return len(self.layers) * self.relative_time.window_s

    def forward(self, face: Face) -> Tensor:
        """-> encodings [batch, frames, size]; those of frames without a face mean nothing and are never looked at"""
        x = self.basis(face.latents)
        if self.training and self.training_noise:
            x = x + self.training_noise * torch.randn_like(x)
        x = self.inner(x)
        if x.shape[1] == 0:
            return x
        features, visible = self.relative_time(face.times, face.times, face.present)
        # A frame without a face sees itself, or softmax over nothing would give NaN.
        visible = visible | torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        for layer in self.layers:
            x = layer(x, features, visible)
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
