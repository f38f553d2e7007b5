"""The evidence as tables on a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_evidence(result: dict[str, Any], console: Console) -> None:
    """Print what `evaluate` found: the verdict, conditions, choices, and replies side by side."""
    verdict, data = result["verdict"], result["data"]
    console.print(f"the face: {verdict['face'].upper()}", style="bold", highlight=False)
    console.print(verdict["words"], markup=False, highlight=False)
    over = f"{data['people']} people" if data["people"] > 1 else f"{data['sessions']} sessions of one person"
    title = f"{data['utterances']} held-out utterances, 95 % intervals over {over}"
    table = Table("face shown", "bits per token", "true saves, bits per word", title=title)
    for name, figures in result["conditions"].items():
        saved = "" if name == "true" else interval(figures["true_saves_per_word"], "+.3f")
        table.add_row(name, interval(figures["bits_per_token"], ".3f"), saved)
    console.print(table)
    if "choices" in result:
        console.print(_choices_table(result["choices"]))
    if result.get("reaction"):
        console.print(_reaction_table(result["reaction"]))
    if result.get("replies"):
        console.print(_replies_table(result["replies"]))


def _choices_table(choices: dict[str, Any]) -> Table:
    names = [name for name in choices if name != "candidates"]
    pairs = list(choices[names[0]]["order_pairs"])
    title = f"choosing among {choices['candidates']} replies by what the face adds"
    headings = [pair.replace("_", " ").replace("/", " / ") for pair in pairs]
    table = Table("face shown", "right", "choice bits", *headings, title=title)
    for name in names:
        figures = choices[name]
        shares = [interval(figures["order_pairs"][p], ".2f") if figures["order_pairs"][p] else "–" for p in pairs]
        table.add_row(name, interval(figures["right"], ".2f"), interval(figures["choice_bits"], ".2f"), *shares)
    return table


def _reaction_table(reaction: dict[str, Any]) -> Table:
    known = {horizon: figures for horizon, figures in reaction.items() if figures}
    ratios = list(dict.fromkeys(n for figures in known.values() for n in figures if n.startswith("ratio")))
    title = "the face ahead: squared error against those who expect nothing new (below 1 the model is better)"
    table = Table("ahead", "squared error", *ratios, title=title)
    for horizon, figures in known.items():
        cells = [interval(figures[name], ".3f") for name in ("squared_error", *ratios)]
        table.add_row(horizon, *cells)
    return table


def _replies_table(replies: list[dict[str, Any]]) -> Table:
    table = Table("face shown", "answered there", "reply", "bits moved", title=f"replies to {replies[0]['message']!r}")
    for reply in replies:
        table.add_row(reply["face"], reply["answered_there"], reply["reply"], f"{reply['moved_bits']:.2f}")
    table.show_lines = True
    return table


def interval(figures: Sequence[float | None], style: str) -> str:
    """A figure with its interval, which is not known where one person or session alone was held out."""
    value, low, high = ("?" if x is None else format(x, style) for x in figures)
    return f"{value} [{low}, {high}]"
