"""Aligned data on disk."""

import resource
from pathlib import Path

import pytest

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.aligned import AlignedUtterance, read_aligned, write_aligned


def make(text: str = "hi") -> AlignedUtterance:
    return AlignedUtterance(
        speaker="speaker",
        text=text,
        timing="char",
        t_start=1.0,
        t_end=2.0,
        tokenizer="a",
        tokenizer_sha256="b",
        token_ids=[7],
        token_spans=[(0, len(text))],
        token_t_start=[1.0],
        token_t_end=[2.0],
        encoder="face-geometry",
        latents=(0, 3),
        window_s=4.0,
    )


@pytest.mark.parametrize("text", ["hi", "two\nlines", "a\u2028b\u2029c\x85d", "\x1c\x0b\x0c", "😀 שלום"])
def test_round_trip(tmp_path: Path, text: str) -> None:
    utterances = [make(text), make("next")]
    write_aligned(tmp_path / "aligned_data.jsonl", utterances)
    assert read_aligned(tmp_path / "aligned_data.jsonl") == utterances
    assert [p.name for p in tmp_path.iterdir()] == ["aligned_data.jsonl"]


def test_no_utterance_at_all(tmp_path: Path) -> None:
    write_aligned(tmp_path / "a.jsonl", [])
    assert read_aligned(tmp_path / "a.jsonl") == []


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", b"{"])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.jsonl"
    write_aligned(path, [make(), make(), make()])
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match="line 2 is damaged"):
        read_aligned(path)


def test_a_missing_file_tells_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nvllm align"):
        read_aligned(tmp_path / "a.jsonl")


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "aligned_data.jsonl"
    write_aligned(path, [make()])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"aligned_data\.jsonl: disk full"):
            write_aligned(path, [make()] * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_aligned(path) == [make()]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
