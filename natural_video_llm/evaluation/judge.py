"""LLM judges of the replies that `nvllm eval` wrote down: `replies.jsonl` → `judge_raw.jsonl`, `judge.json`."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.disk import write_whole
from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.judging.answers import Asker, Price
from natural_video_llm.evaluation.judging.clients import Judge
from natural_video_llm.evaluation.judging.contact_sheet import FRAMES, contact_sheet
from natural_video_llm.evaluation.judging.pairs import cohens_kappa, length_effect, merge_orders
from natural_video_llm.evaluation.judging.rubric import (
    Preference,
    Question,
    Rating,
    Scene,
    preference_question,
    rating_question,
)
from natural_video_llm.evaluation.reply_records import FACES, GeneratedReply, clusters_of, read_replies
from natural_video_llm.evaluation.statistics import json_ready, mean_estimate
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.run_folder import JUDGE_FILE, RUN_FILE, run_parts
from natural_video_llm.sessions.folder import Session, find_sessions

RIVALS = FACES[1:]


@dataclass(frozen=True)
class Pair:
    """Two replies to one message: under the true face, and under a rival one."""

    true: GeneratedReply
    rival: GeneratedReply

    @property
    def name(self) -> str:
        return f"true over {self.rival.face}"

    @property
    def same(self) -> bool:
        """Whether both replies are one text: a tie that nobody need judge."""
        return self.true.reply == self.rival.reply

    @property
    def id(self) -> str:
        """Known by its content, so that another evaluation's pair is another pair."""
        reply, rival = self.true, self.rival
        content = [reply.session_id, reply.begins_s, reply.message, rival.face, reply.reply, rival.reply]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def more_words(self) -> int:
        return len(self.true.reply.split()) - len(self.rival.reply.split())


def pairs_of(replies: Sequence[GeneratedReply]) -> list[Pair]:
    """The reply under the true face beside each rival to the same message."""
    by_place = {(r.session_id, r.begins_s, r.face): r for r in replies}
    return [
        Pair(by_place[session, begins_s, "true"], reply)
        for (session, begins_s, face), reply in by_place.items()
        if face in RIVALS and (session, begins_s, "true") in by_place
    ]


class Scenes:
    """What a judge or a rater is shown of the conversation around each reply.

    Args:
        run: a run folder; the sessions that it was trained and tested on are where its record says.
        faces: whether contact sheets of the person's face are shown.

    Raises:
        UserError: faces are wanted, and the data is gone.
    """

    def __init__(self, run: Path, replies: Sequence[GeneratedReply], faces: bool):
        self._made: dict[tuple[str, float], Scene] = {}
        self._sessions: dict[str, Session] = {}
        if faces:
            self._sessions = _sessions_of(run, {reply.session_id for reply in replies})
            self._landmarker = FaceLandmarker(face_landmarker_file())

    def of(self, reply: GeneratedReply) -> Scene:
        """The scene before `reply`; without a sheet where no face is wanted, or none is seen."""
        place = (reply.session_id, reply.begins_s)
        if place not in self._made:
            sheet = None
            if self._sessions:
                sheet = contact_sheet(self._sessions[reply.session_id], *reply.span_s, self._landmarker)
            before_s = reply.begins_s - reply.span_s[0]
            self._made[place] = Scene(reply.context, reply.message, sheet, FRAMES, before_s)
        return self._made[place]


