"""However a step's batch is cut, into micro-batches or among processes, it is the same step."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import metrics, options, weights
from test_read_texts import PAD, TEXTS, make_example, make_model

from natural_video_llm.training.dataset import FaceTrack
from natural_video_llm.training.face_store import FaceStore
from natural_video_llm.training.read_texts import ReadTexts
from natural_video_llm.training.train import train
from natural_video_llm.training.trainer import _cut

# Without what is drawn for a tensor as a whole; each example's own chance (mirror, shift, withheld) stays.
EQUAL = {"batch_size": 8, "match_steps": 3, "steps": 3, "face_noise": 0.0, "text_dropout": 0.0, "precision": "fp32"}
EQUAL |= {"own_text_weight": 0.3}


@pytest.fixture(scope="module")
def whole(sessions: Path, tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, batches in one piece."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(options(sessions, out, tiny_llm, **EQUAL), lambda _: None)
    return out


def assert_alike(run: Path, whole: Path, *folders: str) -> None:
    for folder in folders:
        for line, other in zip(metrics(run / folder), metrics(whole / folder), strict=True):
            assert line.pop("part") == other.pop("part")
            assert line == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("changed", [{"micro_batch_size": 1}, {"micro_batch_size": 3}, {"text_cache_mb": 0}])
def test_one_batch_of_8_is_8_of_1_and_cached_is_uncached(
    changed: dict[str, int], whole: Path, sessions: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    train(options(sessions, tmp_path / "run", tiny_llm, **EQUAL, **changed, twin=False), lambda _: None)
    assert_alike(tmp_path / "run", whole, "")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_nearly_the_same(
    precision: str, whole: Path, sessions: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    settings = EQUAL | {"precision": precision, "twin": False, "match_steps": 1, "steps": 2}
    train(options(sessions, tmp_path / "run", tiny_llm, **settings), lambda _: None)
    bits = [
        [line["bits_per_token"] for line in metrics(run) if line["part"] == "model"]
        for run in (tmp_path / "run", whole)
    ]
    assert bits[0] != bits[1][:2]
    assert bits[0] == pytest.approx(bits[1][:2], rel=0.02)
    assert {w.dtype for w in weights(tmp_path / "run").values()} == {torch.float32}


def test_two_processes_are_one(whole: Path, sessions: Path, tiny_llm: Path, tmp_path: Path) -> None:
    """Through a launcher, and with the LLM's layers parted between the two (FSDP)."""
    record = json.loads((whole / "run.json").read_text())["options"]
    names = ("llm", "encoder", "test_share", *EQUAL)
    chosen = [part for name in names for part in (f"--{name.replace('_', '-')}", str(record[name]))]
    runs = [str(tmp_path / "run"), str(tmp_path / "fsdp")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("two_processes.py")
    done = subprocess.run(
        [*launcher, script, *runs, "train", str(sessions), *chosen, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 2 * (3 + 3 + 3), "one process speaks"
    for run in runs:
        assert_alike(Path(run), whole, "", "twin")
        assert not list(Path(run).glob(".*")), "no face is left behind"


def test_parts_are_of_like_size() -> None:
    assert _cut(8, 0) == _cut(8, 8) == [(0, 8)]
    assert _cut(8, 3) == [(0, 3), (3, 6), (6, 8)]
    assert _cut(5, 1) == [(i, i + 1) for i in range(5)]


def test_texts_dropped_and_read_again_are_the_same_to_the_last_bit() -> None:
    model = make_model()
    examples = [make_example(ids) for ids in TEXTS]
    kept = ReadTexts(model, PAD, read_alone=True)
    tight = ReadTexts(model, PAD, limit_bytes=2 * 5 * 32 * 4, read_alone=True)
    none = ReadTexts(model, PAD, limit_bytes=0, read_alone=True)
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = [examples[i] for i in rng.integers(0, len(examples), 4)]
        expected = kept(chosen)
        assert torch.equal(tight(chosen), expected)
        assert torch.equal(none(chosen), expected)
        assert tight.kept_bytes <= 2 * 5 * 32 * 4
        assert none.kept_bytes == 0
    assert kept.kept_bytes == sum(len(ids) for ids in TEXTS) * 32 * 4


def test_the_text_asked_for_least_recently_is_dropped() -> None:
    model = make_model()
    a, b, c = (make_example([n, n]) for n in (5, 6, 7))
    reads: list[int] = []
    model.llm.model.embed_tokens.register_forward_hook(lambda _, args, __: reads.append(int(args[0][0, 0])))
    read = ReadTexts(model, PAD, limit_bytes=2 * 2 * 32 * 4, read_alone=True)
    for example in (a, b, a, c, a, b):
        read([example])
    assert reads == [5, 6, 7, 6], "b was dropped for c, a was not"


def test_faces_in_files_are_the_faces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tracks = [
        FaceTrack(rng.normal(size=(n, 6)).astype(np.float16), np.arange(n) / 10, rng.random(n) < 0.5) for n in (3, 0, 9)
    ]
    store = FaceStore(tmp_path / "faces")
    store.write(iter(tracks))
    read = store.read()
    store.clear()
    assert not (tmp_path / "faces").exists()
    for track, mapped in zip(tracks, read, strict=True):
        for part in ("latents", "times", "present"):
            assert np.array_equal(getattr(track, part), getattr(mapped, part))
    assert isinstance(read[0].latents, np.memmap)
    assert math.isclose(float(read[2].between(0.1, 0.5).latents.sum()), float(tracks[2].latents[2:6].sum()))
