"""Text ↔ latents: every token gets its time and its stretch of latents."""

import math

import numpy as np
from transformers import PreTrainedTokenizerBase

from natural_video_llm.sessions.aligned import AlignedUtterance, write_aligned
from natural_video_llm.sessions.events import Text
from natural_video_llm.sessions.folder import Session
from natural_video_llm.sessions.latents import Latents, load_session_latents
from natural_video_llm.tokenization import tokenizer_sha256


def align_session(
    session: Session,
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_name: str,
    encoder: str,
    window_s: float,
) -> int:
    """Write the session's aligned_data.jsonl; returns the number of utterances."""
    latents = load_session_latents(session, encoder)
    sha256 = tokenizer_sha256(tokenizer)
    aligned = (
        align_text(event, tokenizer, tokenizer_name, sha256, latents, window_s)
        for event in session.texts
        if event.text.strip()
    )
    # A vocabulary may have no token for control characters; an utterance of nothing else has no place here.
    utterances = [utterance for utterance in aligned if utterance.token_ids]
    write_aligned(session.aligned_file, utterances)
    return len(utterances)


def align_text(
    event: Text,
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_name: str,
    tokenizer_sha: str,
    latents: Latents,
    window_s: float,
) -> AlignedUtterance:
    """Cut one utterance into tokens by the tokenizer's own offsets and time them."""
    encoded = tokenizer(event.text, add_special_tokens=False, return_offsets_mapping=True)
    spans = [(int(start), int(end)) for start, end in encoded["offset_mapping"]]
    t_start, t_end = token_times(event, spans)
    first_s, last_s = (t_start[0], t_end[-1]) if spans else (event.t_start, event.t_end)
    first = int(np.searchsorted(latents.times, first_s - window_s, side="right"))
    last = int(np.searchsorted(latents.times, last_s, side="right"))
    return AlignedUtterance(
        speaker=event.speaker,
        text=event.text,
        timing=event.timing,
        t_start=event.t_start,
        t_end=event.t_end,
        tokenizer=tokenizer_name,
        tokenizer_sha256=tokenizer_sha,
        token_ids=list(encoded["input_ids"]),
        token_spans=spans,
        token_t_start=t_start,
        token_t_end=t_end,
        encoder=latents.encoder,
        latents=(first, max(first, last)),
        window_s=window_s,
    )


def token_times(event: Text, spans: list[tuple[int, int]]) -> tuple[list[float], list[float]]:
    """Start and end, in seconds, of the tokens with the character ranges `spans`.

    A token ends with the latest of its characters, or with its word; where only the utterance is timed,
    every token ends with the utterance. Ends never fall: text corrected later is as old as the correction.
    """
    starts, ends = _char_times(event)
    t_start, t_end = [], []
    latest = event.t_start
    for start, end in spans:
        # Some tokenizers give the bytes of one character empty ranges.
        stretch = slice(start, max(end, start + 1))
        latest = max([latest, *ends[stretch]])
        t_start.append(min([*starts[stretch], latest]))
        t_end.append(latest)
    return t_start, t_end


def _char_times(event: Text) -> tuple[list[float], list[float]]:
    """When each character began and was there.

    Spaces and marks between timed words are there with the word before; they have no start of their own
    (infinity), so that a token of a space and a word starts with the word.
    """
    if event.timing == "char":
        assert event.char_times is not None
        return event.char_times, event.char_times
    if event.timing == "utterance":
        return [event.t_start] * len(event.text), [event.t_end] * len(event.text)
    starts, ends = [math.inf] * len(event.text), [event.t_start] * len(event.text)
    words = sorted(event.word_times or [])
    for word, (first, last, t_start, t_end) in enumerate(words):
        until = words[word + 1][0] if word + 1 < len(words) else len(event.text)
        for i in range(first, max(last, until)):
            starts[i], ends[i] = (t_start if i < last else math.inf), t_end
    return starts, ends
