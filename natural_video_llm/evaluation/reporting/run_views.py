"""What is said of the run: its training, its data, how to make it again."""

import platform
import shlex
from dataclasses import MISSING, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from natural_video_llm.assets import file_sha256
from natural_video_llm.evaluation.reporting import charts
from natural_video_llm.evaluation.reporting.figures import count, is_number, number, share
from natural_video_llm.evaluation.reporting.material import Material, part_of, readable_lines
from natural_video_llm.run_folder import EVAL_FILE
from natural_video_llm.training.model_card import base_name
from natural_video_llm.training.options import TrainOptions

_LIBRARIES = ("natural-video-llm", "torch", "transformers", "numpy")
_POINTS = 150
_TITLES = {
    "bits_per_token": "bits per token",
    "contrastive": "contrastive loss, nats",
    "own_text_bits": "the LLM’s own text, bits per token",
    "reaction": "the face ahead, squared error",
}
_STYLES = ("accent", "second", "third")


def training_charts(material: Material) -> list[tuple[str, Markup, Markup]]:
    """(title, chart, legend) for each figure that was logged; the parts of a training share a chart."""
    part = material.parts[0]
    lines = [
        line
        for folder in (part, part / "twin")
        for line in readable_lines(folder / "logs" / "metrics" / "metrics.jsonl")
        if is_number(line.get("step")) and isinstance(line.get("part"), str)
    ]
    if not lines:
        material.miss("Training curves", "the run has no logs/metrics/metrics.jsonl.")
    logged = dict.fromkeys(name for line in lines for name in line if name not in ("part", "step", "learning_rate"))
    order = [*(n for n in _TITLES if n in logged), *(n for n in logged if n not in _TITLES)]
    return [shown for name in order if (shown := _training_chart(lines, name)) is not None]


def _training_chart(lines: list[dict[str, Any]], name: str) -> tuple[str, Markup, Markup] | None:
    parts: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        if is_number(line.get(name)):
            parts.setdefault(line["part"], []).append((line["step"], line[name]))
    curves = [
        charts.Line(part, *_smoothed(points), css=_STYLES[i % len(_STYLES)])
        for i, (part, points) in enumerate(parts.items())
        if len(points) > 1
    ]
    if not curves:
        return None
    title = _TITLES.get(name, name.replace("_", " "))
    ends = "; ".join(f"{c.name}: from {number(c.y[0])} to {number(c.y[-1])}" for c in curves)
    chart = charts.plot(curves, f"{title} by training step. {ends}.", "step", title)
    return title, chart, charts.legend([(c.css, c.name) for c in curves])


def _smoothed(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Means over windows of a tenth of the steps, at no more points than are seen."""
    steps, values = np.array(sorted(points)).T
    half = max(1, len(values) // 20)
    sums = np.append(0.0, np.cumsum(values))
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    chosen = np.unique(np.linspace(0, len(values) - 1, min(_POINTS, len(values))).astype(int))
    means = (sums[last] - sums[first]) / (last - first)
    return steps[chosen].tolist(), means[chosen].tolist()


def data_card(material: Material) -> dict[str, Any]:
    """What the run was trained on beside what it was tested on, and on whose word."""
    tested, recorded = part_of(material.evidence, "data"), part_of(material.record, "data")
    trained = {**recorded, **part_of(tested, "trained_on")}
    timing = part_of(tested, "timing")
    exact = ", ".join(f"{share(timing[kind])} by {kind}" for kind in timing if timing[kind]) or "not known"
    rows = [(what, count(trained.get(what)), count(tested.get(what))) for what in ("people", "sessions", "utterances")]
    rows.append(("words", count(trained.get("words")), count(tested.get("words"))))
    rows.append(("minutes of video", number(trained.get("minutes"), ".1f"), number(tested.get("minutes"), ".1f")))
    if missing := [name for name in ("minutes", "face_seen", "timing") if name not in tested]:
        material.miss("Data card", f"this eval.json does not know {', '.join(missing)}; an older version made it.")
    consents = recorded.get("consents")
    return {
        "rows": rows,
        "facts": [
            ("face seen", share(tested.get("face_seen"))),
            ("several faces in view", share(tested.get("crowded"))),
            ("times of the text", exact),
            ("intervals are drawn over", str(tested.get("interval_over", "not known"))),
        ],
        "consents": [row for row in consents if isinstance(row, list) and len(row) == 2] if consents else [],
    }


def reproduce(material: Material) -> dict[str, Any]:
    """Commands, options, versions and hashes. Of paths the last part is shown alone: the rest tells of a machine."""
    options, config = material.options, material.config
    run = Path(str(options.get("out", material.run))).name
    part = material.parts[0]
    hashes = [
        ("base LLM", base_name(str(config.get("base_llm", "not known"))), config.get("base_llm_sha256")),
        ("encoder", str(config.get("encoder", "not known")), config.get("encoder_sha256")),
        *[
            ("this run", str(file.relative_to(material.run)), file_sha256(file))
            for file in (*[p / "adapter.safetensors" for p in material.parts], material.run / EVAL_FILE)
            if file.is_file()
        ],
    ]
    if not options:
        material.miss("How to reproduce", f"{part.name}/run.json is missing or damaged.")
    sessions = Path(str(options.get("sessions", "SESSIONS"))).name
    return {
        "commands": [
            f"nvllm train {shlex.quote(sessions)}{_changed(options)} --out {shlex.quote(run)}",
            f"nvllm eval {shlex.quote(run)}",
        ],
        "seed": options.get("seed", "not known"),
        "options": [
            (name, _shown(value)) for name, value in options.items() if name not in ("sessions", "out", "config")
        ],
        "hashes": [(what, name, str(digest or "not known")) for what, name, digest in hashes],
        "versions": [("Python", platform.python_version()), *[(name, _version(name)) for name in _LIBRARIES]],
        "system": f"{platform.system()} on {platform.machine()}",
    }


def _changed(options: dict[str, Any]) -> str:
    """The options that differ from the defaults, as they are given on a command line."""
    given = ""
    for option in fields(TrainOptions):
        default = option.default
        value = options.get(option.name, default)
        if default is MISSING or option.name in ("config", "resume") or value in (default, _listed(default)):
            continue
        flag = option.name.replace("_", "-")
        if isinstance(value, bool):
            given += f" --{flag}" if value else f" --no-{flag}"
        else:
            given += (
                f" --{flag} {' '.join(shlex.quote(_shown(v)) for v in (value if isinstance(value, list) else [value]))}"
            )
    return given


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = str(value)
    return Path(text).name if isinstance(value, str) and Path(text).is_absolute() else text


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
