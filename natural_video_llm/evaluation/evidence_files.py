"""The evidence table as CSV and as LaTeX, for papers."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from natural_video_llm.disk import write_whole

CSV_FILE, LATEX_FILE = "evidence.csv", "evidence.tex"
_COLUMNS = ("bits_per_token", "true_saves_per_word")
_LATEX_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"}


def write_tables(run: Path, result: dict[str, Any]) -> None:
    """Write both beside eval.json, each whole or not at all."""
    for name, text in ((CSV_FILE, as_csv(result)), (LATEX_FILE, as_latex(result))):
        write_whole(run / name, text)


def as_csv(result: dict[str, Any]) -> str:
    """A line a condition; a figure, then the limits of its interval, empty where they are not known."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["condition", *(f"{c}{end}" for c in _COLUMNS for end in ("", "_low", "_high"))])
    for name, figures in result["conditions"].items():
        lines.writerow([name, *("" if x is None else x for c in _COLUMNS for x in figures[c])])
    return out.getvalue()


def as_latex(result: dict[str, Any]) -> str:
    """A table in the style of the booktabs package."""
    data = result["data"]
    over = f"{data['people']} people" if data["people"] > 1 else f"{data['sessions']} sessions of one person"
    rows = [
        f"{_escaped(name)} & {_cell(figures['bits_per_token'], '.2f')} & "
        + ("" if name == "true" else _cell(figures["true_saves_per_word"], "+.2f"))
        for name, figures in result["conditions"].items()
    ]
    lines = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{_escaped(result['verdict']['words'])} {data['utterances']} held-out utterances, 95\\,\\% "
        f"intervals over {over}.}}",
        r"\begin{tabular}{lll}",
        r"\toprule",
        r"face shown & bits per token & the right one saves, bits per word \\",
        r"\midrule",
        *(f"{row} \\\\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return "".join(_LATEX_SPECIAL.get(c, c) for c in text)


def _cell(figures: Sequence[float | None], style: str) -> str:
    value, *limits = (None if x is None else format(x, style).replace("-", "$-$") for x in figures)
    return f"{value}" if None in limits else f"{value} [{', '.join(map(str, limits))}]"
