"""How many bits the face was worth for each word: what the timeline and the comparison of runs are made from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from natural_video_llm.disk import write_whole
from natural_video_llm.evaluation.evidence import Choices
from natural_video_llm.evaluation.scoring import Part
from natural_video_llm.evaluation.summary import right_candidates
from natural_video_llm.run_folder import TOKEN_GAINS_FILE
from natural_video_llm.sessions.aligned import AlignedUtterance, read_aligned
from natural_video_llm.sessions.folder import Session

CONVERSATIONS = 3
# What a page can show: some ten minutes of talk.
_MOST_UTTERANCES = 60


def gain_lines(part: Part) -> Iterator[dict[str, Any]]:
    """One for each held-out utterance: its tokens, when they appeared (seconds since session start), and the bits that
    the true face saves over none for each; `bits` is what the utterance costs with the true face, `choice_bits` is
    there where the data has candidates."""
    choice_bits: np.ndarray | None = None
    if "true" in part.choices:
        choice_bits = Choices(part.choices["true"], right_candidates(part)).bits
    for number, (example, gains) in enumerate(zip(part.examples, token_gains(part), strict=True)):
        line = {
            "session_id": example.session_id,
            "person": example.person,
            "reply": example.reply,
            "tokens": part.token_texts[number],
            "times": [round(float(t), 4) for t in example.times[example.target]],
            "gain_bits": [round(float(g), 5) for g in gains],
            "bits": round(float(-part.scores["true"].sums[number]), 5),
        }
        if choice_bits is not None:
            line["choice_bits"] = round(float(choice_bits[number]), 5)
        yield line


def token_gains(part: Part) -> list[np.ndarray]:
    """log2 p(token | true face) - log2 p(token | no face), [target tokens] for each example."""
    true, none = part.scores["true"].log2_probs, part.scores["none"].log2_probs
    return [with_face - without for with_face, without in zip(true, none, strict=True)]


def write_gains(run: Path, parts: Sequence[Part]) -> None:
    """Write token_gains.jsonl into the run's folder, whole or not at all."""
    lines = [json.dumps(line) + "\n" for part in parts for line in gain_lines(part)]
    write_whole(run / TOKEN_GAINS_FILE, "".join(lines))


def timelines(parts: Sequence[Part], sessions: Mapping[str, Session]) -> list[dict[str, Any]]:
    """The beginnings of some conversations, the first one of each of the first people by name, so that nobody has
    chosen those that went well."""
    found: dict[str, tuple[str, Part]] = {}
    for part in parts:
        for example in part.examples:
            known = found.get(example.person)
            if known is None or example.session_id < known[0]:
                found[example.person] = example.session_id, part
    return [
        {"session_id": found[person][0], "person": person, "utterances": _utterances(*found[person], sessions)}
        for person in sorted(found)[:CONVERSATIONS]
    ]


def _utterances(session_id: str, part: Part, sessions: Mapping[str, Session]) -> list[dict[str, Any]]:
    gains = {
        _key(e.reply, e.times[e.target]): gain
        for e, gain in zip(part.examples, token_gains(part), strict=True)
        if e.session_id == session_id
    }
    shown = []
    for utterance in read_aligned(sessions[session_id].aligned_file)[:_MOST_UTTERANCES]:
        gain = gains.get(_key(utterance.text, utterance.token_t_end))
        shown.append(
            {
                "speaker": utterance.speaker,
                "text": utterance.text,
                "t_start": utterance.t_start,
                "t_end": utterance.t_end,
                "words": [] if gain is None else words_of(utterance, gain),
            }
        )
    return shown


def _key(text: str, times: Sequence[float] | np.ndarray) -> tuple[str, float]:
    """Tells utterances of a session apart; of an example's times those of the marks at its end come last."""
    return text, round(float(times[0]), 6)


def words_of(utterance: AlignedUtterance, gains: np.ndarray) -> list[dict[str, Any]]:
    """The words of an utterance, each with the time of its last token and the bits of its tokens added up.

    Args:
        gains: [target tokens], those of the utterance and then those of the mark at its end, which is no word.
    """
    starts = [
        i for i, c in enumerate(utterance.text) if not c.isspace() and (i == 0 or utterance.text[i - 1].isspace())
    ]
    words = [{"text": word, "t_s": utterance.t_end, "gain_bits": 0.0} for word in utterance.text.split()]
    spans = zip(utterance.token_spans, utterance.token_t_end, gains[: len(utterance.token_ids)].tolist(), strict=True)
    for (_, last), time_s, gain in spans:
        # A space that is a token of its own, or leads one, belongs to the word after it.
        place = max(int(np.searchsorted(starts, max(last - 1, 0), side="right")) - 1, 0)
        words[place]["t_s"] = time_s
        words[place]["gain_bits"] = round(words[place]["gain_bits"] + gain, 5)
    return words
