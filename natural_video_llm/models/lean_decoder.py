"""The decoder for LLMs of Llama's build: the same sums as in transformers, with less around them.

What a token costs on a CPU is reading the weights once, and hundreds of small steps around that. So weights that take
the same input are joined, keys and values lie in memory of their full length from the start, the two rows are one
below the first layer that sees the face, and what was seen is projected once a frame.

All between the weights is float32. Rounded to bfloat16 it would let an unnoticeable difference between two pictures of
one face tip a reply over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from natural_video_llm.models.decoder import Decoder, TransformersDecoder
from natural_video_llm.models.face import SeenFace
from natural_video_llm.models.fusion_transformer import FusionBlock, NaturalVideoLLM, Sight, decoder_layers
from natural_video_llm.models.lean_linear import LeanLinear

_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # tables that do not depend on the length of the text


def lean_fits(model: NaturalVideoLLM, context_tokens: int) -> bool:
    """Whether the LLM is of a build that `LeanWeights` knows, and attends to a whole context."""
    config = model.llm.config
    window = getattr(config, "sliding_window", None)
    windowed = any("sliding" in kind for kind in getattr(config, "layer_types", None) or ())
    if getattr(config, "layer_types", None) is None:
        windowed = window is not None
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    return (
        config.model_type in _MODEL_TYPES
        and rope in _ROPE_TYPES
        and not (windowed and window is not None and window < context_tokens)
    )


def decoder_maker(model: NaturalVideoLLM, context_tokens: int, weights: str = "native") -> Callable[[], Decoder]:
    """What makes decoders of up to `context_tokens`: lean ones over one set of weights where the LLM allows it.

    Args:
        weights: as for `LeanWeights`; of effect only there.
    """
    if not lean_fits(model, context_tokens):
        return lambda: TransformersDecoder(model)
    arranged = LeanWeights(model, context_tokens, weights)
    return lambda: LeanDecoder(arranged)


@dataclass(frozen=True)
class _Layer:
    """One decoder layer. `head_norms` are Qwen3's, over each head's queries and keys."""

    norm: Tensor
    qkv: LeanLinear
    head_norms: tuple[Tensor, Tensor] | None
    out: LeanLinear
    feed_norm: Tensor
    gate_up: LeanLinear
    down: LeanLinear
    act: Any
    block: FusionBlock | None
    unseen: Tensor | None  # [hidden_size], what the block adds where nobody is in view


class LeanWeights:
    """The weights of a model, arranged once for any number of `LeanDecoder`s.

    Args:
        context_tokens: the most that a decoder holds.
        weights: of the LLM's linear maps, one of `WEIGHTS`; with "int4" the head, which is the most sensitive, stays as
            it is.
    """

    @torch.no_grad()
    def __init__(self, model: NaturalVideoLLM, context_tokens: int, weights: str = "native"):
        config = model.llm.config
        self.model, self.context_tokens = model, context_tokens
        self.lowest = min(model.config.fusion_layers)
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        embeddings: Any = model.llm.get_input_embeddings()
        self.embeddings = embeddings.weight.detach()
        body: Any = model.llm.get_decoder()
        self.norm = body.norm.weight.detach().float()
        self.head = LeanLinear([model.llm.get_output_embeddings()], "native" if weights == "int4" else weights)
        layers = decoder_layers(model.llm)
        self.layers = [_arrange(layer, model, i, weights) for i, layer in enumerate(layers)]
        self._rotary = body.rotary_emb
        positions = torch.arange(context_tokens, device=self.embeddings.device)[None]
        self.cos, self.sin = self.rotation(positions)

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [positions, 1, head_size], the sign of the swapped half in the sin, for `rotate`."""
        cos, sin = (table[0] for table in self._rotary(self.norm, positions))
        half = sin.shape[-1] // 2
        return cos[:, None], torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)[:, None]

    def turned_back(self, keys: Tensor, positions: int) -> Tensor:
        """Keys [..., head_size] as they would be that many positions earlier."""
        angle = positions * self._rotary.inv_freq.float()
        cos, sin = angle.cos().repeat(2), -angle.sin()
        return rotate(keys, cos, torch.cat([-sin, sin]))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) in the half-and-half order of transformers."""
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


def _arrange(layer: nn.Module, model: NaturalVideoLLM, number: int, weights: str) -> _Layer:
    attention: Any = layer.self_attn
    feed: Any = layer.mlp
    block = model.blocks[str(number)] if number in model.config.fusion_layers else None
    assert block is None or isinstance(block, FusionBlock)
    head_norms = (
        (attention.q_norm.weight.detach().float(), attention.k_norm.weight.detach().float())
        if hasattr(attention, "q_norm")
        else None
    )
    return _Layer(
        norm=layer.input_layernorm.weight.detach().float(),  # type: ignore[union-attr, operator]
        qkv=LeanLinear([attention.q_proj, attention.k_proj, attention.v_proj], weights),
        head_norms=head_norms,
        out=LeanLinear([attention.o_proj], weights),
        feed_norm=layer.post_attention_layernorm.weight.detach().float(),  # type: ignore[union-attr, operator]
        gate_up=LeanLinear([feed.gate_proj, feed.up_proj], weights),
        down=LeanLinear([feed.down_proj], weights),
        act=feed.act_fn,
        block=block,
        unseen=None if block is None else _unseen(block, model),
    )


def _unseen(block: FusionBlock, model: NaturalVideoLLM) -> Tensor:
    """With nothing but the learned absence to look at, every query sees the same."""
    _, value = block.attention.keys_and_values(model.absence.expand(1, 1, -1))
    return block.feed_forward(block.attention.out(value.transpose(1, 2).flatten(2)))[0, 0]


class LeanDecoder(Decoder):
    """Two rows over one set of `LeanWeights`; its memory is `context_tokens` long from the start."""

    def __init__(self, weights: LeanWeights):
        self.length = 0
        self._weights = weights
        size = (weights.kv_heads, weights.context_tokens, weights.head_size)
        make = weights.norm.new_empty
        self._keys = [make(1 if i < weights.lowest else 2, *size) for i in range(len(weights.layers))]
        self._values = [torch.empty_like(keys) for keys in self._keys]
        self._face: SeenFace | None = None
        self._seen: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def feed(self, ids: Sequence[int], query_times: Sequence[float], face: SeenFace) -> Tensor:
        weights, tokens = self._weights, len(ids)
        if self.length + tokens > weights.context_tokens:
            raise ValueError(f"{self.length} + {tokens} tokens are more than the context of {weights.context_tokens}")
        device = weights.embeddings.device
        x = weights.embeddings[torch.tensor(ids, device=device)].float()
        sight = weights.model.see(face, torch.tensor([query_times], dtype=torch.float64, device=device))
        if face is not self._face:
            blocks = [layer.block for layer in weights.layers if layer.block is not None]
            self._face, self._seen = face, [block.attention.keys_and_values(sight.keys) for block in blocks]
        mask, seen = self._mask(tokens), iter(self._seen)
        for number, layer in enumerate(weights.layers):
            if number == weights.lowest:
                x = x.repeat(2, 1)
            if layer.block is not None:
                x = _look(layer, x, sight, next(seen))
            x = x + layer.out(self._attend(layer, number, x, tokens, mask))
            gate, up = layer.gate_up(self._normed(x, layer.feed_norm)).chunk(2, dim=-1)
            x = x + layer.down(layer.act(gate) * up)
        self.length += tokens
        last = x.unflatten(0, (2, tokens))[:, -1]
        return weights.head(self._normed(last, weights.norm)).log_softmax(-1)

    def cut(self, length: int) -> None:
        self.length = min(length, self.length)

    @torch.no_grad()
    def drop(self, first: int, last: int) -> None:
        """Keys that stay are turned back to their new positions, after StreamingLLM (Xiao et al. 2024)."""
        end = self.length - (last - first)
        for keys, values in zip(self._keys, self._values, strict=True):
            keys[:, :, first:end] = self._weights.turned_back(keys[:, :, last : self.length], last - first)
            values[:, :, first:end] = values[:, :, last : self.length].clone()
        self.length = end

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, weight.shape, weight, self._weights.eps)

    def _mask(self, tokens: int) -> Tensor | None:
        """[groups * tokens, length + tokens] bool, what each query may see; None for one token, which sees all."""
        if tokens == 1:
            return None
        device, groups = self._weights.embeddings.device, self._weights.heads // self._weights.kv_heads
        mask = torch.ones(tokens, self.length + tokens, dtype=torch.bool, device=device).tril(self.length)
        return mask.repeat(groups, 1)

    def _attend(self, layer: _Layer, number: int, x: Tensor, tokens: int, mask: Tensor | None) -> Tensor:
        """x [rows * tokens, hidden] -> the heads' outputs side by side, [rows * tokens, heads * head_size]"""
        weights, start, end = self._weights, self.length, self.length + tokens
        heads, kv_heads = weights.heads, weights.kv_heads
        qkv = layer.qkv(self._normed(x, layer.norm)).view(-1, tokens, heads + 2 * kv_heads, weights.head_size)
        rows = len(qkv)
        both = qkv[:, :, : heads + kv_heads]
        if layer.head_norms is not None:
            queries, keys = both.split([heads, kv_heads], dim=2)
            query_norm, key_norm = layer.head_norms
            both = torch.cat([self._normed(queries, query_norm), self._normed(keys, key_norm)], dim=2)
        both = rotate(both, weights.cos[start:end], weights.sin[start:end])
        self._keys[number][:, :, start:end] = both[:, :, heads:].transpose(1, 2)
        self._values[number][:, :, start:end] = qkv[:, :, heads + kv_heads :].transpose(1, 2)
        # Queries that share a key head lie side by side as if they were more tokens: nothing is repeated.
        queries = both[:, :, :heads].unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        mixed = functional.scaled_dot_product_attention(
            queries, self._keys[number][:, :, :end], self._values[number][:, :, :end], attn_mask=mask
        )
        if tokens == 1:
            return mixed.reshape(rows, -1)
        return mixed.unflatten(2, (-1, tokens)).permute(0, 3, 1, 2, 4).reshape(rows * tokens, -1)


def _look(layer: _Layer, x: Tensor, sight: Sight, seen: tuple[Tensor, Tensor]) -> Tensor:
    """What `FusionBlock` does: of x [2 * tokens, hidden] the first half sees the face, the second nobody."""
    block, tokens = layer.block, len(x) // 2
    assert block is not None
    assert layer.unseen is not None
    normed = block.norm(x)
    weight = block.gate.tanh() * block.relevance(normed).sigmoid()
    bias = block.attention.bias(sight.time_features, sight.visible)
    added = block.feed_forward(block.attention.attend(normed[None, :tokens], *seen, bias))[0]
    return x + weight * torch.cat([added, layer.unseen.expand(tokens, -1)])
