"""Conversations on a time axis: the face, how much it moves, and what each word gained by it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.reporting import charts
from natural_video_llm.evaluation.reporting.figures import is_number, number
from natural_video_llm.evaluation.reporting.material import Material, rows_of
from natural_video_llm.evaluation.reporting.strips import Span, face_strips
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import Latents, load_session_latents

# As many turns as a reader may want, as many pictures as a light page can hold.
_TURNS, _TURNS_WITH_PICTURES = 40, 16
_MOTION_S = 0.2
# Percent of the strip below its name.
_MOTION_HEIGHT = 60
_FRAME_S, _FRAMES = 0.4, (6, 12)


@dataclass(frozen=True)
class Word:
    """`level` is the gain's size as a share of the largest ones, 0 to 1; `at` percent of the turn's time axis."""

    text: str
    t_s: float
    gain_bits: float
    level: float
    at: float

    @property
    def css(self) -> str:
        return "gain" if self.gain_bits >= 0 else "loss"

    @property
    def told(self) -> str:
        return f"{self.text}: {number(self.gain_bits, '+.2f')} bits, at {number(self.t_s, '.2f')} s"


@dataclass
class Turn:
    """An utterance that was predicted, behind what was said before it."""

    message: str
    message_speaker: str
    speaker: str
    words: list[Word]
    span: Span
    pictures: str | None = None
    motion: Markup | None = None

    @property
    def total(self) -> str:
        return number(sum(w.gain_bits for w in self.words), "+.1f")

    @property
    def bars(self) -> Markup:
        """One bar a word at its time, up for bits gained, down for bits lost."""
        bar = Markup(
            '<rect class="{}" data-word="{}" x="{}%" y="{}%" width="0.8%" height="{}%"><title>{}</title></rect>'
        )
        parts = [
            bar.format(
                w.css,
                place,
                round(w.at - 0.4, 2),
                round(60 - 58 * w.level if w.gain_bits >= 0 else 60, 2),
                round((58 if w.gain_bits >= 0 else 38) * w.level, 2),
                w.told,
            )
            for place, w in enumerate(self.words)
        ]
        rule = Markup('<line class="rule" x1="0%" x2="100%" y1="60%" y2="60%"/>')
        return rule + Markup("").join(parts)

    @property
    def ticks(self) -> Markup:
        scale = charts.Scale(self.span.start_s, self.span.end_s)
        label = Markup('<text x="{}%" y="11" text-anchor="middle">{} s</text>')
        return Markup("").join(label.format(scale.percent(t), number(t, "g")) for t in scale.ticks(5))


@dataclass(frozen=True)
class Conversation:
    """Its turns in order of time, the first ones where there are too many; `left_out` counts the rest.

    `largest_gain` is what full colour and height stand for, in bits."""

    session_id: str
    person: str
    turns: list[Turn]
    left_out: int
    largest_gain: str


def conversations(material: Material, faces: bool) -> list[Conversation]:
    """Those of eval.json, with pictures and motion where the sessions are still there."""
    shown = []
    rows = rows_of(material.evidence, "timeline")
    largest = _largest_gain(rows)
    for row in rows:
        turns = _turns(rows_of(row, "utterances"), largest, material.window_s)
        if not turns:
            continue
        chosen = turns[:_TURNS]
        session = material.sessions.get(str(row.get("session_id")))
        if session is not None:
            _add_motion(session, str(material.options.get("encoder", "")), chosen, material)
            if faces:
                _add_pictures(session, chosen[:_TURNS_WITH_PICTURES], material)
        name, person = str(row.get("session_id", "")), str(row.get("person", ""))
        shown.append(Conversation(name, person, chosen, len(turns) - len(chosen), number(largest, ".1f")))
    return shown


def _turns(utterances: Sequence[dict[str, Any]], largest: float, window_s: float) -> list[Turn]:
    turns: list[Turn] = []
    before: dict[str, Any] = {}
    for utterance in utterances:
        words = [w for w in rows_of(utterance, "words") if is_number(w.get("t_s")) and is_number(w.get("gain_bits"))]
        if words:
            turns.append(_turn(before, utterance, words, largest, window_s))
        before = {} if words else utterance
    return turns


def _turn(
    before: dict[str, Any], utterance: dict[str, Any], words: Sequence[dict[str, Any]], largest: float, window_s: float
) -> Turn:
    times = [float(w["t_s"]) for w in words]
    start_s, end_s = max(0.0, min(times) - window_s), max(times) + 0.2
    frames = int(np.clip(round((end_s - start_s) / _FRAME_S), *_FRAMES))
    scale = charts.Scale(start_s, end_s)
    return Turn(
        message=str(before.get("text", "")),
        message_speaker=str(before.get("speaker", "")),
        speaker=str(utterance.get("speaker", "")),
        words=[
            Word(
                str(w.get("text", "")).strip(),
                float(w["t_s"]),
                float(w["gain_bits"]),
                round(min(1.0, abs(w["gain_bits"]) / largest), 3),
                scale.percent(float(w["t_s"])),
            )
            for w in words
        ],
        span=Span(start_s, end_s, frames),
    )


def _largest_gain(rows: Sequence[dict[str, Any]]) -> float:
    """What few gains exceed: those are drawn as large as it, so that one word does not make the others vanish; at
    least a bit, so that next to nothing looks like it."""
    gains = [
        abs(w["gain_bits"])
        for row in rows
        for utterance in rows_of(row, "utterances")
        for w in rows_of(utterance, "words")
        if is_number(w.get("gain_bits"))
    ]
    return max(float(np.quantile(gains, 0.98)), 1.0) if gains else 1.0


def _add_pictures(session: Session, turns: Sequence[Turn], material: Material) -> None:
    for turn, strip in zip(turns, face_strips(session, [turn.span for turn in turns]), strict=True):
        turn.pictures = strip
    if all(turn.pictures is None for turn in turns):
        material.miss("Face strip", f"the video of {session.start.session_id} is not there any more.")


def _add_motion(session: Session, encoder: str, turns: Sequence[Turn], material: Material) -> None:
    try:
        latents = load_session_latents(session, encoder)
    except UserError as error:
        material.miss("Motion of the face", str(error))
        return
    curves = [_motion(latents, turn.span) for turn in turns]
    speeds = np.concatenate([speed for _, speed in curves])
    known = speeds[np.isfinite(speeds)]
    largest = float(np.quantile(known, 0.98)) if len(known) else 0.0
    for turn, (times, speed) in zip(turns, curves, strict=True):
        scale = charts.Scale(turn.span.start_s, turn.span.end_s)
        heights = [_MOTION_HEIGHT * min(1.0, float(s) / largest) if largest else math.nan for s in speed]
        turn.motion = charts.area([(scale.percent(float(t)), h) for t, h in zip(times, heights, strict=True)])


def _motion(latents: Latents, span: Span) -> tuple[np.ndarray, np.ndarray]:
    """Times and, for each frame, how fast the latent has changed over the last 0.2 s (root mean square of its numbers,
    a second); NaN where no face was there."""
    first, last = np.searchsorted(latents.times, [span.start_s - 2 * _MOTION_S, span.end_s])
    times, present = latents.times[first:last], latents.present[first:last]
    values = latents.latents[first:last].astype(np.float32)
    # The newest frame that is at least so old; the clock of a file rises, so one search is enough.
    earlier = np.searchsorted(times, times - _MOTION_S, side="right") - 1
    known = (earlier >= 0) & present & present[earlier] & (times >= span.start_s)
    change = np.sqrt(np.mean((values - values[earlier]) ** 2, axis=1)) / np.maximum(times - times[earlier], 1e-6)
    return times, np.where(known, change, np.nan)
