"""Any Hugging Face causal LM, with gated cross-attention to the face as it is when each next token appears.

After Flamingo (Alayrac et al. 2022): blocks between frozen layers, tanh gates that start at zero. Ours are aligned
in seconds instead of by position in the prompt.
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from natural_video_llm.models.face import Face, SeenFace
from natural_video_llm.models.lora import add_lora, lora_enabled, merge_lora, remove_lora
from natural_video_llm.models.loss import ContrastiveHead
from natural_video_llm.models.reaction import Moments, Reaction, ReactionHead
from natural_video_llm.models.temporal_encoder import make_temporal_encoder
from natural_video_llm.models.timed_attention import RelativeTime, TimedAttention

CONFIG_FILE, WEIGHTS_FILE = "config.json", "adapter.safetensors"
_RELEVANT = 2.0  # before anything is learned the face matters nearly everywhere: sigmoid(2) = 0.88


@dataclass(frozen=True)
class FusionConfig:
    """Everything that, beside the weights, makes an adapter; saved as config.json.

    Args:
        base_llm, base_llm_sha256: which LLM it was trained on; never copied in.
        encoder, encoder_sha256: which latents it reads, and the encoder weights that made them.
        latent_size: numbers a frame, neutral-relative half included.
        window_s: how far back a token sees.
        fusion_layers: the LLM's layers before which a block stands.
        reach_s: how far back one layer of the temporal encoder sees.
        temporal_layers: of the transformer; other temporal encoders have one.
        temporal_encoder: its name, one of `TEMPORAL_ENCODERS`.
        reaction: whether there is a head that predicts what the face will do next.
        lora_rank: 0 leaves the LLM frozen; else LoRA of that rank from the first fusion layer upwards.
    """

    base_llm: str
    base_llm_sha256: str
    encoder: str
    encoder_sha256: str
    latent_size: int
    fusion_layers: tuple[int, ...]
    window_s: float = 3.0
    reach_s: float = 1.0
    components: int = 16
    face_size: int = 192
    heads: int = 6
    temporal_layers: int = 2
    lora_rank: int = 0
    neutral_memory_s: float = 20.0
    temporal_encoder: str = "transformer"
    reaction: bool = False


class FusionOutput(NamedTuple):
    """logits [batch, tokens, vocabulary], or [kept, vocabulary] where `keep` chose positions; the LLM's cache; the
    encoded face (None without one); the last hidden states, shaped as the logits are."""

    logits: Tensor
    past_key_values: Any
    face: SeenFace | None
    hidden: Tensor


class FusionBlock(nn.Module):
    """x + gate * relevance(x) * feed-forward(attention of x to the face); the gate starts at zero.

    Flamingo's feed-forward reads the text as well. Ours reads only what was seen: with a few hundred utterances the
    other learns them by heart, and the face with them. Of the text it takes one number a token, how much the face
    matters there, so that words which have nothing to do with it can stay as they are.
    """

    def __init__(self, hidden_size: int, face_size: int, heads: int, time: RelativeTime):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.attention = TimedAttention(hidden_size, face_size, face_size, heads, time)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(face_size),
            nn.Linear(face_size, 2 * face_size),
            nn.GELU(),
            nn.Linear(2 * face_size, hidden_size),
        )
        self.gate = nn.Parameter(torch.zeros(1))
        self.relevance = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.relevance.weight)
        nn.init.constant_(self.relevance.bias, _RELEVANT)

    def forward(self, hidden: Tensor, sight: "Sight") -> Tensor:
        """hidden [batch, tokens, hidden_size] -> same"""
        x = hidden.float()
        normed = self.norm(x)
        seen = self.attention(normed, sight.keys, sight.time_features, sight.visible)
        weight = self.gate.tanh() * self.relevance(normed).sigmoid()
        return (x + weight * self.feed_forward(seen)).to(hidden.dtype)


class _ReachedFusion(Exception):  # noqa: N818 - it is no error, it ends a forward pass early
    pass


class Sight(NamedTuple):
    """What the tokens of one forward pass can see: keys [batch, 1 + frames, face_size] (the learned absence first),
    time_features [batch, tokens, 1 + frames, bumps], visible [batch, tokens, 1 + frames]."""

    keys: Tensor
    time_features: Tensor
    visible: Tensor


class NaturalVideoLLM(nn.Module):
    """A causal LM that sees a face.

    `face=None` bypasses every adapter: the base LLM, bit for bit. `Face.absent(...)` is something else: the adapted
    model, knowing that nobody is in view.
    """

    def __init__(self, llm: PreTrainedModel, config: FusionConfig):
        super().__init__()
        self.config = config
        text = llm.config.get_text_config()
        layers = decoder_layers(llm)
        if not config.fusion_layers or not all(0 <= i < len(layers) for i in config.fusion_layers):
            raise ValueError(f"fusion_layers {config.fusion_layers} do not fit an LLM of {len(layers)} layers")
        llm.requires_grad_(False)
        if config.lora_rank:
            add_lora(llm, config.lora_rank, layers[min(config.fusion_layers) :])
        self.llm = llm
        self.temporal_encoder = make_temporal_encoder(
            config.temporal_encoder,
            latent_size=config.latent_size,
            components=config.components,
            size=config.face_size,
            heads=config.heads,
            layers=config.temporal_layers,
            reach_s=config.reach_s,
        )
        self.absence = nn.Parameter(0.02 * torch.randn(config.face_size))
        self.relative_time = RelativeTime(config.window_s)
        self.blocks = nn.ModuleDict(
            {
                str(i): FusionBlock(text.hidden_size, config.face_size, config.heads, self.relative_time)
                for i in config.fusion_layers
            }
        )
        self.contrastive = ContrastiveHead(
            _width(llm.get_input_embeddings()), config.face_size, config.heads, self.relative_time
        )
        if config.reaction:
            self.reaction = ReactionHead(_width(llm.get_output_embeddings()), config.face_size, config.components)
        self._sight: Sight | None = None
        self._keep: Tensor | None = None
        self._text_hidden: Tensor | None = None
        self._last_hidden: Tensor | None = None
        self._is_read = self._stop_at_fusion = False
        lowest = min(config.fusion_layers)
        self._lower_layers = list(layers[:lowest])
        for layer in self._lower_layers:
            self._skip_when_read(layer)
        self._hooks = [
            layers[i].register_forward_pre_hook(self._look(self.blocks[str(i)], i == lowest), with_kwargs=True)
            for i in config.fusion_layers
        ]
        head = llm.get_output_embeddings()
        self._hooks.append(head.register_forward_pre_hook(lambda _, args: self._select(args)))

    def detach(self) -> None:
        """Give the LLM back as it was, so that another adapter can be put onto it."""
        for hook in self._hooks:
            hook.remove()
        for layer in self._lower_layers:
            layer.__dict__.pop("forward", None)
        remove_lora(self.llm)

    @torch.no_grad()
    def merge_lora(self) -> None:
        """Add what LoRA has learned to the LLM's own weights, for good: `face=None` then gives that LLM."""
        merge_lora(self.llm)
        self.config = replace(self.config, lora_rank=0)

    @property
    def memory_s(self) -> float:
        """Seconds of latents that can still change the next token; older ones need not be kept."""
        return self.config.window_s + self.temporal_encoder.memory_s

    def forward(
        self,
        input_ids: Tensor,
        query_times: Tensor | None = None,
        face: Face | SeenFace | None = None,
        *,
        text_hidden: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        keep: Tensor | None = None,
    ) -> FusionOutput:
        """Run the LLM over input_ids [batch, tokens].

        Args:
            query_times: [batch, tokens] float64 seconds; position i looks at the face as it is at query_times[:, i],
                the time of token i + 1. Needed with a face.
            face: what was filmed; None for the base LLM.
            text_hidden: what `read` gave for these tokens: the layers below the fusion are not run again.
            keep: [batch, tokens] bool, positions whose logits are wanted; all by default.
        """
        if face is None and text_hidden is not None:
            raise ValueError("text_hidden goes with a face: without one nothing but the base LLM runs")
        if isinstance(face, Face):
            face = self.encode(face)
        if face is not None:
            if query_times is None:
                raise ValueError("a face needs query_times")
            self._sight = self.see(face, query_times)
        self._keep, self._text_hidden, self._is_read = keep, text_hidden, text_hidden is not None
        try:
            with lora_enabled(self.llm, face is not None):
                out = self.llm(
                    input_ids=input_ids,
                    attention_mask=attention_mask,
                    past_key_values=past_key_values,
                    use_cache=use_cache,
                )
            assert self._last_hidden is not None
            return FusionOutput(out.logits, out.past_key_values, face, self._last_hidden)
        finally:
            self._sight = self._keep = self._text_hidden = self._last_hidden = None
            self._is_read = False

    def encode(self, face: Face) -> SeenFace:
        """Run the temporal encoder."""
        return SeenFace(self.temporal_encoder(face), face.times, face.present)

    def match(
        self,
        ids: Tensor,
        pieces: Tensor,
        query_times: Tensor,
        face: SeenFace,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Contrastive loss between tokens ids [batch, tokens] and the face at their times, see `ContrastiveHead`."""
        return self.contrastive(ids, self.llm.get_input_embeddings()(ids), pieces, query_times, face, gather)

    def react(self, out: FusionOutput, keep: Tensor, query_times: Tensor, face: Face, future: Face) -> Reaction:
        """What the face does after the positions `keep` [batch, tokens] of a pass, and what was expected of it.

        Args:
            out: of the pass, with that `keep`.
            query_times, face: what the pass was given.
            future: the face up to `HORIZONS_S` after the last query time; `face` may be part of it.

        Raises:
            ValueError: this model has no reaction head, or the pass saw no face.
        """
        if not self.config.reaction or out.face is None:
            raise ValueError("reactions need a model made with reaction=True, and a face")
        moments = Moments(out.hidden, query_times[keep], keep.nonzero()[:, 0])
        return self.reaction(moments, self.temporal_encoder.basis, face, out.face, future)

    def look_as_matched(self) -> None:
        """Let every block begin with the attention that matching has taught: what to look at need not be learned
        again, from far fewer tokens, through the LLM."""
        for block in self.blocks.values():
            assert isinstance(block, FusionBlock)
            block.attention.begin_as(self.contrastive.attention, self.contrastive.query)

    @torch.no_grad()
    def read(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states below the fusion, [batch, tokens, hidden]: no face reaches them and no training changes them,
        so that they need computing once a text."""
        self._stop_at_fusion = True
        try:
            self.llm.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        except _ReachedFusion:
            assert self._text_hidden is not None
            return self._text_hidden
        finally:
            self._stop_at_fusion, self._text_hidden = False, None
        raise RuntimeError("the LLM never came to its first fusion layer")

    def see(self, face: SeenFace, query_times: Tensor) -> Sight:
        """What tokens with query_times [batch, tokens] see of a face."""
        features, visible = self.relative_time(query_times, face.times, face.present)
        absence = self.absence.expand(len(face.encodings), 1, -1)
        return Sight(
            keys=torch.cat([absence.to(face.encodings.dtype), face.encodings], dim=1),
            time_features=nn.functional.pad(features, (0, 0, 1, 0)),
            visible=nn.functional.pad(visible, (1, 0), value=True),
        )

    def _skip_when_read(self, layer: nn.Module) -> None:
        run = layer.forward

        def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return hidden_states if self._is_read else run(hidden_states, *args, **kwargs)

        layer.forward = forward

    def _look(self, block: nn.Module, first: bool) -> Any:
        def hook(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            if self._sight is None and not self._stop_at_fusion:
                return args, kwargs
            hidden = args[0] if args else kwargs["hidden_states"]
            if first:
                hidden = self._text_hidden = self._text_hidden if self._is_read else hidden.detach()
            if self._stop_at_fusion:
                raise _ReachedFusion
            seen = block(hidden, self._sight)
            return ((seen, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": seen})

        return hook

    def _select(self, args: tuple) -> tuple:
        # Flattened before the head: on CPU a bf16 product with a non-contiguous 3-d slice is 20 times slower.
        self._last_hidden = args[0] if self._keep is None else args[0][self._keep]
        return (self._last_hidden, *args[1:])

    def adapter_state(self) -> dict[str, Tensor]:
        """Everything but the base LLM's own weights: parameters and buffers by name."""
        state = self.state_dict()
        return {k: v for k, v in state.items() if not k.startswith("llm.") or ".lora_" in k}

    def trained_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.named_parameters() if p.requires_grad]

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and the adapter alone, each beside its place and renamed."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in self.adapter_state().items()}
        save_file(weights, folder / f".{WEIGHTS_FILE}", metadata={"format": "pt"})
        (folder / f".{CONFIG_FILE}").write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        for name in (WEIGHTS_FILE, CONFIG_FILE):
            (folder / f".{name}").replace(folder / name)

    @classmethod
    def from_pretrained(cls, folder: Path, llm: PreTrainedModel) -> "NaturalVideoLLM":
        """Read back what `save_pretrained` wrote, onto a freshly loaded base LLM.

        Raises:
            FileNotFoundError, KeyError, ValueError: the folder holds no whole adapter.
        """
        model = cls(llm, read_config(folder))
        weights = load_file(folder / WEIGHTS_FILE)
        expected = model.adapter_state().keys()
        if weights.keys() != expected:
            odd = sorted(weights.keys() ^ expected)[:3]
            raise ValueError(f"{folder / WEIGHTS_FILE} does not fit its {CONFIG_FILE}: {', '.join(odd)}")
        model.load_state_dict(weights, strict=False)
        return model


def read_config(folder: Path) -> FusionConfig:
    fields = json.loads((folder / CONFIG_FILE).read_text())
    return FusionConfig(**{**fields, "fusion_layers": tuple(fields["fusion_layers"])})


def default_fusion_layers(num_hidden_layers: int, every: int = 4) -> tuple[int, ...]:
    """Every fourth (or `every`-th) layer of the upper half: the lower half reads words, and needs no gradient while
    training."""
    return tuple(range((num_hidden_layers + 1) // 2, num_hidden_layers, every)) or (num_hidden_layers - 1,)


def decoder_layers(llm: PreTrainedModel) -> nn.ModuleList:
    """The list of a causal LM's decoder layers, past the towers that a multimodal one has beside them.

    Raises:
        ValueError: it has none, or keeps no key-value cache.
    """
    count = llm.config.get_text_config().num_hidden_layers
    if "past_key_values" not in inspect.signature(llm.forward).parameters:
        raise ValueError(f"{type(llm).__name__} has no key-value cache; choose a decoder with attention")
    for module in llm.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(f"{type(llm).__name__}: no list of {count} decoder layers found")


def _width(module: nn.Module) -> int:
    """Of the vectors that an embedding gives or a linear map takes: not in every LLM that of its layers."""
    assert isinstance(module.weight, Tensor)
    return module.weight.shape[1]
