"""Texts read once: as if read anew, whatever they are asked for with."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM
from natural_video_llm.training.dataset import Example, FaceTrack
from natural_video_llm.training.read_texts import ReadTexts

VOCABULARY, PAD = 40, 3
EMPTY = FaceTrack(np.zeros((0, 8), np.float16), np.zeros(0), np.zeros(0, bool))


def make_model(seed: int = 0) -> NaturalVideoLLM:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    llm = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes)).eval()
    config = FusionConfig("tiny", "0" * 64, "points", "1" * 64, 8, (2,), face_size=24, components=4)
    return NaturalVideoLLM(llm, config).eval()


def make_example(ids: Sequence[int], session: str = "a") -> Example:
    tokens = np.array(ids, np.int64)
    return Example(session, session, "question", "answer", tokens, tokens / 10, tokens >= 0, EMPTY)


def fresh(model: NaturalVideoLLM, ids: Sequence[int]) -> torch.Tensor:
    """[tokens, hidden], read alone."""
    return model.read(torch.tensor([list(ids)]), torch.ones(1, len(ids), dtype=torch.bool))[0]


# One is the beginning of another, one ends as another does, one holds the padding's own number.
TEXTS = [[5, 6, 7, 8, 9], [5, 6, 7], [7, 8, 9], [3, 3, 5, 6], [5, 6, 7, 8, 10], [11]]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 1, 0, 3, 2, 4], [1, 1, 0, 1], [4]])
def test_what_is_kept_equals_a_fresh_read(order: list[int]) -> None:
    model = make_model()
    read = ReadTexts(model, PAD)
    examples = [make_example(ids) for ids in TEXTS]
    for _ in range(2):  # first read, then kept
        rows = read([examples[i] for i in order])
        assert rows.shape == (len(order), max(len(TEXTS[i]) for i in order), 32)
        for row, number in zip(rows, order, strict=True):
            length = len(TEXTS[number])
            assert torch.allclose(row[:length], fresh(model, TEXTS[number]), atol=1e-5)
            assert not row[length:].any(), "beyond the text there are zeros"


def test_with_whom_a_text_is_asked_for_first_does_not_matter() -> None:
    model = make_model()
    examples = [make_example(ids) for ids in TEXTS]
    one_by_one, together = ReadTexts(model, PAD), ReadTexts(model, PAD)
    rows = [one_by_one([example])[0] for example in examples]
    for row, kept in zip(rows, together(examples), strict=True):
        assert torch.allclose(row, kept[: len(row)], atol=1e-5)


def test_texts_are_never_mixed_up() -> None:
    model = make_model()
    read = ReadTexts(model, PAD)
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 4, rng.integers(1, 9)).tolist() for _ in range(150)]
    examples = [make_example(ids, str(i)) for i, ids in enumerate(texts)]
    for _ in range(40):
        chosen = rng.integers(0, len(texts), 6)
        for row, number in zip(read([examples[i] for i in chosen]), chosen, strict=True):
            assert torch.allclose(row[: len(texts[number])], fresh(model, texts[number]), atol=1e-5)


def test_the_layers_below_run_once_a_text() -> None:
    model = make_model()
    read = ReadTexts(model, PAD)
    runs: list[int] = []
    model.llm.model.embed_tokens.register_forward_hook(lambda _, args, __: runs.append(len(args[0])))
    examples = [make_example(ids) for ids in TEXTS]
    read([examples[0], examples[1], make_example(TEXTS[0], session="another person's")])
    read(examples[:2])
    read(examples)
    assert runs == [2, 4], "each text once, and none of them twice"


def test_two_models_keep_their_own() -> None:
    first, second = make_model(0), make_model(1)
    example = make_example(TEXTS[0])
    a, b = ReadTexts(first, PAD)([example])[0], ReadTexts(second, PAD)([example])[0]
    assert torch.allclose(b, fresh(second, TEXTS[0]), atol=1e-5)
    assert not torch.allclose(a, b, atol=1e-2)


@torch.no_grad()
def test_training_goes_on_from_what_was_kept() -> None:
    model = make_model()
    torch.nn.init.constant_(model.blocks["2"].gate, 0.7)
    ids = torch.tensor([TEXTS[0], [*TEXTS[1], PAD, PAD]])
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    times = torch.linspace(1, 2, 5, dtype=torch.float64).expand(2, -1)
    seen_s = torch.linspace(0, 2, 20, dtype=torch.float64).expand(2, -1)
    face = Face(torch.randn(2, 20, 8), seen_s, torch.ones(2, 20, dtype=torch.bool))
    hidden = ReadTexts(model, PAD)([make_example(ids) for ids in TEXTS[:2]])
    kept = model(ids, times, face, text_hidden=hidden, attention_mask=mask, keep=mask).logits
    assert torch.allclose(kept, model(ids, times, face, attention_mask=mask, keep=mask).logits, atol=1e-4)
