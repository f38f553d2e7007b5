"""The evidence over all parts of a run, every figure as [value, low, high] with its 95 % interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from natural_video_llm.evaluation.evidence import Choices, Scores, bits_gained, bits_per_token
from natural_video_llm.evaluation.reaction import summarise_reactions
from natural_video_llm.evaluation.scoring import CHOICE_CONDITIONS, Part
from natural_video_llm.evaluation.statistics import Estimate
from natural_video_llm.evaluation.verdict import judge
from natural_video_llm.sessions.candidates import ORDER_PAIRS


def summarise(parts: Sequence[Part]) -> dict[str, Any]:
    """The verdict, and the figures that it stands on; what not all parts have is left out."""
    examples = [e for part in parts for e in part.examples]
    people = {e.person for e in examples}
    clusters = [e.person if len(people) > 1 else e.session_id for e in examples]
    tokens = np.array([e.target.sum() for e in examples])
    words = np.array([e.words for e in examples])
    names = [n for n in parts[0].scores if all(n in part.scores for part in parts)]
    scores = {n: _joined([part.scores[n] for part in parts]) for n in names}
    true = scores["true"]
    per_word = {name: bits_gained(true, scores[name], clusters, words) for name in names}
    bits_per_word = float(-scores["none"].sums.sum() / words.sum())
    result: dict[str, Any] = {
        "verdict": judge(
            {n: per_word[n] for n in names if n != "true"}, bits_per_word, len(set(clusters)), len(people)
        ),
        "data": {
            "people": len(people),
            "sessions": len({e.session_id for e in examples}),
            "utterances": len(examples),
            "tokens": int(tokens.sum()),
            "words": int(words.sum()),
            "interval_over": "people" if len(people) > 1 else "sessions",
        },
        "conditions": {
            name: {
                "bits_per_token": bits_per_token(scores[name], clusters),
                "true_saves_per_token": bits_gained(true, scores[name], clusters, tokens),
                "true_saves_per_word": per_word[name],
            }
            for name in names
        },
        "time_shift": [
            {
                "shift_s": shift_s,
                "true_saves_per_word": bits_gained(true, _joined([p.shifts[shift_s] for p in parts]), clusters, words),
            }
            for shift_s in sorted(parts[0].shifts)
        ],
    }
    if all(part.choices for part in parts):
        result["choices"] = _summarise_choices(parts, clusters)
    reactions = [part.reactions for part in parts if part.reactions is not None]
    if len(reactions) == len(parts):
        result["reaction"] = summarise_reactions(reactions, clusters)
    return result


def _joined(parts: Sequence[Scores]) -> Scores:
    return Scores([logs for part in parts for logs in part.log2_probs])


def right_candidates(part: Part) -> np.ndarray:
    """[examples] int: which of its candidates each example's reply is."""
    pairs = zip(part.candidates, part.examples, strict=True)
    return np.array([[c.reply for c in options.candidates].index(e.reply) for options, e in pairs])


def _summarise_choices(parts: Sequence[Part], clusters: Sequence[str]) -> dict[str, Any]:
    right = np.concatenate([right_candidates(part) for part in parts])
    motions = np.array([[c.motion for c in options.candidates] for part in parts for options in part.candidates])
    summary: dict[str, Any] = {"candidates": motions.shape[1]}
    for name in (n for n in CHOICE_CONDITIONS if all(n in part.choices for part in parts)):
        choices = Choices(np.concatenate([part.choices[name] for part in parts]), right)
        summary[name] = {"right": choices.right_share(clusters), "choice_bits": choices.choice_bits(clusters)}
        summary[name]["order_pairs"] = {
            "/".join(pair): _pair_share(choices, motions, pair, clusters) for pair in ORDER_PAIRS
        }
    return summary


def _pair_share(
    choices: Choices, motions: np.ndarray, pair: tuple[str, str], clusters: Sequence[str]
) -> Estimate | None:
    """How often the right one of two is preferred, where the two differ in the order of the frames alone."""
    rows = np.flatnonzero(np.isin(motions[np.arange(len(motions)), choices.right], pair))
    if not len(rows):
        return None
    narrowed = Choices(choices.evidence[rows], choices.right[rows]).between(np.isin(motions[rows], pair))
    return narrowed.right_share([clusters[int(i)] for i in rows])
