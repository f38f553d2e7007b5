"""Every raw answer of a judge, kept, and no question asked twice."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.judging.clients import Answer, Judge, NoAnswerError
from natural_video_llm.evaluation.judging.rubric import Question, Verdict, read_verdict
from natural_video_llm.sessions.append_log import AppendLog
from natural_video_llm.sessions.clock import utc_now

# After so many questions in a row without an answer nobody is there.
_GIVE_UP_AFTER = 3
# What a picture of a contact sheet's size costs at most, in tokens, with either of the two vendors.
_PICTURE_TOKENS = 1600
_CHARACTERS_A_TOKEN = 3
# A verdict and its one sentence; thinking comes on top, and is seen in the bill alone.
_USUAL_TOKENS = 120


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens, in and out."""

    usd_in: float
    usd_out: float

    def of(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.usd_in + tokens_out * self.usd_out) / 1e6

    def usual(self, question: Question) -> float:
        return self.of(tokens_of(question), _USUAL_TOKENS)


def tokens_of(question: Question) -> int:
    """How many tokens a question has, rather too many than too few."""
    characters = len(question.system) + len(question.text)
    return -(-characters // _CHARACTERS_A_TOKEN) + _PICTURE_TOKENS * (question.picture is not None)


class Asker:
    """Asks a judge, and keeps each answer in `judge_raw.jsonl` before it is used.

    A question is known by its content (judge, words, picture, schema): what has been answered, refusals and nonsense
    included, is never asked again, in this run or another. What got no answer is.

    Args:
        judge: who is asked.
        path: the file of answers.
        cap_usd: no call is made that could take what is spent by this run above it.
    """

    def __init__(self, judge: Judge, path: Path, price: Price, cap_usd: float):
        self._judge, self._price, self._cap_usd = judge, price, cap_usd
        self._kept = _read_kept(path)
        self._path, self._log = path, AppendLog(path)
        self._in_a_row = 0
        self.spent_usd = self.used_usd = 0.0
        self.calls = 0
        # None: left out, since the server refuses it, or not noted.
        self.temperatures: set[float | None] = set()
        self.failed = {"refused": 0, "nonsense": 0, "no answer": 0}

    def close(self) -> None:
        self._log.close()

    def is_kept(self, question: Question) -> bool:
        return self._key(question) in self._kept

    def verdict(self, question: Question) -> Verdict | None:
        """What the judge says, asked once more where its answer does not fit the schema; None where it said nothing
        that can be used (`failed` counts those).

        Raises:
            UserError: the cap is reached, nobody answers any more, or a person has to put something right.
        """
        for turn in (1, 2):
            answer = self._answer(question)
            if answer is None:
                self.failed["no answer"] += 1
                return None
            if answer["text"] is None:
                self.failed["refused"] += 1
                return None
            try:
                return read_verdict(answer["text"], question.schema)
            except ValueError as error:
                if turn == 1:
                    question = question.asked_again(str(error))
        self.failed["nonsense"] += 1
        return None

    def _answer(self, question: Question) -> dict[str, Any] | None:
        key = self._key(question)
        if key not in self._kept:
            self._check_cap(question)
            try:
                answer = self._judge.ask(question)
            except NoAnswerError as error:
                self._keep({"key": key, "judge": str(self._judge.address), "trouble": str(error)})
                self._count_trouble(error)
                return None
            self._in_a_row = 0
            self._kept[key] = self._entry(key, question, answer)
            self.spent_usd += self._kept[key]["usd"]
            self._keep(self._kept[key])
        self.calls += 1
        self.temperatures.add(self._kept[key].get("temperature"))
        self.used_usd += float(self._kept[key]["usd"])
        return self._kept[key]

    def _entry(self, key: str, question: Question, answer: Answer) -> dict[str, Any]:
        return {
            "key": key,
            "judge": str(self._judge.address),
            "schema": question.schema.__name__,
            "temperature": answer.temperature,
            "text": answer.text,
            "body": answer.body,
            "tokens_in": answer.tokens_in,
            "tokens_out": answer.tokens_out,
            "usd": self._price.of(answer.tokens_in, answer.tokens_out),
        }

    def _keep(self, entry: dict[str, Any]) -> None:
        self._log.append((json.dumps({**entry, "utc": utc_now()}) + "\n").encode())

    def _check_cap(self, question: Question) -> None:
        worst = self._price.of(tokens_of(question), self._judge.max_tokens)
        if self.spent_usd + worst > self._cap_usd:
            raise UserError(
                f"the judge has cost {self.spent_usd:.4f} USD and the next call could cost {worst:.4f}, above the cap "
                f"of {self._cap_usd:g}; every answer is kept: run again with a higher --max-cost-usd to go on from here"
            )

    def _count_trouble(self, error: NoAnswerError) -> None:
        self._in_a_row += 1
        if self._in_a_row >= _GIVE_UP_AFTER:
            raise UserError(
                f"{self._judge.address} gave no answer to {self._in_a_row} questions in a row ({error}); what it "
                f"answered before is kept in {self._path}: run again to go on from here"
            )

    def _key(self, question: Question) -> str:
        content = {
            "judge": str(self._judge.address),
            "max_tokens": self._judge.max_tokens,
            "system": question.system,
            "text": question.text,
            "picture": hashlib.sha256(question.picture).hexdigest() if question.picture else None,
            "schema": question.schema.model_json_schema(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_kept(path: Path) -> dict[str, dict[str, Any]]:
    """Answers by their question's key; a torn last line counts as never written."""
    return {entry["key"]: entry for entry in read_lines(path) if "trouble" not in entry}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; none where there is no file.

    Raises:
        UserError: a line that has an end is damaged.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}: line {number} is damaged; mend or remove that line") from error
    return entries
