"""Replies under true, no and another person's face, by a trained run: at fixed seeds, measured, written down."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import options
from safetensors.torch import load_file, save_file
from scipy import stats

from natural_video_llm.checkpoint import load_run
from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.conditions import conditions
from natural_video_llm.evaluation.eval import evaluate
from natural_video_llm.evaluation.held_out import load_test_examples
from natural_video_llm.evaluation.replies import Replier, ReplyOptions, choose_examples, generate_replies
from natural_video_llm.evaluation.reply_measures import load_embedder, summarise_replies
from natural_video_llm.evaluation.reply_records import GeneratedReply, read_replies
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.training.dataset import Example, FaceTrack
from natural_video_llm.training.train import train

FEW = ReplyOptions(utterances=1)
EMPTY = FaceTrack(np.zeros((0, 2), np.float16), np.zeros(0), np.zeros(0, bool))


@pytest.fixture(scope="module")
def run(sessions: Path, tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replies") / "run"
    train(options(sessions, out, tiny_llm, twin=False), lambda _: None)
    return out


def generated(run: Path) -> list[GeneratedReply]:
    model, tokenizer = load_run(run)
    examples, data = load_test_examples(run, model, tokenizer)
    shown = conditions(examples, model.memory_s, model.config.window_s, seed=0)
    found = {s.start.session_id: s for s in find_sessions(data)}
    return generate_replies(Replier(model, tokenizer, examples), examples, shown, found, FEW, lambda _: None)


def test_eval_writes_replies_under_each_face(run: Path) -> None:
    (run / "judge.json").write_text("{}")
    result, _ = evaluate(run, lambda _: None, options=FEW)
    assert not (run / "judge.json").exists(), "it was about other replies"
    replies = read_replies(run)
    assert [reply.face for reply in replies] == ["true", "none", "another session"], "one person is held out"
    assert {reply.seed for reply in replies} == {0}
    for reply in replies:
        assert reply.message in ("How was it?", "And then?", "I see.")
        assert reply.human_reply in ("Good to hear that.", "I am sorry.", "Tell me more.")
        assert 0 <= reply.span_s[0] < reply.begins_s <= reply.span_s[1]
        assert reply.moved_bits < 1e-6 or reply.face != "none", "nothing but rounding moves it"
    summary = json.loads((run / "eval.json").read_text())["replies_summary"]
    assert summary == json.loads(json.dumps(result["replies_summary"]))
    assert summary["true"]["similar_to_human"] is None
    assert generated(run) == replies, "at fixed seeds"


def test_no_replies_wanted(run: Path) -> None:
    result, _ = evaluate(run, lambda _: None, options=ReplyOptions(utterances=0))
    assert result["replies_summary"] == {}
    with pytest.raises(UserError, match="no replies in it"):
        read_replies(run)


def test_a_model_whose_predictions_are_not_numbers(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broken = shutil.copytree(run, tmp_path / "run")
    weights = load_file(broken / "adapter.safetensors")
    gate = next(name for name in weights if name.endswith("gate"))
    weights[gate] = torch.full_like(weights[gate], float("nan"))
    save_file(weights, broken / "adapter.safetensors")
    assert generated(broken) == []
    assert "not numbers (NaN)" in capsys.readouterr().err


def said(reply: str, face: str = "true", person: str = "ann", human: str = "Good to hear that.") -> GeneratedReply:
    return GeneratedReply(
        **{"session_id": person, "person": person, "context": [], "message": "How was it?", "human_reply": human},
        **{"face": face, "reply": reply, "seed": 0, "moved_bits": 0.0, "begins_s": 1.0, "span_s": (0.0, 2.0)},
    )


def test_measures_by_hand() -> None:
    replies = [said("Yes, yes, yes, yes!"), said("No yes.", person="bob"), said("", "none"), said("", "none", "bob")]
    summary = summarise_replies(replies, None)
    true, none = summary["true"], summary["none"]
    reach = stats.t.ppf(0.975, 1)
    assert true["words"] == pytest.approx((3.0, 3.0 - reach, 3.0 + reach))
    assert true["repetition"][0] == pytest.approx((2 / 3 + 0) / 2)
    assert true["distinct_words"][0] == pytest.approx(1 / 2), "of {yes} and {no, yes}, one of two words is not shared"
    assert np.isnan(true["distinct_words"][1]), "without one of two people there is no pair"
    three = summarise_replies([said(text, person=text) for text in ("Yes.", "No.", "Yes no.")], None)
    value, low, high = three["true"]["distinct_words"]
    assert value == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    error = np.sqrt(2 / 3 * sum((one - value) ** 2 for one in (1, 1 / 2, 1 / 2)))
    assert high - value == pytest.approx(stats.t.ppf(0.975, 2) * error) == pytest.approx(value - low)
    assert none["words"][0] == none["repetition"][0] == 0
    assert "other person" not in summary
    assert summarise_replies([said("Yes.")], None)["true"]["distinct_words"] is None, "a single reply"
    assert summarise_replies([], None) == {}


def test_similarity_by_a_local_model(tiny_llm: Path) -> None:
    embed = load_embedder(str(tiny_llm))
    vectors = embed(["Good to hear that.", "Good to hear that.", "A much longer text, of other words.", ""])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert np.allclose(vectors[0], embed(["Good to hear that."])[0], atol=1e-5), "padding changes nothing"
    summary = summarise_replies([said("Good to hear that."), said("Tell me more.", person="bob")], embed)
    same, _, high = summary["true"]["similar_to_human"]
    # One of the two is the human reply itself: as far above the mean as the other is below.
    assert high - same == pytest.approx(stats.t.ppf(0.975, 1) * (1 - same), abs=1e-4)
    assert same < 1
    assert -1 <= summary["true"]["coherence"][0] <= 1
    nonsense = summarise_replies([said("x"), said("y")], lambda texts: np.full((len(texts), 2), np.nan))
    assert nonsense["true"]["coherence"] is None


def test_no_sentence_model_is_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--embedding .*no sentence model"):
        evaluate(run, lambda _: None, options=replace(FEW, embedding=str(tmp_path)))


def test_every_person_is_heard_before_anybody_twice() -> None:
    def example(person: str, number: int, prompt: str = "m") -> Example:
        ids = np.arange(3)
        return Example(f"{person}{number}", person, prompt, "r", ids, ids / 10, ids > 0, EMPTY)

    examples = [example("ann", i) for i in range(9)] + [example("bob", 0), example("cem", 0), example("dea", 0, "")]
    for seed in range(5):
        assert {e.person for e in choose_examples(examples, 3, seed)} == {"ann", "bob", "cem"}
    assert len(choose_examples(examples, 99, 0)) == 11, "what nobody says before is nobody's answer"
    assert choose_examples(examples, 4, 1) == choose_examples(examples, 4, 1)
