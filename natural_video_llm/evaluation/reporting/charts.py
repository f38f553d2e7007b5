"""Charts as inline SVG in percentages of their box: they take any width, and their colours from the page's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from natural_video_llm.evaluation.reporting.figures import has_interval, number
from natural_video_llm.evaluation.statistics import Estimate

_ROOM = 0.06


@dataclass(frozen=True)
class Scale:
    """A stretch of numbers along one side of a chart."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float], room: float = _ROOM) -> "Scale":
        """All finite `values` with some room at both ends; never empty."""
        finite = [v for v in values if math.isfinite(v)] or [0.0]
        low, high = min(finite), max(finite)
        margin = (high - low) * room or max(abs(high), 1.0) * 0.1
        return cls(low - margin, high + margin)

    def percent(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round numbers inside the stretch, about as many as wanted."""
        rough = (self.high - self.low) / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self.low / step)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step) + 1)]


def scale_of(estimates: Sequence[Estimate], *also: float) -> Scale:
    return Scale.around([x for e in estimates for x in e] + list(also), 0.04)


def whisker(estimate: Estimate, scale: Scale, line: float = 0.0) -> Markup:
    """A dot with its interval; the dot is hollow where the interval holds `line`. The figures stand beside it, so that
    it says nothing to those who listen."""
    at, shown = scale.percent(estimate.value), has_interval(estimate)
    clear = shown and not estimate.low <= line <= estimate.high
    parts = [_line("rule", scale.percent(line), 0, scale.percent(line), 100)]
    if shown:
        parts.append(_line("whisk", scale.percent(estimate.low), 50, scale.percent(estimate.high), 50))
    parts.append(Markup('<circle class="{}" cx="{}%" cy="50%" r="4.5"/>').format("dot" if clear else "dot hollow", at))
    return Markup('<svg class="whisker" aria-hidden="true">{}</svg>').format(Markup("").join(parts))


def whisker_line(scale: Scale, line: float) -> Markup:
    """The line of a column of whiskers where there is no whisker."""
    at = scale.percent(line)
    return Markup('<svg class="whisker" aria-hidden="true">{}</svg>').format(_line("rule", at, 0, at, 100))


def whisker_axis(scale: Scale, style: str = "g") -> Markup:
    """The numbers along the top of a column of whiskers."""
    labels = [
        Markup('<text x="{}%" y="11" text-anchor="middle">{}</text>').format(scale.percent(t), number(t, style))
        for t in scale.ticks(4)
    ]
    return Markup('<svg class="whisker axis" aria-hidden="true">{}</svg>').format(Markup("").join(labels))


@dataclass(frozen=True)
class Line:
    """Points of one curve; `low` and `high` are its band, `dots` marks the points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    css: str = "accent"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dots: Sequence[str] = ()


def plot(
    lines: Sequence[Line],
    title: str,
    x_label: str,
    y_label: str,
    rules: Sequence[tuple[float, str]] = (),
    x_style: str = "g",
) -> Markup:
    """Curves over axes. `rules` are horizontal lines with their names; `title` is for those who listen."""
    xs = Scale.around([x for line in lines for x in line.x], 0.02)
    bands = [v for line in lines for v in [*(line.low or ()), *(line.high or ())]]
    ys = Scale.around([*[y for line in lines for y in line.y], *bands, *[y for y, _ in rules]])
    parts = [*_axes(xs, ys, x_style), *[_rule(ys, y, name) for y, name in rules]]
    parts += [_curve(line, xs, ys) for line in lines]
    return Markup(
        '<div class="plot"><p class="axis-name">{}</p><svg role="img"><title>{}</title>{}</svg>'
        '<p class="axis-name below">{}</p></div>'
    ).format(y_label, title, Markup("").join(parts), x_label)


def _axes(xs: Scale, ys: Scale, x_style: str) -> list[Markup]:
    parts = []
    for tick in ys.ticks():
        y = 100 - ys.percent(tick)
        parts.append(_line("grid", 0, y, 100, y))
        text = Markup('<text x="-8" y="{}%" dy="0.35em" text-anchor="end">{}</text>')
        parts.append(text.format(round(y, 3), number(tick, "g")))
    for tick in xs.ticks(6):
        text = Markup('<text x="{}%" y="100%" dy="1.6em" text-anchor="middle">{}</text>')
        parts.append(text.format(xs.percent(tick), number(tick, x_style if tick else "g")))
    return parts


def _rule(ys: Scale, at: float, name: str) -> Markup:
    y = round(100 - ys.percent(at), 3)
    label = Markup('<text x="100%" y="{}%" dy="-0.5em" text-anchor="end">{}</text>').format(y, name)
    return _line("rule dashed", 0, y, 100, y) + label


def _curve(line: Line, xs: Scale, ys: Scale) -> Markup:
    points = [(xs.percent(x), round(100 - ys.percent(y), 3)) for x, y in zip(line.x, line.y, strict=True) if _ok(x, y)]
    parts = [Markup("")]
    if line.low is not None and line.high is not None:
        upper = [(xs.percent(x), 100 - ys.percent(y)) for x, y in zip(line.x, line.high, strict=True) if _ok(x, y)]
        lower = [(xs.percent(x), 100 - ys.percent(y)) for x, y in zip(line.x, line.low, strict=True) if _ok(x, y)]
        parts.append(
            stretched(Markup('<polygon class="band {}" points="{}"/>').format(line.css, _points(upper + lower[::-1])))
        )
    parts.append(stretched(Markup('<polyline class="curve {}" points="{}"/>').format(line.css, _points(points))))
    # A dot is drawn for each point that has a text to show.
    for (x, y), text in zip(points, line.dots, strict=False):
        dot = Markup('<circle class="dot {}" cx="{}%" cy="{}%" r="4.5"><title>{}</title></circle>')
        parts.append(dot.format(line.css, x, y, text))
    return Markup("").join(parts)


def stretched(content: Markup) -> Markup:
    """Content drawn on 100 by 100, pulled to the size of the box around it; its strokes keep their width."""
    box = Markup('<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">{}</svg>')
    return box.format(content)


def area(values: Sequence[tuple[float, float]]) -> Markup:
    """The ground under a curve of (x, height), both in percent; a NaN interrupts it."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, height in values:
        if _ok(x, height):
            pieces[-1].append((x, 100 - height))
        elif pieces[-1]:
            pieces.append([])
    shapes = [
        Markup('<polygon class="area" points="{}"/>').format(_points([(p[0][0], 100), *p, (p[-1][0], 100)]))
        for p in pieces
        if p
    ]
    return stretched(Markup("").join(shapes))


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _line(css: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}%" y1="{}%" x2="{}%" y2="{}%"/>').format(css, x1, y1, x2, y2)


def _ok(*values: float) -> bool:
    return all(map(math.isfinite, values))


def legend(names: Sequence[tuple[str, str]]) -> Markup:
    """(style, name) of each curve."""
    items = [Markup('<li><span class="key {}"></span>{}</li>').format(css, escape(name)) for css, name in names]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))
