"""A decoder holds the text so far: what is cut, dropped or fed in pieces leaves no trace in what comes next."""

import math

import pytest
import torch
from tiny_llms import FAMILIES, LATENT_SIZE, VOCABULARY, make_face, make_model
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from natural_video_llm.models.decoder import Decoder, TransformersDecoder
from natural_video_llm.models.face import Face, SeenFace
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.models.lean_decoder import LeanDecoder, LeanWeights, lean_fits, rotate
from natural_video_llm.models.lean_linear import LeanLinear

CONTEXT = 64
IDS = torch.randint(0, VOCABULARY, (30,), generator=torch.Generator().manual_seed(4)).tolist()
TIMES = [1.0 + i / 10 for i in range(len(IDS))]
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
LEAN: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SIZES),
    "yarn": LlamaConfig(**_SIZES, rope_parameters=YARN, max_position_embeddings=128),
    "qwen2": Qwen2Config(**_SIZES),
    "qwen3": Qwen3Config(**_SIZES, head_dim=8, tie_word_embeddings=True),
    "mistral": MistralConfig(**_SIZES, sliding_window=None),
}


def lean_model(family: str, **settings: object) -> NaturalVideoLLM:
    torch.manual_seed(0)
    return make_model(AutoModelForCausalLM.from_config(LEAN[family]).eval(), **settings)


@torch.no_grad()
def seen_by(model: NaturalVideoLLM) -> SeenFace:
    return model.encode(make_face(batch=1))


def pieces(decoder: Decoder, face: SeenFace, sizes: tuple[int, ...]) -> torch.Tensor:
    """What is predicted behind each piece."""
    found, first = [], decoder.length
    for size in sizes:
        found.append(decoder.feed(IDS[first : first + size], TIMES[first : first + size], face))
        first += size
    return torch.stack(found)


@torch.no_grad()
def whole(model: NaturalVideoLLM, ids: list[int], times: list[float], face: Face) -> torch.Tensor:
    """[tokens, 2, vocabulary] by the model's own pass over the whole text, once for each row."""
    queries = torch.tensor([times], dtype=torch.float64)
    rows = [model(torch.tensor([ids]), queries, seen).logits[0] for seen in (face, Face.absent(1, LATENT_SIZE))]
    return torch.stack(rows, dim=1).log_softmax(-1)


def test_two_rows_are_two_runs(llm: PreTrainedModel) -> None:
    model = make_model(llm)
    expected = whole(model, IDS, TIMES, make_face(batch=1))
    found = pieces(TransformersDecoder(model), seen_by(model), (3, 1, 5, 1, 1))
    assert torch.allclose(found, expected[[2, 3, 8, 9, 10]], atol=1e-4)
    assert not torch.allclose(found[:, 0], found[:, 1], atol=1e-3)


def test_what_was_cut_leaves_no_trace(llm: PreTrainedModel) -> None:
    model = make_model(llm)
    face, decoder = seen_by(model), TransformersDecoder(model)
    decoder.feed([5] * 6, [3.0] * 6, face)
    decoder.cut(0)
    pieces(decoder, face, (4,))
    decoder.feed([7, 8, 9], [3.0] * 3, face)
    decoder.cut(4)
    assert decoder.length in (0, 4), "a sliding window cannot go back"
    rest = pieces(decoder, face, (10 - decoder.length, 1))
    assert torch.allclose(rest, pieces(TransformersDecoder(model), face, (10, 1)), atol=1e-4)


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("family", sorted(LEAN))
def test_the_lean_path_is_the_llms_own(family: str, lora_rank: int) -> None:
    model = lean_model(family, lora_rank=lora_rank)
    assert lean_fits(model, CONTEXT)
    expected = whole(model, IDS, TIMES, make_face(batch=1))
    face, decoder = seen_by(model), LeanDecoder(LeanWeights(model, CONTEXT))
    found = pieces(decoder, face, (3, 1, 5, 1, 1))
    assert torch.allclose(found, expected[[2, 3, 8, 9, 10]], atol=1e-4)
    decoder.feed([7, 8, 9], [3.0] * 3, face)
    decoder.cut(9)
    assert torch.allclose(pieces(decoder, face, (4, 1)), expected[[12, 13]], atol=1e-4)
    again = whole(model, IDS, TIMES, make_face(batch=1))
    assert torch.equal(again, expected), "the model itself is as it was"


@pytest.mark.parametrize("family", sorted(LEAN))
def test_of_an_llm_in_bfloat16_nothing_else_is_rounded(family: str) -> None:
    model = lean_model(family)
    for weights in model.llm.parameters():
        weights.data = weights.data.bfloat16()
    found = pieces(LeanDecoder(LeanWeights(model, CONTEXT)), seen_by(model), (3, 1, 5, 1, 1))
    for weights in model.llm.parameters():
        weights.data = weights.data.float()
    exact = pieces(TransformersDecoder(model), seen_by(model), (3, 1, 5, 1, 1))
    torch.testing.assert_close(found, exact, atol=1e-4, rtol=0)


