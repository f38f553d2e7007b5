"""A whole judgement against a server on this machine: what it finds, what it keeps, how it goes wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_servers import Bad, Behaviour, JudgeServer, fair, judge_server, replies_in, verdict
from judged_replies import TEXTS, make_replies, make_run

from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.judge import (
    Judgement,
    agreement,
    estimate_cost,
    judge_replies,
    pairs_of,
)
from natural_video_llm.evaluation.judging.answers import Asker, Price
from natural_video_llm.evaluation.judging.clients import Judge, JudgeAddress
from natural_video_llm.evaluation.reply_records import read_replies
from natural_video_llm.run_folder import RAW_FILE

pytest.importorskip("openai", reason="the judge extra is not installed")

# 3 people, 2 messages each: 18 ratings, and 12 pairs in both orders.
CALLS = 18 + 24
FREE = Price(0, 0)


def judged(
    server: JudgeServer,
    run: Path,
    price: Price = FREE,
    cap_usd: float = 1.0,
    retries: int = 0,
    stop_at: int = -1,
    timeout_s: float = 30,
) -> dict[str, Any]:
    def report(done: int, _: int) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    judge = Judge(JudgeAddress("openai", server.url, "m"), timeout_s=timeout_s, retries=retries)
    asker = Asker(judge, run / RAW_FILE, price, cap_usd)
    try:
        return judge_replies(Judgement.of(run, faces=False), judge, asker, report)
    finally:
        asker.close()


def judged_by(behave: Behaviour, run: Path, **options: Any) -> dict[str, Any]:
    with judge_server(behave) as server:
        return judged(server, run, **options)


def prefers(better: str, request: dict[str, Any]) -> str:
    """Prefers the reply that begins with `better`."""
    shown = replies_in(request)
    place = next((i for i, reply in enumerate(shown) if reply.startswith(better)), None)
    return verdict(request, "tie" if place is None or len(shown) == 1 else ("first", "second")[place])


def test_every_reply_is_rated_and_every_pair_compared_in_both_orders(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with judge_server(fair) as server:
        result = judged(server, run)
    assert len(server.requests) == result["calls"] == CALLS
    assert result["saw_faces"] is False
    assert {face: figures[0] for face, figures in result["coherence"].items()} == dict.fromkeys(TEXTS, 4.0)
    assert {face: figures[0] for face, figures in result["tone"].items()} == dict.fromkeys(TEXTS, 3.0)
    shown = [tuple(replies_in(request)) for request in server.requests if len(replies_in(request)) == 2]
    assert len(set(shown)) == 24
    assert {pair[::-1] for pair in shown} == set(shown)
    assert json.loads(json.dumps(result))["pairs"] == {
        "true over none": [0.5, 0.5, 0.5],
        "true over other person": [0.5, 0.5, 0.5],
    }


def test_no_emotion_is_named_and_the_face_that_made_a_reply_stays_hidden(tmp_path: Path) -> None:
    with judge_server(fair) as server:
        judged(server, make_run(tmp_path))
    said = json.dumps(server.requests).lower()
    for word in (
        "emotion",
        "happ",
        "sad",
        "angry",
        "anger",
        "fear",
        "joy",
        "valence",
        "arousal",
        "other person",
        "smil",
    ):
        assert word not in said


def test_a_judge_that_always_takes_the_first_finds_nothing(tmp_path: Path) -> None:
    result = judged_by(lambda request, _: verdict(request, "first"), make_run(tmp_path))
    assert result["ties_by_order"] == 1.0
    for rate in result["pairs"].values():
        assert tuple(rate) == (0.5, 0.5, 0.5)
    assert tuple(result["length_effect"]["slope"]) == pytest.approx((0, 0, 0))


def test_a_judge_that_sees_a_difference_is_believed(tmp_path: Path) -> None:
    result = judged_by(lambda request, _: prefers("I am glad", request), make_run(tmp_path))
    assert result["ties_by_order"] == 0.0
    assert [rate[0] for rate in result["pairs"].values()] == [1.0, 1.0]


def test_a_judge_that_takes_the_longer_one_is_corrected(tmp_path: Path) -> None:
    """Replies under the true face are four words longer on average, and no better."""
    rng = np.random.default_rng(0)
    replies = []
    for reply in make_replies(people=12, messages=2):
        words = "well " * max(1, round(rng.normal(12 if reply.face == "true" else 8, 4)))
        replies.append(reply.model_copy(update={"reply": f"{words}({reply.session_id}.{reply.seed}.{reply.face})"}))

    def longer(request: dict[str, Any], _: int) -> str:
        words = [len(reply.split()) for reply in replies_in(request)]
        return verdict(request, "first" if words[0] > words[-1] else "second" if words[0] < words[-1] else "tie")

    result = judged_by(longer, make_run(tmp_path, replies))
    effect = result["length_effect"]
    assert effect["slope"][1] > 0, "the bias is reported"
    for name, rate in result["pairs"].items():
        assert rate[0] > 0.6, "uncorrected, it would look like a win"
        low, high = effect["win_rate_corrected"][name][1:]
        assert low < 0.5 < high


def test_replies_of_one_text_are_a_tie_that_nobody_is_asked_about(tmp_path: Path) -> None:
    replies = [reply.model_copy(update={"reply": f"Yes {reply.session_id}."}) for reply in make_replies()]
    with judge_server(fair) as server:
        result = judged(server, make_run(tmp_path, replies))
    assert len(server.requests) == 6, "one rating for each message; the same question is not asked again"
    assert result["pairs"]["true over none"][0] == 0.5
    assert result["ties_by_order"] is None


def test_raw_answers_are_kept_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    judged_by(fair, run)
    entries = [json.loads(line) for line in (run / RAW_FILE).read_text().splitlines()]
    assert len(entries) == len({entry["key"] for entry in entries}) == CALLS
    for entry in entries:
        assert json.loads(entry["body"])["choices"][0]["message"]["content"] == entry["text"]


def test_a_refused_temperature_is_known_where_all_answers_were_kept(tmp_path: Path) -> None:
    def picky(request: dict[str, Any], _: int) -> str | Bad:
        refusal = json.dumps({"error": {"message": "'temperature' is not supported"}})
        return Bad(400, refusal) if "temperature" in request else fair(request)

    run = make_run(tmp_path, make_replies(people=1, messages=1))
    assert [judged_by(fair, make_run(tmp_path / "other"))["temperature"]] == [0]
    with judge_server(picky) as server:
        assert [judged(server, run)["temperature"] for _ in range(2)] == [None, None]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with judge_server(fair) as server:
        for stop_at in (5, 11, 20):
            with pytest.raises(KeyboardInterrupt):
                judged(server, run, stop_at=stop_at)
        with (run / RAW_FILE).open("ab") as raw:
            raw.write(b'{"key": "torn')  # the machine went down while a line was written
        result = judged(server, run)
        again = judged(server, run)
    assert len(server.requests) == CALLS
    assert again == result
    assert result["calls"] == CALLS


def test_trouble_now_and_then_loses_nothing(tmp_path: Path) -> None:
    """Every kind of trouble strikes once; what was answered is kept, the rest is asked again by the next run."""
    troubles = {
        3: Bad(429, "{}", {"Retry-After": "0.01"}),
        7: Bad(wait_s=3),
        11: Bad(200, '{"choices": [{"mess'),
        15: Bad(200, "{}", cut=True),
        19: Bad(500, "oh"),
        23: None,
        27: "I think the first one is nicer.",
        31: '{"reason": "half',
    }

    def shaky(request: dict[str, Any], number: int) -> Any:
        return troubles.get(number, fair(request)) if number < 40 else fair(request)

    run = make_run(tmp_path)
    with judge_server(shaky) as server:
        first = judged(server, run, timeout_s=1.5)
        assert first["failed"] == {"refused": 1, "nonsense": 0, "no answer": 5}
        answered = len(server.requests) - 5
        result = judged(server, run)
        assert result["failed"] == {"refused": 1, "nonsense": 0, "no answer": 0}
        assert len(server.requests) == answered + 5 + 5, "only what had no answer was asked again"
        assert judged(server, run) == result
        assert len(server.requests) == answered + 10
    kept = [json.loads(line) for line in (run / RAW_FILE).read_text().splitlines()]
    assert sum("trouble" in entry for entry in kept) == 5


@pytest.mark.parametrize(
    ("said", "why"), [(None, "refused"), ("Both are lovely.", "nonsense"), ('{"reason": "x"}', "nonsense")]
)
def test_a_judge_of_no_use_is_one_line(tmp_path: Path, said: str | None, why: str) -> None:
    run = make_run(tmp_path)
    with judge_server(lambda *_: said) as server:
        with pytest.raises(UserError, match=f"no answer could be used .*{why}"):
            judged(server, run)
        asked = len(server.requests)
        with pytest.raises(UserError, match=why):
            judged(server, run)
    assert asked == CALLS * (1 if said is None else 2), "nonsense is asked about once more"
    assert len(server.requests) == asked, "and never again"


def test_nobody_answers_any_more(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with judge_server(lambda request, number: fair(request) if number < 10 else Bad(503, "gone")) as server:
        with pytest.raises(UserError, match="no answer to 3 questions in a row"):
            judged(server, run)
        assert len(server.requests) == 13
        server.behave = fair
        assert judged(server, run)["calls"] == CALLS
    assert len(server.requests) == 13 + CALLS - 10


def test_the_cap_stops_before_the_call_that_could_exceed_it(tmp_path: Path) -> None:
    run, price = make_run(tmp_path), Price(1.0, 10.0)  # 0.002 USD a call as the server counts
    with judge_server(fair) as server:
        with pytest.raises(UserError, match=r"cost 0\.0\d+ USD .* cap of 0\.03.*--max-cost-usd"):
            judged(server, run, price, cap_usd=0.03)
        made = len(server.requests)
        assert 0 < made < CALLS
        assert made * 0.002 <= 0.03
        result = judged(server, run, price, cap_usd=1.0)
        assert len(server.requests) == CALLS
    assert result["cost_usd"] == pytest.approx(CALLS * 0.002)


def test_the_estimate_is_of_the_calls_still_to_be_made(tmp_path: Path) -> None:
    run, price = make_run(tmp_path), Price(1.0, 10.0)
    with judge_server(fair) as server:
        judge = Judge(JudgeAddress("openai", server.url, "m"))
        judgement = Judgement.of(run, faces=False)
        asker = Asker(judge, run / RAW_FILE, price, 1.0)
        before = estimate_cost(judgement, asker, price)
        assert (before.calls, before.pictures, before.people) == (CALLS, 0, 3)
        assert 0.5 < before.usd / (CALLS * 0.002) < 2, "of what the server will have counted"
        judge_replies(judgement, judge, asker, lambda *_: None)
        after = estimate_cost(judgement, asker, price)
        asker.close()
    assert (after.calls, after.usd) == (0, 0)


def test_one_person_one_message_no_other_person(tmp_path: Path) -> None:
    run = make_run(tmp_path, make_replies(people=1, messages=1, faces=("true", "none")))
    result = judged_by(fair, run)
    assert list(result["pairs"]) == ["true over none"]
    assert result["coherence"]["true"][0] == 4.0


def test_without_replies_or_with_damaged_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"replies\.jsonl cannot be read .*nvllm eval"):
        read_replies(tmp_path)
    with pytest.raises(UserError, match="no replies in it"):
        read_replies(make_run(tmp_path / "none", []))
    damaged = make_run(tmp_path / "damaged") / "replies.jsonl"
    damaged.write_text(damaged.read_text()[:-40])
    with pytest.raises(UserError, match=r"replies\.jsonl is damaged"):
        read_replies(damaged.parent)


def test_a_run_without_its_data_can_be_judged_by_its_words_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(UserError, match=r"nobody knows where the video is.*words alone"):
        Judgement.of(run, faces=True)
    (run / "run.json").write_text(json.dumps({"options": {"sessions": str(tmp_path / "gone")}}))
    with pytest.raises(UserError, match=r"gone: the data .* is not there.*words alone"):
        Judgement.of(run, faces=True)
    assert Judgement.of(run, faces=False).questions()


def test_agreement_with_a_person() -> None:
    pairs = [pair.id for pair in pairs_of(make_replies())]
    assert len(set(pairs)) == 12
    judge = dict.fromkeys(pairs, 1.0) | {pairs[0]: 0.0, pairs[1]: 0.5}
    person = {pairs[0]: 0.0, pairs[1]: 1.0, pairs[2]: 1.0, pairs[3]: 1.0, "an older pair": 0.0}
    found = agreement(judge, person)
    assert found is not None
    assert (found["pairs"], found["agreement"]) == (4, 0.75)
    assert found["kappa"] == pytest.approx((0.75 - (1 / 16 + 2 / 4 * 3 / 4)) / (1 - (1 / 16 + 2 / 4 * 3 / 4)))
    assert agreement(judge, {}) is None
