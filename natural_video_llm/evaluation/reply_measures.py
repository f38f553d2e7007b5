"""How replies under different faces differ: variety, length, repetition, closeness to what people said."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from natural_video_llm.device import pick_device
from natural_video_llm.errors import UserError, first_line
from natural_video_llm.evaluation.reply_records import FACES, GeneratedReply, clusters_of
from natural_video_llm.evaluation.statistics import Estimate, jackknife, mean_estimate

Embedder = Callable[[Sequence[str]], np.ndarray]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BATCH_SIZE = 32


def load_embedder(name: str) -> Embedder:
    """Texts → [texts, size] unit vectors: the mean of a model's last hidden states over the text's tokens, as
    sentence transformers take it (Reimers and Gurevych 2019, arXiv:1908.10084).

    Args:
        name: a folder or Hub id of any model that `AutoModel` loads.

    Raises:
        UserError: there is none.
    """
    try:
        tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--embedding {name}: no sentence model there ({first_line(error)}); give its folder or Hub id"
        ) from error
    torch.nn.Module.to(model, pick_device())
    model.eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> np.ndarray:
        rows = []
        for start in range(0, len(texts), _BATCH_SIZE):
            part = [text or " " for text in texts[start : start + _BATCH_SIZE]]
            tokens = tokenizer(part, padding=True, truncation=True, max_length=512, return_tensors="pt")
            tokens = tokens.to(model.device)
            hidden = model(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
            rows.append(torch.nn.functional.normalize(mean, dim=-1).cpu().numpy())
        return np.concatenate(rows)

    return embed


def summarise_replies(replies: Sequence[GeneratedReply], embed: Embedder | None) -> dict[str, Any]:
    """By face, each figure as [value, low, high] over people, or None where it cannot be had.

    distinct_words: of the words of two replies under this face, the share that only one of them has (1 - Jaccard
    similarity), over all pairs. words: length. repetition: share of a reply's word pairs that it has written before.
    similar_to_human, coherence: cosine of the reply's embedding with the human reply's, and with the conversation's.
    """
    similar = _similarities(replies, embed) if embed is not None and replies else None
    summary: dict[str, Any] = {}
    for face in FACES:
        places = [i for i, reply in enumerate(replies) if reply.face == face]
        if not places:
            continue
        own = [replies[i] for i in places]
        clusters = clusters_of(own)
        texts = [_words(reply.reply) for reply in own]
        figures: dict[str, Sequence[float]] = {
            "words": [len(words) for words in texts],
            "repetition": [_repetition(words) for words in texts],
            "similar_to_human": [] if similar is None else similar[places, 0].tolist(),
            "coherence": [] if similar is None else similar[places, 1].tolist(),
        }
        summary[face] = {name: mean_estimate(values, clusters) for name, values in figures.items()}
        summary[face]["distinct_words"] = _distinct_words(texts, clusters)
    return summary


def _similarities(replies: Sequence[GeneratedReply], embed: Embedder) -> np.ndarray:
    """[replies, 2]: with the human reply, with the conversation."""
    talks = ["\n".join([*(turn.text for turn in reply.context), reply.message]) for reply in replies]
    own, human, talk = (embed(texts) for texts in ([r.reply for r in replies], [r.human_reply for r in replies], talks))
    return np.stack([(own * human).sum(1), (own * talk).sum(1)], axis=1)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _distinct_words(texts: Sequence[Sequence[str]], clusters: Sequence[str]) -> Estimate | None:
    """The mean over pairs of texts of the share of words that only one has; None where there is no pair.

    A pair belongs to two people, so whoever is left out takes all their pairs along.
    """
    sets = [set(words) for words in texts]
    if len(sets) < 2:
        return None
    apart = np.array([[1 - len(one & two) / max(len(one | two), 1) for two in sets] for one in sets])

    def mean(rows: np.ndarray) -> float:
        pairs = np.triu_indices(len(rows), 1)
        return float(apart[np.ix_(rows, rows)][pairs].mean()) if len(rows) > 1 else float("nan")

    return jackknife(clusters, mean)


def _repetition(words: Sequence[str]) -> float:
    pairs = list(pairwise(words))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0
