"""What one trained model says about its own test data, under every condition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from natural_video_llm.checkpoint import load_run
from natural_video_llm.errors import UserError
from natural_video_llm.evaluation import controls
from natural_video_llm.evaluation.conditions import CURVE_S, SHIFTS_S, Condition, conditions, shift_name, shifted
from natural_video_llm.evaluation.evidence import Scorer, Scores
from natural_video_llm.evaluation.held_out import held_out_sessions, load_test_examples
from natural_video_llm.evaluation.reaction import ReactionErrors, reaction_errors
from natural_video_llm.evaluation.replies import (
    Replier,
    ReplyOptions,
    ReplyUnderFace,
    generate_replies,
    replies_under_faces,
)
from natural_video_llm.evaluation.reply_records import OTHER_PERSON, OTHER_SESSION, GeneratedReply
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.preprocessing.encoders import pose_numbers_of
from natural_video_llm.sessions.candidates import FILE_NAME, Candidates, read_candidates
from natural_video_llm.sessions.latents import load_background_latents
from natural_video_llm.training.dataset import Example, FaceTrack, no_face, with_reply

CHOICE_CONDITIONS = ("true", OTHER_PERSON, OTHER_SESSION, "shuffled")
TWIN = "text-only twin"


@dataclass
class Part:
    """What one trained model says about its own test data.

    Args:
        scores: by condition.
        shifts: by how much the face is later, in seconds.
        choices: by condition, evidence [examples, candidates] in bits.
        candidates: one for each example, or none at all.
        token_texts: the target tokens of each example, as text.
    """

    examples: list[Example]
    scores: dict[str, Scores]
    choices: dict[str, np.ndarray]
    candidates: list[Candidates]
    reactions: ReactionErrors | None = None
    shifts: dict[float, Scores] = field(default_factory=dict)
    token_texts: list[list[str]] = field(default_factory=list)
    generated: list[GeneratedReply] = field(default_factory=list)


def score_part(
    run: Path, background: bool, options: ReplyOptions, report: Callable[[str], None]
) -> tuple[Part, list[ReplyUnderFace]]:
    """Score the model in the folder `run` on what it held out, and some replies of it to show.

    Raises:
        UserError: no run here, its data is gone, it gives no numbers, or `background` latents are missing.
    """
    model, tokenizer = load_run(run)
    pad_id = tokenizer.pad_token_id or 0
    examples, data = load_test_examples(run, model, tokenizer)
    shown = conditions(examples, model.memory_s, model.config.window_s, seed=0) | _controls(model, examples)
    if background:
        shown |= controls.background_only(_background_tracks(run, model), model.memory_s)
    scorer = Scorer(model, pad_id)
    scores = {}
    for name, face_of in shown.items():
        report(f"bits per token, {name}")
        scores[name] = _finite(scorer(examples, [face_of(e) for e in examples]), name, run)
    shifts = _score_shifts(scorer, examples, scores, model.memory_s, report)
    candidates = candidates_of(examples, data)
    choices = {}
    if candidates:
        choices = score_choices(scorer, tokenizer, examples, candidates, shown, report)
    if (run / "twin").is_dir():
        report(f"bits per token, {TWIN}")
        scores[TWIN] = _twin_scores(run, examples, pad_id)
    reactions = None
    if model.config.reaction:
        report("the face ahead")
        reactions = reaction_errors(model, examples, pad_id)
    faces, replier = _different_answers(examples, candidates), Replier(model, tokenizer, examples)
    replies = replies_under_faces(replier, faces[0], faces) if faces else []
    sessions = {s.start.session_id: s for s in held_out_sessions(run)}
    generated = generate_replies(replier, examples, shown, sessions, options, report)
    texts = [[str(tokenizer.decode([i])) for i in e.ids[e.target].tolist()] for e in examples]
    return Part(examples, scores, choices, candidates, reactions, shifts, texts, generated), replies


def named_alike(parts: Sequence[Part]) -> list[Part]:
    """Where a part held out one person alone, another person's face is called what it is in all of them: another
    session's."""
    if not any(OTHER_SESSION in part.scores for part in parts):
        return list(parts)
    name = {OTHER_PERSON: OTHER_SESSION}
    return [
        replace(
            part,
            scores={name.get(n, n): scores for n, scores in part.scores.items()},
            choices={name.get(n, n): evidence for n, evidence in part.choices.items()},
            generated=[r.model_copy(update={"face": name.get(r.face, r.face)}) for r in part.generated],
        )
        for part in parts
    ]