def _sessions_of(run: Path, wanted: set[str]) -> dict[str, Session]:
    record = run_parts(run)[0] / RUN_FILE
    remedy = "put it back, or go on with the words alone"
    try:
        folder = Path(json.loads(record.read_text())["options"]["sessions"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{record} cannot be read, so that nobody knows where the video is; {remedy}") from error
    if not folder.is_dir():
        raise UserError(f"{folder}: the data that {run} was evaluated on is not there; {remedy}")
    found = {s.start.session_id: s for s in find_sessions(folder) if s.start.session_id in wanted}
    if missing := wanted - found.keys():
        raise UserError(f"{folder}: {len(missing)} session(s) are gone, among them {min(missing)}; {remedy}")
    without = [s for s in found.values() if not all((s.path / e.file).is_file() for e in s.finished_segments)]
    if without:
        raise UserError(f"{without[0].path}: the video is not there; {remedy}")
    return found


@dataclass(frozen=True)
class Judgement:
    """Everything that is to be asked, question by question, in a fixed order."""

    replies: list[GeneratedReply]
    pairs: list[Pair]
    scenes: Scenes

    @classmethod
    def of(cls, run: Path, faces: bool) -> "Judgement":
        """Raises UserError: no replies, or their video is gone."""
        replies = read_replies(run)
        return cls(replies, pairs_of(replies), Scenes(run, replies, faces))

    def rating(self, reply: GeneratedReply) -> Question:
        return rating_question(self.scenes.of(reply), reply.reply)

    def in_both_orders(self, pair: Pair) -> tuple[Question, Question]:
        scene = self.scenes.of(pair.true)
        return (
            preference_question(scene, pair.true.reply, pair.rival.reply),
            preference_question(scene, pair.rival.reply, pair.true.reply),
        )

    def questions(self) -> list[Question]:
        asked = [self.rating(reply) for reply in self.replies]
        return asked + [q for pair in self.pairs if not pair.same for q in self.in_both_orders(pair)]


@dataclass(frozen=True)
class Estimated:
    """What a judgement will take, before it starts: calls not yet kept, US dollars, pictures among them."""

    calls: int
    usd: float
    pictures: int
    people: int


def estimate_cost(judgement: Judgement, asker: Asker, price: Price) -> Estimated:
    """Of the calls that are still to be made; thinking, which cannot be known beforehand, is left out."""
    new = [q for q in judgement.questions() if not asker.is_kept(q)]
    pictures = {q.picture for q in new if q.picture}
    people = {reply.person for reply in judgement.replies}
    return Estimated(len(new), sum(price.usual(q) for q in new), len(pictures), len(people))


def judge_replies(
    judgement: Judgement, judge: Judge, asker: Asker, report: Callable[[int, int], None]
) -> dict[str, Any]:
    """Ask everything, and summarise (`judge.json`'s content, without agreement with a person).

    `report` is given the numbers of judgements made and to be made. An interrupt loses nothing: what was answered is
    kept, and the next call takes it from there.

    Raises:
        UserError: as `Asker.verdict`; or the judge gave no answer that can be used.
    """
    pairs = [pair for pair in judgement.pairs if not pair.same]
    total, done = len(judgement.replies) + len(pairs), 0
    ratings: list[Rating | None] = []
    for reply in judgement.replies:
        verdict = asker.verdict(judgement.rating(reply))
        ratings.append(verdict if isinstance(verdict, Rating) else None)
        report(done := done + 1, total)
    orders: dict[str, tuple[float, float]] = {}
    for pair in pairs:
        first, second = (asker.verdict(question) for question in judgement.in_both_orders(pair))
        if isinstance(first, Preference) and isinstance(second, Preference):
            orders[pair.id] = (_worth(first, "first"), _worth(second, "second"))
        report(done := done + 1, total)
    if not orders and not any(ratings):
        raise UserError(f"{judge.address}: no answer could be used ({_failures(asker.failed)}); take another judge")
    return {
        "judge": str(judge.address),
        "saw_faces": any(q.picture for q in judgement.questions()),
        "temperature": 0 if asker.temperatures == {0} else None,
        **_summarise_ratings(judgement.replies, ratings),
        **_summarise_pairs(judgement.pairs, orders),
        "cost_usd": asker.used_usd,
        "calls": asker.calls,
        "failed": asker.failed,
        "agreement_with_person": None,
    }


def _worth(verdict: Preference, place: str) -> float:
    """How good the reply shown at `place` was found: 1 better, 0.5 tie, 0 worse."""
    return 0.5 if verdict.better == "tie" else float(verdict.better == place)


def _failures(failed: Mapping[str, int]) -> str:
    return ", ".join(f"{count} times {why}" for why, count in failed.items() if count)


def _summarise_ratings(replies: Sequence[GeneratedReply], ratings: Sequence[Rating | None]) -> dict[str, Any]:
    summary: dict[str, dict[str, Any]] = {"coherence": {}, "tone": {}}
    for face in dict.fromkeys(reply.face for reply in replies):
        rated = [(r, x) for r, x in zip(replies, ratings, strict=True) if r.face == face and x is not None]
        clusters = clusters_of([reply for reply, _ in rated])
        summary["coherence"][face] = mean_estimate([x.coherence for _, x in rated], clusters)
        summary["tone"][face] = mean_estimate([x.tone_alignment for _, x in rated], clusters)
    return summary


def _summarise_pairs(pairs: Sequence[Pair], orders: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Win rates over the pairs that were judged, in both orders; pairs of one text are ties."""
    merged = {pair.id: 0.5 if pair.same else merge_orders(*orders[pair.id]) for pair in pairs if _judged(pair, orders)}
    judged = [pair for pair in pairs if pair.id in merged]
    rates = {}
    for name in dict.fromkeys(pair.name for pair in pairs):
        own = [pair for pair in judged if pair.name == name]
        rates[name] = mean_estimate([merged[p.id] for p in own], clusters_of([p.true for p in own]))
    disagreed = [first != second for first, second in orders.values()]
    return {
        "pairs": rates,
        "ties_by_order": float(np.mean(disagreed)) if disagreed else None,
        "length_effect": _length_effect(judged, merged),
        "verdicts": merged,
    }


def _judged(pair: Pair, orders: Mapping[str, tuple[float, float]]) -> bool:
    return pair.same or pair.id in orders


def _length_effect(judged: Sequence[Pair], merged: Mapping[str, float]) -> dict[str, Any] | None:
    if not judged:
        return None
    wins, words = np.array([merged[p.id] for p in judged]), np.array([p.more_words for p in judged], float)
    names = [p.name for p in judged]
    slope, corrected = length_effect(wins, words, names, clusters_of([p.true for p in judged]))
    mean = {name: float(np.mean([p.more_words for p in judged if p.name == name])) for name in corrected}
    return {"slope": slope, "win_rate_corrected": corrected, "more_words": mean}


def write_judgement(result: dict[str, Any], run: Path) -> None:
    """`judge.json`, written beside and renamed."""
    write_whole(run / JUDGE_FILE, json.dumps(json_ready(result), indent=2, allow_nan=False) + "\n")


def agreement(verdicts: Mapping[str, float], ratings: Mapping[str, float]) -> dict[str, Any] | None:
    """How far a judge and a person agree on the pairs that both have judged; None where there are none."""
    both = [pair for pair in verdicts if pair in ratings]
    if not both:
        return None
    words = {1.0: "better", 0.5: "tie", 0.0: "worse"}
    agreed, kappa = cohens_kappa([words[verdicts[p]] for p in both], [words[ratings[p]] for p in both])
    return {"pairs": len(both), "agreement": agreed, "kappa": kappa}
