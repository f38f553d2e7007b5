"""What is said of the evidence: rows, curves and tables, ready for the page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from natural_video_llm.evaluation.reporting import charts
from natural_video_llm.evaluation.reporting.figures import estimate_of, interval, is_number, number, share
from natural_video_llm.evaluation.reporting.material import Material, part_of, rows_of
from natural_video_llm.evaluation.statistics import Estimate

_SHIFT = re.compile(r"([0-9.]+) s (early|late)")

# A sceptic's questions, in order, each with the conditions that answer it and what the model was given in them.
_QUESTIONS: dict[str, dict[str, str]] = {
    "Is a face better than none?": {
        "none": "nobody in view",
        "text-only twin": "the same training without any face",
    },
    "Is it this person’s face?": {
        "other person": "somebody else’s, at the same moment of an utterance",
        "identity only": "a neutral frame of the same person, held",
        "background only": "the picture with the face painted over",
    },
    "Is it the face of this moment?": {
        "another session": "a face of another recording, at the same moment of an utterance",
        "another moment": "the same person’s, from elsewhere in the recording",
        "early": "the right face, ahead of the words",
        "late": "the right face, behind the words",
        "shuffled": "the right frames in the wrong order",
        "frozen": "the first frame, held",
    },
    "What of the face is it?": {
        "head pose only": "where the head is and how it is turned",
        "geometry without pose": "the shape of the face in the head’s own frame",
    },
}
_OTHER = "Further conditions"


@dataclass(frozen=True)
class Cell:
    """An estimate in words and as a picture."""

    value: str
    interval: str
    picture: Markup | None = None


@dataclass(frozen=True)
class Row:
    name: str
    note: str
    cells: list[Cell]


def cell(raw: Any, style: str, scale: charts.Scale | None = None, line: float = 0.0) -> Cell:
    estimate = estimate_of(raw)
    if estimate is None:
        return Cell("not known", "")
    picture = charts.whisker(estimate, scale, line) if scale is not None else None
    return Cell(number(estimate.value, style), interval(estimate, style.lstrip("+")), picture)


def verdict(material: Material) -> dict[str, str] | None:
    """The verdict's heading and words; None, and a note, where an older version evaluated."""
    found = part_of(material.evidence, "verdict")
    headings = {
        "used": "The face is used.",
        "not used": "The face is not used.",
        "cannot be told": "Whether the face is used cannot be told.",
    }
    if found.get("face") not in headings:
        material.miss("Verdict", "this eval.json has none; an older version made it.")
        return None
    return {"face": found["face"], "heading": headings[found["face"]], "words": str(found.get("words", ""))}


def key_figures(material: Material) -> list[dict[str, Any]]:
    """The figures that stand beside the verdict."""
    conditions, choices = part_of(material.evidence, "conditions"), part_of(material.evidence, "choices")
    figures = [
        {
            "what": f"bits per word saved over {words}",
            "cell": cell(part_of(conditions, name)["true_saves_per_word"], "+.2f"),
        }
        for name, words in (("none", "no face"), ("text-only twin", "the text-only twin"))
        if "true_saves_per_word" in part_of(conditions, name)
    ]
    right = part_of(choices, "true").get("right")
    if estimate_of(right) is not None:
        what = f"of replies chosen rightly, among {choices.get('candidates', 'several')}"
        figures.append({"what": what, "cell": cell(right, ".2f")})
    return figures


