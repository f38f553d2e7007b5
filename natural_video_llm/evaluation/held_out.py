"""What a run held out: its sessions, its examples, and what they are made of."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from natural_video_llm.errors import UserError
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.run_folder import RUN_FILE
from natural_video_llm.sessions.aligned import read_aligned
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.sessions.latents import load_session_latents
from natural_video_llm.tokenization import tokenizer_sha256
from natural_video_llm.training.dataset import Example, load_examples, load_tracks
from natural_video_llm.training.model_card import data_facts


def read_record(run: Path) -> dict[str, Any]:
    """run.json of a trained model.

    Raises:
        UserError: there is none, it does not say what was held out, or the training was stopped before its end.
    """
    try:
        record = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        record["options"]["sessions"], record["options"]["encoder"], record["test"]
    except FileNotFoundError as error:
        raise UserError(f"{run}: no trained model here (no {RUN_FILE} in it); make one: nvllm train") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run / RUN_FILE} cannot be read ({error}); train the run again") from error
    if not record.get("trained", True):
        raise UserError(f"{run}: its training was stopped; end it first: the same nvllm train once more, with --resume")
    return dict(record)


def held_out_sessions(run: Path) -> list[Session]:
    """The sessions that a trained model was not trained on.

    Raises:
        UserError: the run is not trained to its end, nothing was held out, or the data is gone.
    """
    record = read_record(run)
    folder, test_ids = Path(record["options"]["sessions"]), set(record["test"])
    if not test_ids:
        raise UserError(f"{run}: nothing was held out, so nothing can be evaluated; train with --test-share or --folds")
    if not folder.is_dir():
        raise UserError(f"{folder}: the data that {run} was trained on is not there; put it back or train again")
    sessions = [s for s in find_sessions(folder) if s.start.session_id in test_ids]
    missing = test_ids - {s.start.session_id for s in sessions}
    if missing:
        raise UserError(f"{folder}: {len(missing)} test session(s) of {run} are gone, among them {min(missing)}")
    return sessions


def load_test_examples(
    run: Path, model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Example], Path]:
    """The examples that the run held out, and the folder of its sessions.

    Raises:
        UserError: they are not there, or not as the model knows them: other tokens, another encoder, other weights.
    """
    sessions, options, config = held_out_sessions(run), read_record(run)["options"], model.config
    tracks = load_tracks(sessions, config.encoder, config.neutral_memory_s, config.encoder_sha256)
    examples = load_examples(
        sessions,
        ChatFormat(tokenizer),
        tokenizer_sha256(tokenizer),
        config.encoder,
        config.neutral_memory_s,
        options["context_turns"],
        tracks,
    )
    return examples, Path(options["sessions"])


def held_out_facts(runs: Sequence[Path]) -> dict[str, Any]:
    """What the held-out sessions of a run's parts hold and how well: minutes of video, shares of latents with a face
    and with several, shares of utterances by how exactly they are timed; and how much the parts were trained on."""
    frames: Counter[str] = Counter()
    timing: Counter[str] = Counter()
    sessions: dict[str, Session] = {}
    for run in runs:
        encoder = read_record(run)["options"]["encoder"]
        for session in held_out_sessions(run):
            sessions[session.start.session_id] = session
            latents = load_session_latents(session, encoder)
            frames.update(all=len(latents.times), seen=int(latents.present.sum()), crowded=latents.crowded)
            timing.update(u.timing for u in read_aligned(session.aligned_file))
    count = max(frames["all"], 1)
    return {
        "minutes": data_facts(list(sessions.values()))["minutes"],
        "face_seen": frames["seen"] / count,
        "crowded": frames["crowded"] / count,
        "timing": {kind: timing[kind] / max(timing.total(), 1) for kind in ("char", "word", "utterance")},
        "trained_on": _trained_on([read_record(run) for run in runs]),
    }


def _trained_on(records: Sequence[dict[str, Any]]) -> dict[str, int] | None:
    """Of several folds the smallest numbers; None where a run is too old to say."""
    counts = [record.get("data") for record in records]
    if None in counts:
        return None
    return {name: min(c[name] for c in counts if c) for name in ("people", "sessions", "utterances")}
