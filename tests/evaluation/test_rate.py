"""A person rates replies in the terminal: blind, at once on the disk, to be gone on with."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from judged_replies import TEXTS, make_replies, make_run

from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.judge import Scenes, pairs_of
from natural_video_llm.evaluation.rate import blind_order, note_agreement, rate_pairs, read_ratings
from natural_video_llm.run_folder import RATINGS_FILE

PAIRS = pairs_of(make_replies())


def rated(run: Path, answers: list[str], seed: int = 0) -> tuple[int, list[str]]:
    """How many pairs were rated with these answers, and what was shown."""
    shown: list[str] = []
    said: Iterator[str] = iter([*answers, "q"])
    scenes = Scenes(run, make_replies(), faces=False)
    return rate_pairs(run, PAIRS, scenes, seed, lambda text, _: shown.append(text), lambda: next(said)), shown


def test_sides_and_order_are_drawn_by_the_seed() -> None:
    orders = [blind_order(PAIRS, seed) for seed in range(40)]
    assert orders[3] == blind_order(PAIRS[::-1], 3)
    assert len({tuple(pair.id for pair, _ in order) for order in orders}) == 40
    assert 0.4 < sum(first for order in orders for _, first in order) / (40 * len(PAIRS)) < 0.6


def test_nothing_shown_tells_which_face_made_a_reply(tmp_path: Path) -> None:
    _, shown = rated(make_run(tmp_path), ["1"] * 12)
    assert len(shown) == 12
    for text in shown:
        assert "We had party number" in text
        assert "How was your day?" in text
        assert not {"true", "none", "other person"} & set(re.findall(r"[a-z ]+", text))


def test_the_choice_is_the_replys_wherever_it_stood(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    sides = [first for _, first in blind_order(PAIRS, 0)]
    count, shown = rated(run, ["1" if first else "2" for first in sides])
    assert count == 12
    for text, first in zip(shown, sides, strict=True):
        replies = re.findall(r"^  [12]  (.*)", text, re.MULTILINE)
        assert replies[0 if first else 1].startswith(TEXTS["true"])
    assert set(read_ratings(run).values()) == {1.0}


def test_it_goes_on_where_it_stopped_and_asks_again_what_it_did_not_understand(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert rated(run, ["1", "perhaps", "tie", "3", "T"])[0] == 3
    with (run / RATINGS_FILE).open("ab") as file:
        file.write(b'{"pair": "to')  # the terminal was closed while a line was written
    count, shown = rated(run, ["2"] * 9)
    assert count == len(shown) == 9
    assert len(read_ratings(run)) == 12
    assert rated(run, [])[0] == 0


def test_pairs_of_one_text_are_not_shown(tmp_path: Path) -> None:
    same = pairs_of([reply.model_copy(update={"reply": "Yes."}) for reply in make_replies()])
    assert blind_order(same, 0) == []


def test_a_damaged_rating_is_one_line(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / RATINGS_FILE).write_text("nonsense\n")
    with pytest.raises(UserError, match=r"ratings\.jsonl: line 1 is damaged"):
        read_ratings(run)


def test_agreement_needs_a_judge(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rated(run, ["1"] * 4)
    assert note_agreement(run) is None
    verdicts = dict.fromkeys([pair.id for pair in PAIRS], 0.5)
    (run / "judge.json").write_text(json.dumps({"judge": "m", "verdicts": verdicts}))
    assert note_agreement(run) == {"pairs": 4, "agreement": 0.0, "kappa": 0.0}
    kept = json.loads((run / "judge.json").read_text())
    assert kept["agreement_with_person"]["pairs"] == 4
    assert kept["judge"] == "m"


def test_from_the_command_line(tmp_path: Path) -> None:
    """A run folder called `rate` is evaluated by `nvllm eval rate`, and rated by `nvllm eval rate rate`."""
    run = make_run(tmp_path / "rate")

    def nvllm(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "natural_video_llm", "eval", *arguments]
        return subprocess.run(command, input=said, capture_output=True, text=True, check=False, cwd=tmp_path)

    done = nvllm("rate", "rate", "--no-faces", said="1\n2\ntie\n")
    assert done.returncode == 0, done.stderr
    assert "3 pairs rated now, 3 in all" in done.stdout
    assert "nvllm eval judge rate JUDGE" in done.stdout
    assert len(read_ratings(run)) == 3
    done = nvllm("rate")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "rate: no trained model here" in done.stderr
