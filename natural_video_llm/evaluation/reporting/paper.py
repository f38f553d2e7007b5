"""The main picture for papers: what the right face saves, and the time-shift curve, as PNG and SVG (matplotlib)."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from natural_video_llm.disk import write_whole
from natural_video_llm.evaluation.reporting.evidence_views import in_order, shift_points
from natural_video_llm.evaluation.reporting.figures import estimate_of, has_interval
from natural_video_llm.evaluation.reporting.material import part_of
from natural_video_llm.evaluation.statistics import Estimate

_INK, _ACCENT, _FAINT = "#1d2126", "#0b6e75", "#9aa3ad"
_DOTS_PER_INCH = 200


def write_paper_figure(evidence: dict[str, Any], run: Path) -> list[Path]:
    """Write evidence.png and evidence.svg into the run; the same evidence gives the same bytes."""
    conditions = part_of(evidence, "conditions")
    saved = {
        name: estimate
        for name in in_order(conditions)
        if name != "true"
        and (estimate := estimate_of(part_of(conditions, name).get("true_saves_per_word"))) is not None
    }
    points = shift_points(evidence)
    written = []
    with rc_context({"svg.hashsalt": "natural-video-llm", "font.size": 8, "axes.edgecolor": _FAINT}):
        figure = Figure(figsize=(7.2, max(2.4, 0.9 + 0.22 * len(saved))), layout="constrained")
        axes = figure.subplots(1, 2 if points else 1, squeeze=False)[0]
        _draw_savings(axes[0], saved)
        if points:
            _draw_shift(axes[1], points, saved.get("none"))
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            path = run / f"evidence.{kind}"
            drawn = BytesIO()
            figure.savefig(drawn, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
            write_whole(path, drawn.getvalue())
            written.append(path)
    return written


def _draw_savings(axes: Axes, saved: dict[str, Estimate]) -> None:
    places = range(len(saved), 0, -1)
    for place, estimate in zip(places, saved.values(), strict=True):
        if has_interval(estimate):
            axes.plot([estimate.low, estimate.high], [place, place], color=_ACCENT, linewidth=1.6)
        axes.plot([estimate.value], [place], "o", color=_ACCENT, markersize=4.5)
    axes.axvline(0, color=_FAINT, linewidth=0.8)
    axes.set_yticks(list(places), list(saved))
    axes.set_xlabel("bits per word that the right face saves, 95 % interval")
    axes.set_title("in place of the right face", loc="left", fontsize=8, color=_INK)
    _calm(axes)


def _draw_shift(axes: Axes, points: Sequence[tuple[float, Estimate]], none: Estimate | None) -> None:
    shifts = np.array([shift_s for shift_s, _ in points])
    value, low, high = -np.array([list(estimate) for _, estimate in points]).T
    axes.fill_between(shifts, high, low, color=_ACCENT, alpha=0.18, linewidth=0)
    axes.plot(shifts, value, "o-", color=_ACCENT, markersize=4, linewidth=1.4)
    if none is not None:
        axes.axhline(-none.value, color=_FAINT, linewidth=0.8, linestyle="--")
        axes.annotate("no face", (shifts[-1], -none.value), xytext=(0, 2), textcoords="offset points", ha="right")
    axes.set_xlabel("seconds by which the face is late")
    axes.set_title("bits per word against the face in time", loc="left", fontsize=8, color=_INK)
    _calm(axes)


def _calm(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(color=_FAINT, labelcolor=_INK, length=3)
