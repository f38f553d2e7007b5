"""Who says what and when: sample sessions before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from natural_video_llm.capture.motion import MOTIONS
from natural_video_llm.capture.sample_corpus import CorpusLine
from natural_video_llm.sessions.candidates import Candidate, Candidates
from natural_video_llm.sessions.events import Text

GAP_S = 0.5  # before, between and after the turns
_DIGITS = 4  # of the times that are written


@dataclass(frozen=True)
class Turn:
    """One message with its reply; the motion lasts from the first typed character to the reply's last."""

    motion: str
    message: Text
    reply: Text

    @property
    def start_s(self) -> float:
        return self.message.t_start

    @property
    def length_s(self) -> float:
        return self.reply.t_end - self.message.t_start


@dataclass(frozen=True)
class PersonPlan:
    """split: whether the person is met in training; played: message and motion of each turn."""

    name: str
    number: int
    split: Literal["train", "test"]
    played: tuple[tuple[CorpusLine, str], ...]


def plan_people(
    corpus: Sequence[CorpusLine],
    rng: np.random.Generator,
    people: int,
    held_out_people: int,
    held_out: int,
    turns: int,
) -> list[PersonPlan]:
    """Deal messages and motions out to all people.

    The last `held_out_people` get the last `held_out` messages and no others, all other people the rest.
    No message comes twice to one person, and (message, motion) pairs are covered as evenly as can be.
    """
    split_at, told = people - held_out_people, len(corpus) - held_out
    plans = []
    split: Literal["train", "test"]
    for split, numbers, messages in (
        ("train", range(split_at), list(corpus[:told])),
        ("test", range(split_at, people), list(corpus[told:])),
    ):
        played = np.zeros((len(messages), len(MOTIONS)), int)
        for number in numbers:
            pairs = _deal(played, min(turns, len(messages)), number, rng)
            turns_played = tuple((messages[line], MOTIONS[motion]) for line, motion in pairs)
            plans.append(PersonPlan(f"person_{number:03d}", number, split, turns_played))
    return plans


def plan_candidates(corpus: Sequence[CorpusLine], rng: np.random.Generator, held_out: int) -> list[Candidates]:
    """All replies of each message, shuffled."""
    entries = []
    for number, line in enumerate(corpus):
        candidates = [Candidate(reply=line.replies[motion], motion=motion) for motion in rng.permutation(MOTIONS)]
        split: Literal["train", "test"] = "test" if number >= len(corpus) - held_out else "train"
        entries.append(Candidates(message=line.message, split=split, candidates=candidates))
    return entries


def plan_turns(plan: PersonPlan, rng: np.random.Generator) -> list[Turn]:
    """Times for all that is said. The draws do not depend on the motions."""
    turns, now_s = [], GAP_S
    for line, motion in plan.played:
        message = _text("speaker", line.message, _key_times(rng, len(line.message), now_s, rng.uniform(2.4, 3.2)))
        reply_s = message.t_end + rng.uniform(0.25, 0.45)
        reply_text = line.replies[motion]
        # Its own generator: a longer reply must not shift the draws of all later turns.
        reply_rng = np.random.default_rng(rng.integers(2**32))
        reply = _text("assistant", reply_text, _key_times(reply_rng, len(reply_text), reply_s, rng.uniform(0.75, 0.9)))
        turns.append(Turn(motion, message, reply))
        now_s = reply.t_end + GAP_S
    return turns


def plan_frames(rng: np.random.Generator, end_s: float, rate_hz: float) -> np.ndarray:
    """[T] frame times from about 0 to `end_s`, rising, a few ms off an even beat as a webcam's are."""
    beat = (np.arange(int(end_s * rate_hz)) + 0.5) / rate_hz
    jitter = np.clip(rng.normal(0, 0.003, len(beat)), -0.3 / rate_hz, 0.3 / rate_hz)
    return np.round(beat + jitter, _DIGITS)


def _deal(played: np.ndarray, turns: int, number: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(message, motion) of each of a person's turns, chosen to even out `played` [message, motion].

    `played` is updated. Every motion comes equally often, give or take one; the surplus goes to
    other motions for the next person.
    """
    slots = (np.arange(turns) + number * turns) % len(MOTIONS)
    cost = 100 * played + 10 * played.sum(axis=1, keepdims=True)
    messages, chosen = linear_sum_assignment(cost[:, slots] + rng.random((len(played), turns)))
    pairs = [(int(message), int(slots[slot])) for message, slot in zip(messages, chosen, strict=True)]
    for pair in pairs:
        played[pair] += 1
    rng.shuffle(pairs)
    return pairs


def _key_times(rng: np.random.Generator, characters: int, start_s: float, length_s: float) -> list[float]:
    """When each character appears: log-normal intervals, stretched to `length_s` in all."""
    after = np.concatenate([[0.0], np.cumsum(rng.lognormal(0, 0.5, characters - 1))])
    return [round(float(start_s + length_s * share), _DIGITS) for share in after / after[-1]]


def _text(speaker: str, text: str, times: list[float]) -> Text:
    return Text(speaker=speaker, text=text, t_start=times[0], t_end=times[-1], timing="char", char_times=times)
