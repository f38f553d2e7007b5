"""Attention to a face that is aligned in seconds: any frame rate, any length of conversation."""

import torch
from torch import Tensor, nn
from torch.nn import functional


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

    def __init__(self, query_size: int, key_size: int, size: int, heads: int, time: RelativeTime):
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
        return self.attend(queries, *self.keys_and_values(keys), self.bias(time_features, visible))

    def keys_and_values(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """What `attend` takes, [batch, heads, k, size / heads] each; the same for as long as nothing new is seen."""
        key, value = (self._split(part) for part in self.key_value(keys).chunk(2, dim=-1))
        return key, value

    def bias(self, time_features: Tensor, visible: Tensor) -> Tensor:
        """What is added to the scores, [batch, heads, q, k]."""
        bias = self.time_curve(time_features).permute(0, 3, 1, 2)
        return bias.masked_fill(~visible[:, None], float("-inf"))

    def attend(self, queries: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """queries [batch, q, query_size] -> [batch, q, size]"""
        query = self._split(self.query(queries))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
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