def evidence_table(material: Material) -> dict[str, Any]:
    """Groups of rows: what the right face saves over each condition."""
    conditions = {n: f for n, f in part_of(material.evidence, "conditions").items() if isinstance(f, dict)}
    saved = {n: estimate_of(f.get("true_saves_per_word")) for n, f in conditions.items() if n != "true"}
    scale = charts.scale_of([e for e in saved.values() if e is not None], 0.0)
    groups: dict[str, list[Row]] = {question: [] for question in [*_QUESTIONS, _OTHER]}
    for name, figures in conditions.items():
        if name == "true":
            continue
        question, note = _question_of(name)
        cells = [cell(figures.get("true_saves_per_word"), "+.3f", scale), cell(figures.get("bits_per_token"), ".3f")]
        groups[question].append(Row(name, note, cells))
    if "text-only twin" not in conditions:
        material.miss("Text-only twin", "this run was trained without one; train without --no-twin to compare with it.")
    return {
        "true": cell(part_of(conditions, "true").get("bits_per_token"), ".3f"),
        "groups": [(question, rows) for question, rows in groups.items() if rows],
        "axis": charts.whisker_axis(scale),
        "line": charts.whisker_line(scale, 0.0),
    }


def interval_over(data: Mapping[str, Any]) -> str:
    """Over how many of what the intervals are drawn."""
    unit = str(data.get("interval_over", "people"))
    units = data.get(unit)
    if units == 1:
        return {"people": "one person", "sessions": "one session"}.get(unit, unit)
    return f"{units} {unit}" if is_number(units) else unit


def in_order(conditions: Mapping[str, Any]) -> list[str]:
    """The conditions' names in the order of the questions."""
    questions = [*_QUESTIONS, _OTHER]
    return sorted(conditions, key=lambda name: questions.index(_question_of(name)[0]))


def _question_of(name: str) -> tuple[str, str]:
    shift = _SHIFT.fullmatch(name)
    key = shift[2] if shift else name
    return next(((q, notes[key]) for q, notes in _QUESTIONS.items() if key in notes), (_OTHER, ""))


def shift_points(evidence: dict[str, Any]) -> list[tuple[float, Estimate]]:
    """(shift in seconds, negative is early; what the right time saves in bits per word), of the curve or, of an older
    eval.json, of the conditions."""
    rows = rows_of(evidence, "time_shift")
    points = {r["shift_s"]: estimate_of(r.get("true_saves_per_word")) for r in rows if is_number(r.get("shift_s"))}
    if not points:
        for name, figures in part_of(evidence, "conditions").items():
            if shift := _SHIFT.fullmatch(name):
                shift_s = float(shift[1]) * (1 if shift[2] == "late" else -1)
                points[shift_s] = estimate_of(figures.get("true_saves_per_word"))
    if not any(points.values()):
        return []
    points.setdefault(0.0, Estimate(0.0, 0.0, 0.0))
    return sorted((shift_s, e) for shift_s, e in points.items() if e is not None)


def shift_chart(material: Material) -> Markup | None:
    """What the face is worth when it comes too early or too late."""
    points = shift_points(material.evidence)
    if not points:
        material.miss("Time-shift curve", "this eval.json has no shifted faces.")
        return None
    none = estimate_of(part_of(part_of(material.evidence, "conditions"), "none").get("true_saves_per_word"))
    dots = [f"{describe_shift(s)}: {number(-e.value, '+.3f')} bits per word" for s, e in points]
    line = charts.Line(
        "right face",
        [s for s, _ in points],
        [-e.value for _, e in points],
        low=[-e.high for _, e in points],
        high=[-e.low for _, e in points],
        dots=dots,
    )
    title = f"Bits per word by time shift, compared with the face in time. {'; '.join(dots)}."
    rules = [(-none.value, "no face at all")] if none is not None else []
    return charts.plot(
        [line],
        title,
        "seconds by which the face is late (early left of 0)",
        "bits per word against the face in time",
        rules,
        "+g",
    )


def describe_shift(shift_s: float) -> str:
    return "in time" if not shift_s else f"{abs(shift_s):g} s {'late' if shift_s > 0 else 'early'}"


