"""A run folder → eval.json: what the model does with the right face, with wrong ones, and without any."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from natural_video_llm.checkpoint import load_run
from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.conditions import Condition, conditions
from natural_video_llm.evaluation.evidence import Choices, Scorer, Scores, bits_gained, bits_per_token
from natural_video_llm.evaluation.reaction import ReactionErrors, reaction_errors, summarise_reactions
from natural_video_llm.evaluation.replies import (
    DEFAULT_REPLIES,
    ReplyOptions,
    ReplyUnderFace,
    generate_replies,
    replies_under_faces,
)
from natural_video_llm.evaluation.reply_measures import load_embedder, summarise_replies
from natural_video_llm.evaluation.reply_records import GeneratedReply, write_replies
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.sessions.candidates import FILE_NAME, ORDER_PAIRS, Candidates, read_candidates
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.tokenization import tokenizer_sha256
from natural_video_llm.training.dataset import Example, load_examples, no_face, with_reply
from natural_video_llm.training.model_card import RUN_FILE, write_card

EVAL_FILE = "eval.json"
_CHOICE_CONDITIONS = ("true", "other person", "shuffled")


@dataclass
class _Part:
    """What one trained model says about its own test data."""

    examples: list[Example]
    scores: dict[str, Scores]
    choices: dict[str, np.ndarray]
    candidates: list[Candidates]
    reactions: ReactionErrors | None = None
    generated: list[GeneratedReply] = field(default_factory=list)


def evaluate(
    run: Path, report: Callable[[str], None], options: ReplyOptions = DEFAULT_REPLIES
) -> tuple[dict[str, Any], list[ReplyUnderFace]]:
    """Evaluate a run on the people it was not trained on, write eval.json, and return it with sample replies.

    Raises:
        UserError: no run here, or its data is gone; or there is no sentence model of that name.
    """
    folders = sorted(run.glob("fold_*")) or [run]
    embed = load_embedder(options.embedding) if options.embedding else None
    options = replace(options, utterances=-(-options.utterances // len(folders)))
    parts: list[_Part] = []
    replies: list[ReplyUnderFace] = []
    for number, folder in enumerate(folders, start=1):
        report(f"part {number} of {len(folders)}")
        part, shown = _evaluate_part(folder, report, options)
        parts.append(part)
        replies = replies or shown
    result = summarise(parts)
    result["replies"] = [asdict(r) for r in replies]
    generated = [reply for part in parts for reply in part.generated]
    write_replies(generated, run)
    result["replies_summary"] = summarise_replies(generated, embed)
    beside = run / f".{EVAL_FILE}"
    beside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    beside.replace(run / EVAL_FILE)
    for folder in folders:
        write_card(folder, result)
    return result, replies


def load_test_examples(
    run: Path, model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Example], Path]:
    """The examples that the run held out, and the folder of its sessions."""
    try:
        record = json.loads((run / RUN_FILE).read_text())
        options, test_ids = record["options"], set(record["test"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{run / RUN_FILE} cannot be read ({error}); train the run again") from error
    folder = Path(options["sessions"])
    sessions = [s for s in _sessions_of(folder, run) if s.start.session_id in test_ids]
    missing = test_ids - {s.start.session_id for s in sessions}
    if missing:
        raise UserError(f"{folder}: {len(missing)} test session(s) of {run} are gone, among them {min(missing)}")
    examples = load_examples(
        sessions,
        ChatFormat(tokenizer),
        tokenizer_sha256(tokenizer),
        options["encoder"],
        model.config.neutral_memory_s,
        options["context_turns"],
    )
    return examples, folder


def _sessions_of(folder: Path, run: Path) -> list[Session]:
    if not folder.is_dir():
        raise UserError(f"{folder}: the data that {run} was trained on is not there; put it back or train again")
    return find_sessions(folder)


def _evaluate_part(
    run: Path, report: Callable[[str], None], options: ReplyOptions
) -> tuple[_Part, list[ReplyUnderFace]]:
    model, tokenizer = load_run(run)
    pad_id = tokenizer.pad_token_id or 0
    examples, data = load_test_examples(run, model, tokenizer)
    shown = conditions(examples, model.memory_s, model.config.window_s, seed=0)
    scorer = Scorer(model, pad_id)
    scores = {}
    for name, face_of in shown.items():
        report(f"bits per token, {name}")
        scores[name] = scorer(examples, [face_of(e) for e in examples])
    candidates = _candidates_of(examples, data)
    choices = {}
    if candidates:
        choices = _score_choices(scorer, tokenizer, examples, candidates, shown, report)
    faces = _different_answers(examples, candidates)
    replies = replies_under_faces(model, tokenizer, faces[0], faces) if faces else []
    sessions = {s.start.session_id: s for s in find_sessions(data)}
    generated = generate_replies(model, tokenizer, examples, shown, sessions, options, report)
    if (run / "twin").is_dir():
        report("bits per token, text-only twin")
        twin, _ = load_run(run / "twin")
        scores["text-only twin"] = Scorer(twin, pad_id)(examples, [no_face(e) for e in examples])
    reactions = None
    if model.config.reaction:
        report("the face ahead")
        reactions = reaction_errors(model, examples, pad_id)
    return _Part(examples, scores, choices, candidates, reactions, generated), replies


def _candidates_of(examples: Sequence[Example], data: Path) -> list[Candidates]:
    """The candidate replies of each example; empty where the data has none."""
    if not (data / FILE_NAME).is_file():
        return []
    by_message = read_candidates(data / FILE_NAME)
    found = [by_message[e.prompt] for e in examples if e.prompt in by_message]
    return found if len(found) == len(examples) else []


def _score_choices(
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
    for name in (n for n in _CHOICE_CONDITIONS if n in shown):
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


def summarise(parts: Sequence[_Part]) -> dict[str, Any]:
    """The evidence over all parts, every figure as [value, low, high] with its 95 % interval."""
    examples = [e for part in parts for e in part.examples]
    people = {e.person for e in examples}
    clusters = [e.person if len(people) > 1 else e.session_id for e in examples]
    tokens = np.array([e.target.sum() for e in examples])
    words = np.array([e.words for e in examples])
    names = [n for n in parts[0].scores if all(n in part.scores for part in parts)]
    scores = {n: Scores([x for part in parts for x in part.scores[n].log2_probs]) for n in names}
    result: dict[str, Any] = {
        "data": {
            "people": len(people),
            "sessions": len({e.session_id for e in examples}),
            "utterances": len(examples),
            "tokens": int(tokens.sum()),
            "words": int(words.sum()),
            "interval_over": "people" if len(people) > 1 else "sessions",
        },
        "conditions": {
            name: {
                "bits_per_token": bits_per_token(scores[name], clusters),
                "true_saves_per_token": bits_gained(scores["true"], scores[name], clusters, tokens),
                "true_saves_per_word": bits_gained(scores["true"], scores[name], clusters, words),
            }
            for name in names
        },
    }
    if all(part.choices for part in parts):
        result["choices"] = _summarise_choices(parts, clusters)
    reactions = [part.reactions for part in parts if part.reactions is not None]
    if len(reactions) == len(parts):
        result["reaction"] = summarise_reactions(reactions, clusters)
    return result


def _summarise_choices(parts: Sequence[_Part], clusters: Sequence[str]) -> dict[str, Any]:
    candidates = [c for part in parts for c in part.candidates]
    replies = [e.reply for part in parts for e in part.examples]
    right = np.array(
        [[c.reply for c in options.candidates].index(r) for options, r in zip(candidates, replies, strict=True)]
    )
    motions = np.array([[c.motion for c in options.candidates] for options in candidates])
    summary: dict[str, Any] = {"candidates": motions.shape[1]}
    for name in (n for n in _CHOICE_CONDITIONS if all(n in part.choices for part in parts)):
        choices = Choices(np.concatenate([part.choices[name] for part in parts]), right)
        summary[name] = {"right": choices.right_share(clusters), "choice_bits": choices.choice_bits(clusters)}
        summary[name]["order_pairs"] = {
            "/".join(pair): _pair_share(choices, motions, pair, clusters) for pair in ORDER_PAIRS
        }
    return summary


def _pair_share(
    choices: Choices, motions: np.ndarray, pair: tuple[str, str], clusters: Sequence[str]
) -> list[float] | None:
    """How often the right one of two is preferred, where the two differ in the order of the frames alone."""
    rows = np.flatnonzero(np.isin(motions[np.arange(len(motions)), choices.right], pair))
    if not len(rows):
        return None
    narrowed = Choices(choices.evidence[rows], choices.right[rows]).between(np.isin(motions[rows], pair))
    return list(narrowed.right_share([clusters[int(i)] for i in rows]))
