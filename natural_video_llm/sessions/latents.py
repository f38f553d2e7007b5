"""Latents on disk: one safetensors file a video segment, written beside and renamed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.folder import Session, encoder_folder


@dataclass(frozen=True)
class Latents:
    """What an encoder made of a stretch of video.

    Args:
        latents: [frames, latent_size] float16; zeros where no face was there.
        times: [frames] float64, capture time in seconds since session start, rising.
        present: [frames] bool, a face was there.
        encoder: the encoder's name.
        encoder_sha256: SHA-256 of its weights.
        units: what the numbers mean.
        crowded: how many of the latents were made while several faces were in view.
    """

    latents: np.ndarray
    times: np.ndarray
    present: np.ndarray
    encoder: str
    encoder_sha256: str
    units: str
    crowded: int = 0


def save_latents(path: Path, latents: Latents) -> None:
    """Write beside, then rename. The same latents give the same bytes.

    Raises:
        UserError: the file cannot be written.
    """
    beside = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(_serialised(latents))
        beside.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); free disk space or mend rights, run again") from error


def _serialised(latents: Latents) -> bytes:
    content = save(
        {"latents": latents.latents, "times": latents.times, "present": latents.present},
        metadata={
            "encoder": latents.encoder,
            "encoder_sha256": latents.encoder_sha256,
            "units": latents.units,
            "crowded": str(latents.crowded),
        },
    )
    # The header (its length in 8 bytes, then JSON) comes in an order that changes from call to call.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def load_latents(path: Path) -> Latents:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in ("latents", "times", "present")}
        named = {name: metadata[name] for name in ("encoder", "encoder_sha256", "units")}
        return Latents(**arrays, **named, crowded=int(metadata.get("crowded", 0)))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: no readable latents ({error}); delete it and run nvllm extract again") from error


def load_session_latents(session: Session, encoder: str) -> Latents:
    """All latents of a session in order of time.

    Raises:
        UserError: a finished segment has no latents yet, or they come from different weights.
    """
    return _joined(session, encoder, latents_file, f"nvllm extract {session.path} --encoder {encoder}")


def load_background_latents(session: Session, encoder: str) -> Latents:
    """The same for latents of the video with the face painted over, which `nvllm eval --background` makes."""
    return _joined(session, encoder, background_file, "nvllm eval RUN --background")


def _joined(session: Session, encoder: str, file_of: Callable[[Session, str, str], Path], made_by: str) -> Latents:
    parts = []
    for segment in session.finished_segments:
        path = file_of(session, encoder, segment.file)
        if not path.exists():
            raise UserError(f"{path} is missing; run: {made_by}")
        parts.append(load_latents(path))
    if not parts:
        raise UserError(f"{session.path}: no finished video segment, so there is no face to learn from")
    if len({part.encoder_sha256 for part in parts}) > 1:
        folder = file_of(session, encoder, "").parent
        raise UserError(f"{folder}: latents of different weights; delete the folder and run again: {made_by}")
    return Latents(
        np.concatenate([part.latents for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.present for part in parts]),
        parts[0].encoder,
        parts[0].encoder_sha256,
        parts[0].units,
        sum(part.crowded for part in parts),
    )


def latents_file(session: Session, encoder: str, video_file: str) -> Path:
    """Where the latents of a segment belong; `video_file` as the event names it."""
    return session.latents_dir(encoder) / f"{Path(video_file).stem}.safetensors"


def background_file(session: Session, encoder: str, video_file: str) -> Path:
    """The same for latents of the video with the face painted over: in the session's folder, so that they go with it,
    and apart from the others, which they must never be taken for."""
    return session.path / "background" / encoder_folder(encoder) / f"{Path(video_file).stem}.safetensors"