def choices_table(material: Material) -> dict[str, Any] | None:
    """How often the face points to the reply that was given, by the face shown."""
    choices = part_of(material.evidence, "choices")
    names = [name for name in choices if isinstance(choices[name], dict)]
    if not names or not is_number(choices.get("candidates")):
        return None
    scale, chance = charts.Scale(-0.03, 1.03), 1 / max(1, choices["candidates"])
    pairs = list(part_of(choices[names[0]], "order_pairs"))
    return {
        "candidates": choices["candidates"],
        "headings": [pair.replace("_", " ").replace("/", " or ") for pair in pairs],
        "axis": charts.whisker_axis(scale),
        "rows": [
            Row(
                "the right face" if name == "true" else name,
                "",
                [
                    cell(choices[name].get("right"), ".2f", scale, chance),
                    cell(choices[name].get("choice_bits"), ".2f"),
                    *(cell(part_of(choices[name], "order_pairs").get(pair), ".2f") for pair in pairs),
                ],
            )
            for name in names
        ],
    }


def reaction_rows(material: Material) -> list[Row]:
    """The face ahead, where the run was trained to expect it."""
    return [
        Row(f"{name.removeprefix('ratio to ')}, {ahead} ahead", "", [cell(figure, ".3f")])
        for ahead, figures in part_of(material.evidence, "reaction").items()
        if isinstance(figures, dict)
        for name, figure in figures.items()
        if name.startswith("ratio")
    ]


def replies_table(material: Material) -> dict[str, Any] | None:
    """Replies generated under each face, measured."""
    summary = part_of(material.evidence, "replies_summary")
    measures = {
        "words": "words a reply",
        "distinct_words": "distinct words",
        "repetition": "repetition",
        "similar_to_human": "like the human reply",
        "coherence": "fits the conversation",
    }
    faces = {face: figures for face, figures in summary.items() if isinstance(figures, dict)}
    known = [m for m in measures if any(estimate_of(figures.get(m)) is not None for figures in faces.values())]
    if not known:
        return None
    rows = [Row(face, "", [cell(figures.get(m), ".2f") for m in known]) for face, figures in faces.items()]
    return {"headings": [measures[m] for m in known], "rows": rows}


def judge_view(material: Material) -> dict[str, Any] | None:
    """What a judge said, where one was asked."""
    judge = material.judge
    if judge is None:
        material.miss("Judge", "no LLM judge has been asked (there is no judge.json).")
        return None
    coherence, tone = part_of(judge, "coherence"), part_of(judge, "tone")
    scale = charts.Scale(-0.03, 1.03)
    length = part_of(judge, "length_effect")
    corrected = part_of(length, "win_rate_corrected")
    return {
        "judge": str(judge.get("judge", "not named")),
        "saw_faces": judge.get("saw_faces"),
        "scores": [
            Row(face, "", [cell(coherence.get(face), ".2f"), cell(tone.get(face), ".2f")])
            for face in dict.fromkeys([*coherence, *tone])
        ],
        "axis": charts.whisker_axis(scale),
        "pairs": [
            Row(name, "", [cell(raw, ".2f", scale, 0.5), _any_cell(corrected.get(name))])
            for name, raw in part_of(judge, "pairs").items()
        ],
        "facts": _judge_facts(judge, length),
    }


def _any_cell(raw: Any) -> Cell:
    """Of an estimate or of a number by itself."""
    return Cell(number(raw), "") if is_number(raw) else cell(raw, ".2f")


def _judge_facts(judge: Mapping[str, Any], length: Mapping[str, Any]) -> list[tuple[str, str]]:
    agreement = judge.get("agreement_with_person")
    agreed = "not measured (nvllm eval rate)"
    if isinstance(agreement, dict):
        kappa = number(agreement.get("kappa"))
        agreed = f"{share(agreement.get('agreement'))} of {agreement.get('pairs')} pairs, kappa {kappa}"
    slope = _any_cell(length.get("slope"))
    return [
        ("order swapped, answer swapped (counted as ties)", share(judge.get("ties_by_order"))),
        ("effect of a longer reply (slope)", f"{slope.value} {slope.interval}".strip()),
        ("agreement with a person", agreed),
        ("calls", number(judge.get("calls"), "d") if isinstance(judge.get("calls"), int) else "not known"),
        ("cost in US dollars", number(judge.get("cost_usd"))),
    ]