def _twin_scores(run: Path, examples: Sequence[Example], pad_id: int) -> Scores:
    twin, _ = load_run(run / "twin")
    return _finite(Scorer(twin, pad_id)(examples, [no_face(e) for e in examples]), TWIN, run)


def _controls(model: NaturalVideoLLM, examples: Sequence[Example]) -> dict[str, Condition]:
    found = controls.identity_only(examples, model.memory_s)
    pose_numbers = pose_numbers_of(model.config.encoder)
    return found | (controls.pose_and_shape(examples, pose_numbers, model.memory_s) if pose_numbers else {})


def _background_tracks(run: Path, model: NaturalVideoLLM) -> dict[str, FaceTrack]:
    """By session id, what the encoder made of the video with the face painted over."""
    config = model.config
    return {
        session.start.session_id: FaceTrack.of(
            load_background_latents(session, config.encoder), config.neutral_memory_s
        )
        for session in held_out_sessions(run)
    }


def _finite(scores: Scores, name: str, run: Path) -> Scores:
    if not np.isfinite(scores.sums).all():
        bad = int((~np.isfinite(scores.sums)).sum())
        raise UserError(
            f"{run}: no finite score for {bad} of {len(scores.sums)} utterances (condition: {name}); the training "
            "diverged or the latents are damaged: train again with a lower --learning-rate, or extract again"
        )
    return scores


def _score_shifts(
    scorer: Scorer,
    examples: Sequence[Example],
    scores: dict[str, Scores],
    memory_s: float,
    report: Callable[[str], None],
) -> dict[float, Scores]:
    known = {0.0: scores["true"], **{s: scores[shift_name(s)] for s in SHIFTS_S}}
    for shift_s in CURVE_S:
        if shift_s not in known:
            report(f"bits per token, {shift_name(shift_s)}")
            face_of = shifted(shift_s, memory_s)
            known[shift_s] = scorer(examples, [face_of(e) for e in examples])
    return {shift_s: known[shift_s] for shift_s in CURVE_S}


def candidates_of(examples: Sequence[Example], data: Path) -> list[Candidates]:
    """The candidate replies of each example; empty where the data has none, or another reply was given."""
    if not (data / FILE_NAME).is_file():
        return []
    by_message = read_candidates(data / FILE_NAME)
    found = [by_message.get(e.prompt) for e in examples]
    known = [c for c, e in zip(found, examples, strict=True) if c and e.reply in [one.reply for one in c.candidates]]
    return known if len(known) == len(examples) else []


def score_choices(
    scorer: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    candidates: Sequence[Candidates],
    shown: dict[str, Condition],
    report: Callable[[str], None],
) -> dict[str, np.ndarray]:
    """Condition → evidence [examples, candidates] in bits."""
    chat = ChatFormat(tokenizer)
    posed = [
        [_posed(example, c.reply, tokenizer, chat) for c in options.candidates]
        for example, options in zip(examples, candidates, strict=True)
    ]
    flat = [variant for row in posed for variant in row]
    # Without a face only the tokens count, so that each text needs scoring once, whoever said it.
    texts = {variant.ids.tobytes(): variant for variant in flat}
    report("candidates, none")
    alone = scorer(list(texts.values()), [no_face(v) for v in texts.values()]).sums
    none = dict(zip(texts, alone, strict=True))
    without = np.array([none[v.ids.tobytes()] for v in flat])
    evidence = {}
    for name in (n for n in CHOICE_CONDITIONS if n in shown):
        report(f"candidates, {name}")
        faces = [face for e, row in zip(examples, posed, strict=True) for face in [shown[name](e)] * len(row)]
        evidence[name] = (scorer(flat, faces).sums - without).reshape(len(examples), -1)
    return evidence


def _posed(example: Example, reply: str, tokenizer: PreTrainedTokenizerBase, chat: ChatFormat) -> Example:
    """The example with another reply, shown over the same stretch of time: the timing must not tell them apart."""
    ids = tokenizer(reply, add_special_tokens=False)["input_ids"]
    times = np.linspace(*example.target_span_s, len(ids)).tolist()
    return with_reply(example, TimedTokens(ids, times), reply, chat)


def _different_answers(examples: Sequence[Example], candidates: Sequence[Candidates]) -> list[Example]:
    """One example for each way of answering, all of one person where possible, to show side by side."""
    by_motion: dict[str, Example] = {}
    for example, options in zip(examples, candidates, strict=False):
        motion = next((c.motion for c in options.candidates if c.reply == example.reply), None)
        if motion is not None:
            by_motion.setdefault(motion, example)
    return [by_motion[m] for m in sorted(by_motion)]
