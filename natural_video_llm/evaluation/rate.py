"""A person rates pairs of replies, blind, in the terminal: `replies.jsonl` → `ratings.jsonl`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from natural_video_llm.evaluation.judge import Pair, Scenes, agreement, write_judgement
from natural_video_llm.evaluation.judging.answers import read_lines
from natural_video_llm.run_folder import JUDGE_FILE, RATINGS_FILE
from natural_video_llm.sessions.append_log import AppendLog
from natural_video_llm.sessions.clock import utc_now

_CHOICES = {"1": 1.0, "2": 0.0, "tie": 0.5, "t": 0.5}
_STOP = ("q", "quit", "")


def blind_order(pairs: Sequence[Pair], seed: int) -> list[tuple[Pair, bool]]:
    """The pairs that differ, in an order drawn by `seed`, each with whether the true face's reply comes first; a
    function of the seed and the pairs alone."""
    rng = np.random.default_rng(seed)
    worth = sorted((pair for pair in pairs if not pair.same), key=lambda pair: pair.id)
    sides = rng.random(len(worth)) < 0.5
    return [(worth[place], bool(sides[place])) for place in rng.permutation(len(worth))]


def read_ratings(run: Path) -> dict[str, float]:
    """By pair: 1 where the reply under the true face was found better, 0.5 a tie, 0 worse."""
    return {entry["pair"]: float(entry["true_is_better"]) for entry in read_lines(run / RATINGS_FILE)}


def rate_pairs(
    run: Path,
    pairs: Sequence[Pair],
    scenes: Scenes,
    seed: int,
    show: Callable[[str, bytes | None], None],
    ask: Callable[[], str],
) -> int:
    """Show the pairs that are not rated yet and write down each answer at once; returns how many were rated now.

    Args:
        show: is given the text of a pair and its contact sheet (a JPEG) or None.
        ask: the person's answer: 1, 2 or tie; nothing, q or the end of input stops.

    Raises:
        UserError: the file of ratings is damaged or cannot be written.
    """
    known = read_ratings(run)
    waiting = [(pair, first) for pair, first in blind_order(pairs, seed) if pair.id not in known]
    log = AppendLog(run / RATINGS_FILE)
    try:
        for number, (pair, true_first) in enumerate(waiting):
            scene = scenes.of(pair.true)
            show(_shown(pair, true_first, scene.words(), f"{number + 1} of {len(waiting)}"), scene.sheet)
            choice = _choice(ask)
            if choice is None:
                return number
            entry = {"pair": pair.id, "true_is_better": choice if true_first else 1 - choice, "utc": utc_now()}
            log.append((json.dumps(entry) + "\n").encode())
    finally:
        log.close()
    return len(waiting)


def _choice(ask: Callable[[], str]) -> float | None:
    """How good the first reply is found; None to stop. Anything else is asked again."""
    while (said := ask().strip().lower()) not in _STOP:
        if said in _CHOICES:
            return _CHOICES[said]
    return None


def _shown(pair: Pair, true_first: bool, words: str, place: str) -> str:
    replies = [pair.true.reply, pair.rival.reply]
    first, second = replies if true_first else replies[::-1]
    return f"\n{place}\n{words}\n\n  1  {first}\n  2  {second}\n"


def note_agreement(run: Path) -> dict[str, Any] | None:
    """Compare `ratings.jsonl` with `judge.json`, write what is found into the latter, and return it; None where one of
    them is missing or they share no pair."""
    try:
        result = json.loads((run / JUDGE_FILE).read_text(encoding="utf-8"))
        verdicts = {pair: float(worth) for pair, worth in result["verdicts"].items()}
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    # Pairs of one text are ties that nobody was asked about.
    found = agreement(verdicts, read_ratings(run))
    if found is not None:
        write_judgement({**result, "agreement_with_person": found}, run)
    return found
