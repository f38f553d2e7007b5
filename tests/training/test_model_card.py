"""The card says what there is, and nothing of anybody."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from rich.console import Console
from runs import options
from transformers import LlamaConfig

from natural_video_llm.assets import DEFAULT_LLM
from natural_video_llm.capture.consent import ask_consent
from natural_video_llm.capture.sample_speaker import CONSENT
from natural_video_llm.evaluation.eval import evaluate
from natural_video_llm.sessions.events import SessionStart, Text, VideoSegmentEnd, VideoSegmentStart
from natural_video_llm.sessions.folder import Session, SessionWriter
from natural_video_llm.training.model_card import base_licence, base_name, data_facts
from natural_video_llm.training.train import train

SIGNED = "I, Ann Example of 1 Some Street, agree to be filmed. Signed: Ann Example"


def asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the house's own question stores after a yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    return ask_consent(folder, ("video", "text"), None, Console(quiet=True))


def make_session(folder: Path, consent: str, person: str | None = None) -> Session:
    start = SessionStart(
        session_id=folder.name, started_utc="2026-01-01T00:00:00Z", filmed_speaker="ann", person=person, consent=consent
    )
    with SessionWriter(folder, start) as writer:
        writer.append(VideoSegmentStart(t=1.0, file="video/000000.mp4"))
        writer.append(VideoSegmentEnd(t=91.0, file="video/000000.mp4", frames=900))
        writer.append(VideoSegmentStart(t=92.0, file="video/000001.mp4"))  # never finished
        writer.append(Text(speaker="ann", text="it went well", t_start=2.0, t_end=3.0, timing="utterance"))
    return Session(folder)


def test_counts_by_hand(tmp_path: Path) -> None:
    data = [make_session(tmp_path / f"s{i}", CONSENT, person=f"p{i // 2}") for i in range(3)]
    assert data_facts(data) == {
        **{"people": 2, "sessions": 3, "minutes": 4.5, "utterances": 3, "words": 9},
        "consents": [[CONSENT, 3]],
    }


def test_consents_are_told_without_telling_of_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "ann-example"
    texts = [
        asked(home / "one", monkeypatch),
        asked(home / "two", monkeypatch),
        "imported from ann_example.mp4; consent lies with the source of the clip",
        "imported from bob_example.mp4; consent lies with the source of the clip",
        SIGNED,
        f"{asked(home / 'three', monkeypatch)}\n{SIGNED}",
        "imported from x; consent lies with the source of the clip, who is Ann Example",
    ]
    facts = data_facts([make_session(tmp_path / f"s{i}", text) for i, text in enumerate(texts)])
    told = dict(facts["consents"])
    assert "example" not in json.dumps(told).lower()
    assert told.pop("imported; consent lies with the source of the clip") == 2
    terminal = next(text for text in told if "terminal" in text)
    assert told.pop(terminal) == 2
    assert "what the camera sees" in terminal
    assert "nothing is sent anywhere" in terminal
    assert len(told) == 3
    assert all("not printed because it may hold names" in text for text in told)


def test_a_run_has_a_card_and_an_evaluated_one_its_evidence(
    sessions: Path,
    tiny_llm: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    train(options(sessions, run, tiny_llm, reaction_weight=0.5, lora_rank=2), lambda _: None)
    card = ModelCard.load(run / "README.md")
    assert card.data.base_model == tiny_llm.name
    assert card.data.license == "unknown"
    assert "lora" in card.data.tags
    assert "2 people in 4 sessions" in card.text
    assert "None yet" in card.text
    result, _ = evaluate(run, lambda _: None)
    card = ModelCard.load(run / "README.md")
    assert "None yet" not in card.text
    saved = result["conditions"]["text-only twin"]["true_saves_per_word"]
    assert f"| text-only twin | {saved[0]:+.3f} [{saved[1]:+.3f}, {saved[2]:+.3f}] |" in card.text
    ratio = result["reaction"]["0.5 s"]["ratio to stays as it is"]
    assert f"| 0.5 s | ratio to stays as it is | {ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}] |" in card.text
    everything = (run / "README.md").read_text()
    for personal in ("s0", "p0", "ann", "bob", "How was it", str(tmp_path), str(sessions), str(tiny_llm.parent)):
        assert f" {personal} " not in everything.replace("/", " ").replace("`", " ").replace("|", " "), personal
    assert str(tiny_llm.parent) not in everything


def test_what_a_base_llm_is_called_and_its_licence(tmp_path: Path) -> None:
    assert base_name(DEFAULT_LLM) == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert base_licence(DEFAULT_LLM) == "apache-2.0"
    assert base_name("org/model") == "org/model"
    folder = tmp_path / "ann" / "own-model"
    LlamaConfig().save_pretrained(folder)
    assert base_name(str(folder)) == "own-model"
    assert base_licence(str(folder)) == "unknown"
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert base_licence(str(folder)) == "mit"
    for other in ("---\nlicense: [broken\n---\n", "---\ntags: []\n---\nlicense: mit\n", "license: mit\n"):
        (folder / "README.md").write_text(other)
        assert base_licence(str(folder)) == "unknown"
