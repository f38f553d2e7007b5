"""What one run does better than another, on the utterances that both held out."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.statistics import Estimate, jackknife, json_ready
from natural_video_llm.evaluation.tables import interval
from natural_video_llm.run_folder import TOKEN_GAINS_FILE

# Session, reply, and which of the replies of that wording in that session.
_Key = tuple[str, str, int]
_TITLES = {
    "gain_per_word": "the face saves, bits per word",
    "bits_per_word": "bits per word",
    "choice_bits": "choice bits",
}


@dataclass(frozen=True)
class _Utterance:
    """`figures`: sums over the utterance, by the names above; one of choice bits."""

    person: str
    words: int
    figures: dict[str, float]


def compare(runs: Sequence[Path]) -> dict[str, Any]:
    """Figures of each run over all that it held out, and for each two of them the paired difference, second minus
    first, over what both held out: [value, low, high], intervals over people (sessions where there is one person).

    `gain_per_word` is what the true face saves over none, `bits_per_word` what a word costs with the true face.

    Raises:
        UserError: fewer than two different runs, one of them is not evaluated, or two of them share nothing.
    """
    if len(runs) < 2:
        named = runs[0] if runs else "RUN"
        raise UserError(f"two runs or more are compared, and {len(runs)} is named: nvllm compare {named} ANOTHER_RUN")
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("a run cannot be compared with itself; name two different ones or more: nvllm compare RUN RUN")
    held_out = {run: _read(run) for run in runs}
    alone = [{"run": str(run), **_figures(found, [{}, found])} for run, found in held_out.items()]
    pairs = [_pair(first, second, held_out) for first, second in combinations(held_out, 2)]
    return dict(json_ready({"runs": alone, "pairs": pairs}))


def print_comparison(result: Mapping[str, Any], console: Console) -> None:
    table = Table(title="each over all that it held out, 95 % intervals")
    _add_columns(table, "run", "utterances")
    for run in result["runs"]:
        table.add_row(run["run"], str(run["utterances"]), *_cells(run, ".3f"))
    console.print(table)
    table = Table(title="paired differences")
    _add_columns(table, "second less first", "utterances", "people")
    for pair in result["pairs"]:
        counts = str(pair["utterances"]), str(pair["people"])
        table.add_row(f"{pair['second']} less {pair['first']}", *counts, *_cells(pair, "+.3f"))
    console.print(table)


def _add_columns(table: Table, *names: str) -> None:
    for name in (*names, *_TITLES.values()):
        table.add_column(name, overflow="fold")  # a name that is cut short names nothing


def _cells(figures: Mapping[str, Any], style: str) -> list[str]:
    return [interval(figures[name], style) if name in figures else "" for name in _TITLES]


def _read(run: Path) -> dict[_Key, _Utterance]:
    path = run / TOKEN_GAINS_FILE
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        seen: Counter[tuple[str, str]] = Counter()
        found = {}
        for line in lines:
            place = line["session_id"], line["reply"]
            found[(*place, seen[place])] = _utterance(line)
            seen[place] += 1
    except OSError as error:
        raise UserError(
            f"{run} has not been evaluated ({path.name}: {error.strerror}); run: nvllm eval {run}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); run again: nvllm eval {run}") from error
    return found


def _utterance(line: Mapping[str, Any]) -> _Utterance:
    figures = {"gain_per_word": float(sum(line["gain_bits"])), "bits_per_word": float(line["bits"])}
    if "choice_bits" in line:
        figures["choice_bits"] = float(line["choice_bits"])
    return _Utterance(str(line["person"]), len(str(line["reply"]).split()), figures)


def _pair(first: Path, second: Path, held_out: Mapping[Path, Mapping[_Key, _Utterance]]) -> dict[str, Any]:
    sides = [held_out[first], held_out[second]]
    shared = [key for key in sides[0] if key in sides[1]]
    if not shared:
        raise UserError(
            f"{first} and {second} held out no utterance in common; train them on the same data with the same --seed "
            "and --test-share, or both with --folds, which hold out everybody"
        )
    return {
        "first": str(first),
        "second": str(second),
        **_figures(shared, sides),
    }


def _figures(
    keys: Sequence[_Key] | Mapping[_Key, _Utterance], sides: Sequence[Mapping[_Key, _Utterance]]
) -> dict[str, Any]:
    """Counts, and the second side's figures less the first one's (an empty side counts as zero)."""
    told = [sides[1][key] for key in keys]
    people = {u.person for u in told}
    clusters = [u.person if len(people) > 1 else key[0] for key, u in zip(keys, told, strict=True)]
    result: dict[str, Any] = {"utterances": len(told), "people": len(people)}
    words = np.array([u.words for u in told])
    for name in _TITLES:
        rows = [[side[key].figures.get(name) for key in keys] for side in sides if side]
        if all(x is not None for row in rows for x in row):
            values = np.array(rows, float)
            difference = values[-1] - (values[0] if len(rows) == 2 else 0.0)
            weights = np.ones(len(told)) if name == "choice_bits" else words
            result[name] = _ratio(clusters, difference, weights)
    return result


def _ratio(clusters: Sequence[str], above: np.ndarray, below: np.ndarray) -> Estimate:
    return jackknife(clusters, lambda i: float(above[i].sum() / below[i].sum()))
