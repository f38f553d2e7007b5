"""The summary of an evaluation, on scores whose figures are known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from natural_video_llm.evaluation.evidence import Scores
from natural_video_llm.evaluation.scoring import Part, named_alike
from natural_video_llm.evaluation.statistics import json_ready
from natural_video_llm.evaluation.summary import summarise
from natural_video_llm.sessions.candidates import Candidate, Candidates
from natural_video_llm.training.dataset import Example, FaceTrack

MOTIONS = ("smile_comes", "smile_goes", "brows_rise", "brows_settle")
EMPTY = FaceTrack(np.zeros((0, 2), np.float16), np.zeros(0), np.zeros(0, bool))


def make_example(person: str, session: str, reply: str, targets: int) -> Example:
    ids = np.arange(targets + 2)
    return Example(session, person, "question", reply, ids, ids / 10, ids >= 2, EMPTY)


def make_candidates(message: str, motions: tuple[str, ...] = MOTIONS) -> Candidates:
    replies = [Candidate(reply=f"{motion} it is", motion=motion) for motion in motions]
    return Candidates(message=message, split="test", candidates=replies)


def make_part(people: tuple[str, ...] = ("ann", "bob")) -> Part:
    """Two utterances a person, of two and of six tokens, three words each; one bit a token saved by the true face."""
    examples = [
        make_example(person, f"{person}-1", f"{motion} it is", targets)
        for person in people
        for motion, targets in (("smile_comes", 2), ("brows_settle", 6))
    ]
    true = [np.full(e.target.sum(), -2.0) for e in examples]
    scores = {
        "true": Scores(true),
        "none": Scores([x - 1 for x in true]),
        "text-only twin": Scores([2 * x for x in true]),
    }
    # Of the first utterance the right candidate comes first by far; of the second one three tie.
    evidence = np.array([[30.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]] * len(people))
    chance = np.zeros_like(evidence)
    choices = {"true": evidence, "other person": chance, "shuffled": -evidence}
    candidates = [make_candidates(f"m{i}") for i in range(len(examples))]
    shifts = {0.0: scores["true"], -0.5: scores["none"]}
    return Part(examples, scores, choices, candidates, shifts=shifts)


def test_figures_by_hand() -> None:
    result = summarise([make_part()])
    assert result["data"] == {
        **{"people": 2, "sessions": 2, "utterances": 4, "tokens": 16, "words": 12},
        "interval_over": "people",
    }
    bits = {name: figures["bits_per_token"][0] for name, figures in result["conditions"].items()}
    assert bits == pytest.approx({"true": 2.0, "none": 3.0, "text-only twin": 4.0})
    assert result["conditions"]["none"]["true_saves_per_token"] == pytest.approx((1.0, 1.0, 1.0))
    assert result["conditions"]["text-only twin"]["true_saves_per_token"][0] == pytest.approx(2.0)
    assert result["conditions"]["text-only twin"]["true_saves_per_word"][0] == pytest.approx(2.0 * 16 / 12)
    assert result["conditions"]["true"]["true_saves_per_token"] == pytest.approx((0.0, 0.0, 0.0))
    assert [point["shift_s"] for point in result["time_shift"]] == [-0.5, 0.0], "early first"
    early, there = (point["true_saves_per_word"] for point in result["time_shift"])
    assert there == (0.0, 0.0, 0.0)
    assert early == result["conditions"]["none"]["true_saves_per_word"]


def test_choices_by_hand() -> None:
    choices = summarise([make_part()])["choices"]
    assert choices["candidates"] == 4
    assert choices["other person"]["right"][0] == pytest.approx(1 / 4)
    assert choices["other person"]["choice_bits"] == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert choices["true"]["right"][0] == pytest.approx((1 + 1 / 3) / 2)
    # The right one of the second utterance has 2 of 1 + 2 + 2 + 2 parts.
    assert choices["true"]["choice_bits"][0] == pytest.approx(2 + math.log2(2 / 7) / 2, abs=1e-6)
    # Pairs: of smiles the right one leads; of brows the two tie.
    assert choices["true"]["order_pairs"]["smile_comes/smile_goes"] == pytest.approx((1.0, 1.0, 1.0))
    assert choices["true"]["order_pairs"]["brows_rise/brows_settle"] == pytest.approx((0.5, 0.5, 0.5))
    assert choices["shuffled"]["order_pairs"]["smile_comes/smile_goes"][0] == pytest.approx(0.0)


def test_candidates_may_come_in_any_order() -> None:
    part = make_part()
    turned = (3, 1, 0, 2)
    mixed = Part(
        part.examples,
        part.scores,
        {name: evidence[:, turned] for name, evidence in part.choices.items()},
        [make_candidates(c.message, tuple(MOTIONS[i] for i in turned)) for c in part.candidates],
        shifts=part.shifts,
    )
    assert summarise([mixed]) == summarise([part])


def test_parts_are_put_together() -> None:
    first, second = make_part(("ann",)), make_part(("bob",))
    assert summarise([first, second]) == summarise([make_part()])
    del second.scores["text-only twin"]
    assert set(summarise([first, second])["conditions"]) == {"true", "none"}, "what all parts have"
    second.choices.clear()
    assert "choices" not in summarise([first, second])


def test_one_person_is_drawn_by_session() -> None:
    part = make_part(("ann", "ann"))
    part.examples = [make_example("ann", f"s{i}", e.reply, int(e.target.sum())) for i, e in enumerate(part.examples)]
    data = summarise([part])["data"]
    assert (data["people"], data["sessions"], data["interval_over"]) == (1, 4, "sessions")


def test_one_session_alone_has_no_intervals_and_no_verdict() -> None:
    part = make_part(("ann",))
    result = json.loads(json.dumps(json_ready(summarise([part])), allow_nan=False))
    assert result["conditions"]["none"]["true_saves_per_token"] == [1.0, None, None]
    assert result["verdict"]["face"] == "cannot be told"
    assert "one session alone" in result["verdict"]["words"]


def test_a_part_of_one_person_decides_what_others_are_called_in_all() -> None:
    part = make_part()
    two = replace(part, scores=part.scores | {"other person": part.scores["none"]})
    one = replace(two, scores=part.scores | {"another session": part.scores["none"]}, choices={})
    assert [list(p.scores) for p in named_alike([two, two])] == [list(two.scores)] * 2
    first, second = named_alike([two, one])
    assert list(first.scores) == list(second.scores) == [*part.scores, "another session"]
    assert list(first.choices) == ["true", "another session", "shuffled"]
    assert "another session" in summarise([first, second])["conditions"]


def test_a_pair_that_never_came_has_no_share() -> None:
    part = make_part()
    rows = [0, 2]  # smiles only
    smiles = Part(
        [part.examples[i] for i in rows],
        {name: Scores([scores.log2_probs[i] for i in rows]) for name, scores in part.scores.items()},
        {name: evidence[rows] for name, evidence in part.choices.items()},
        [part.candidates[i] for i in rows],
    )
    pairs = summarise([smiles])["choices"]["true"]["order_pairs"]
    assert pairs["brows_rise/brows_settle"] is None
    assert pairs["smile_comes/smile_goes"][0] == 1.0


def test_intervals_lie_around_their_figures_and_all_of_it_is_json() -> None:
    rng = np.random.default_rng(0)
    part = make_part(tuple(f"p{i}" for i in range(8)))
    part.scores["none"] = Scores([x - rng.random(len(x)) for x in part.scores["none"].log2_probs])
    result = json.loads(json.dumps(json_ready(summarise([part]))))
    for figures in result["conditions"].values():
        for value, low, high in figures.values():
            assert low <= value <= high
    value, low, high = result["conditions"]["none"]["true_saves_per_token"]
    assert low < value < high
    assert low > 1.0, "every token costs more than one bit more"
