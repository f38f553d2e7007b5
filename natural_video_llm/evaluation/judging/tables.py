"""A judgement as tables on a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from natural_video_llm.evaluation.tables import interval


def print_judgement(result: dict[str, Any], console: Console) -> None:
    """Print what `judge_replies` found."""
    saw = "saw the faces" if result["saw_faces"] else "read the words alone"
    title = f"{result['judge']} {saw}; scores 1 to 5, 95 % intervals"
    scores = Table("face shown to the model", "coherence", "tone alignment", title=title)
    for face, coherence in result["coherence"].items():
        scores.add_row(face, _cell(coherence), _cell(result["tone"][face]))
    console.print(scores)
    effect = result["length_effect"]
    rates = Table("pair", "win rate", "between replies of one length", title="both orders; disagreement is a tie")
    for pair, rate in result["pairs"].items():
        rates.add_row(pair, _cell(rate), _cell(effect["win_rate_corrected"].get(pair) if effect else None))
    console.print(rates)
    console.print("\n".join(_lines(result)), markup=False, highlight=False, soft_wrap=True)


def _lines(result: dict[str, Any]) -> list[str]:
    lines = []
    if result["length_effect"]:
        lines.append(f"a word more: {_cell(result['length_effect']['slope'], '+.3f')} log odds of winning")
    if result["ties_by_order"] is not None:
        lines.append(f"verdicts that changed with the order: {result['ties_by_order']:.0%}")
    failed = ", ".join(f"{count} {why}" for why, count in result["failed"].items() if count)
    lines.append(
        f"calls: {result['calls']}, cost: {result['cost_usd']:.4f} USD" + (f", unused: {failed}" * bool(failed))
    )
    if found := result["agreement_with_person"]:
        lines.append(f"agrees with a person on {found['agreement']:.0%} of {found['pairs']} pairs")
    return lines


def _cell(estimate: Any, style: str = ".2f") -> str:
    return "–" if estimate is None else interval(estimate, style)