def test_another_face_is_seen_at_once() -> None:
    model = lean_model("llama")
    other = make_face(batch=1, seed=7)
    lean, own = LeanDecoder(LeanWeights(model, CONTEXT)), TransformersDecoder(model)
    with torch.no_grad():
        faces = [model.encode(face) for face in (make_face(batch=1), other, Face.absent(1, LATENT_SIZE), other)]
    for number, face in enumerate(faces):
        found, expected = (d.feed([IDS[number]], [2.0 + number / 10], face) for d in (lean, own))
        assert torch.allclose(found, expected, atol=1e-4)


def test_what_was_dropped_is_gone_and_the_rest_closes_up() -> None:
    # In a single layer keys and values hold nothing of the tokens before.
    torch.manual_seed(0)
    config = LlamaConfig(**{**_SIZES, "num_hidden_layers": 1})
    model = make_model(AutoModelForCausalLM.from_config(config).eval(), fusion_layers=(0,))
    face, decoder = seen_by(model), LeanDecoder(LeanWeights(model, CONTEXT))
    pieces(decoder, face, (20,))
    decoder.drop(3, 11)
    assert decoder.length == 12
    fresh = LeanDecoder(decoder._weights)
    fresh.feed(IDS[:3] + IDS[11:20], TIMES[:3] + TIMES[11:20], face)
    for token in (1, 2):
        found, expected = (d.feed([token], [3.5], face) for d in (decoder, fresh))
        assert torch.allclose(found, expected, atol=1e-4)


def test_keys_are_turned_back_exactly_also_where_positions_are_scaled() -> None:
    weights = LeanWeights(lean_model("yarn"), CONTEXT)
    keys = torch.randn(1, 1, weights.head_size)
    later, earlier = (rotate(keys, weights.cos[i : i + 1], weights.sin[i : i + 1]) for i in (50, 9))
    assert torch.allclose(weights.turned_back(later, 41), earlier, atol=1e-5)


def test_transformers_forgets_from_the_gap_on(llm: PreTrainedModel) -> None:
    model = make_model(llm)
    decoder = TransformersDecoder(model)
    pieces(decoder, seen_by(model), (12,))
    decoder.drop(3, 6)
    assert decoder.length in (0, 3)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_is_built_otherwise_is_left_to_transformers(family: str) -> None:
    torch.manual_seed(0)
    model = make_model(AutoModelForCausalLM.from_config(FAMILIES[family]).eval())
    assert lean_fits(model, CONTEXT) == (family in ("llama", "qwen3"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_eight_bits_stay_close(dtype: torch.dtype) -> None:
    model = lean_model("qwen2")
    model.llm.to(dtype)
    face = seen_by(model)
    exact, fewer = (
        pieces(LeanDecoder(LeanWeights(model, CONTEXT, kind)), face, (5, 1, 1, 1)) for kind in ("native", "int8")
    )
    moved_bits = (exact.exp() * (exact - fewer)).sum(-1) / math.log(2)
    assert 0 < moved_bits.max() < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_have_four_bits_keep_them(dtype: torch.dtype) -> None:
    codes = torch.randint(0, 16, (128, 64)).float()
    codes[:, ::32], codes[:, 1::32] = 0, 15
    linear = torch.nn.Linear(64, 128)
    linear.weight.data = codes / 64 - 0.125
    linear.to(dtype)
    x = torch.randn(3, 64, dtype=dtype)
    for weights in ("native", "int4"):
        torch.testing.assert_close(LeanLinear([linear], weights)(x.float()), linear(x).float(), atol=2e-2, rtol=2e-2)
    rough = torch.nn.Linear(64, 128, dtype=dtype)
    assert 0 < (LeanLinear([rough], "int4")(x.float()) - rough(x)).abs().max() < 0.3


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [True, False])
def test_maps_are_exact_whatever_the_weights_dtype(dtype: torch.dtype, bias: bool) -> None:
    parts = [torch.nn.Linear(37, outputs, bias=bias, dtype=dtype) for outputs in (96, 5)]
    joined = LeanLinear(parts, "native")
    for rows in (1, 2, 9):
        x = torch.randn(rows, 37)
        expected = torch.cat([functional.linear(x.double(), *(p.double() for p in m.parameters())) for m in parts], -1)
        torch.testing.assert_close(joined(x), expected.float(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_weights_beyond_float16_stay_as_they_are() -> None:
    linear = torch.nn.Linear(32, 64, dtype=torch.bfloat16)
    linear.weight[3, 4] = 1e5
    x = torch.ones(1, 32)
    torch.testing.assert_close(LeanLinear([linear], "native")(x), linear(x.bfloat16()).float())


def test_more_than_the_context_is_refused() -> None:
    model = lean_model("llama")
    decoder = LeanDecoder(LeanWeights(model, 8))
    face = seen_by(model)
    decoder.feed(IDS[:8], TIMES[:8], face)
    with pytest.raises(ValueError, match="8 \\+ 1 tokens"):
        decoder.feed([1], [3.0], face)
