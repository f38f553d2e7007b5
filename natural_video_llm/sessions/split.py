"""Who is learned from and who is held out: by person, by session where there is one person, never by utterance."""

from collections.abc import Iterable, Sequence

import numpy as np

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.folder import Session


def person_of(session: Session) -> str:
    """Who is filmed: sessions of one person must not be split between training and test."""
    return session.start.person or session.start.session_id


def split_sessions(sessions: Sequence[Session], test_share: float, seed: int) -> tuple[set[str], set[str]]:
    """Ids of the training and the test sessions: as the data marks them, else by person, else by session; with a
    `test_share` of 0 all are for training. Marks of one kind alone (a part of a data set) say nothing.

    Raises:
        UserError: one session only, so nothing could be held out.
    """
    marked = {part: {s.start.session_id for s in sessions if s.start.split == part} for part in ("train", "test")}
    if marked["train"] and marked["test"]:
        return marked["train"], marked["test"]
    if not test_share:
        return {s.start.session_id for s in sessions}, set()
    groups = session_groups(sessions)
    count = min(max(1, round(test_share * len(groups))), len(groups) - 1)
    order = np.random.default_rng(seed).permutation(len(groups))
    return _train_and_test(groups, order[:count])


def fold_sessions(sessions: Sequence[Session], folds: int, seed: int) -> list[tuple[set[str], set[str]]]:
    """(training, test) session ids for each of `folds` folds; every group is tested exactly once."""
    groups = session_groups(sessions)
    if folds > len(groups):
        raise UserError(f"{folds} folds, but the data has only {len(groups)} people (or sessions) to hold out")
    order = np.random.default_rng(seed).permutation(len(groups))
    return [_train_and_test(groups, part) for part in np.array_split(order, folds)]


def session_groups(sessions: Sequence[Session]) -> list[set[str]]:
    """Session ids that must stay together: those of one person; each session by itself where there is one person."""
    people: dict[str, set[str]] = {}
    for session in sessions:
        people.setdefault(person_of(session), set()).add(session.start.session_id)
    groups = list(people.values())
    if len(groups) == 1:
        groups = [{session_id} for session_id in sorted(groups[0])]
    if len(groups) < 2:
        raise UserError(
            "one session only: nothing can be held out, so nothing could show whether the face is used; record at "
            "least one more, or train on this one all the same with --test-share 0"
        )
    return groups


def _train_and_test(groups: list[set[str]], test: Iterable[int]) -> tuple[set[str], set[str]]:
    chosen = set(test)
    return (
        set().union(*(g for i, g in enumerate(groups) if i not in chosen)),
        set().union(*(g for i, g in enumerate(groups) if i in chosen)),
    )
