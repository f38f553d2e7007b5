"""How well can a person be told from an encoder's latents?

python benchmarks/bench_identity.py FOLDER [FOLDER …] --encoder face-geometry --encoder videomae:MY_ENCODER

A FOLDER holds clips of people: a folder of sessions (each session a person, each segment a clip) or one person's clips.
The first clip of each person is known; every other clip is to be named by its nearest neighbour among those. Of a
person with a single clip the first half is known. A clip's vector is the mean and the spread over time of its latents,
as they are or relative to the person's own neutral, each number scaled by its spread over the known clips.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from natural_video_llm.models.face import PersonNeutral
from natural_video_llm.preprocessing.encoders import Encoder, make_encoder
from natural_video_llm.preprocessing.extract_video_latents import encode_segment
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.sessions.latents import Latents

CLIP_ENDINGS = {".mp4", ".mpg", ".mov", ".avi", ".webm"}
NEUTRAL_MEMORY_S = 20.0


def main() -> None:
    """Prints a markdown table, a row for each encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--encoder", action="append", required=True)
    parser.add_argument("--clips", type=int, default=4, help="clips a person at most")
    arguments = parser.parse_args()
    people = [person for folder in arguments.folders for person in people_in(folder, arguments.clips)]
    chance = 1 / len(people)
    print(f"{len(people)} people, chance {chance:.2f}\n\n| encoder | as they are | relative to the person's neutral |")
    print("|---|---|---|")
    for name in arguments.encoder:
        encoder = make_encoder(name)
        clips = [[clip for path in person for clip in halves(path, encoder, len(person) == 1)] for person in people]
        shares = [
            named_right([[vector(c, relative) for c in person] for person in clips]) for relative in (False, True)
        ]
        print(f"| {name} | {shares[0]:.2f} | {shares[1]:.2f} |")


def people_in(folder: Path, limit: int) -> Iterator[list[Path]]:
    """The clips of each person in a folder."""
    if any(folder.glob("*/session.jsonl")):
        for session in find_sessions(folder):
            yield [session.path / segment.file for segment in session.finished_segments][:limit]
        return
    yield sorted(path for path in folder.iterdir() if path.suffix in CLIP_ENDINGS)[:limit]


def halves(path: Path, encoder: Encoder, split: bool) -> list[Latents]:
    """The clip's latents, cut in two where they are all that there is of a person."""
    whole, _ = encode_segment(path, encoder)
    if not split:
        return [whole]
    parts = np.array_split(np.arange(len(whole.times)), 2)
    return [
        Latents(whole.latents[i], whole.times[i], whole.present[i], whole.encoder, whole.encoder_sha256, whole.units)
        for i in parts
    ]


def vector(clip: Latents, relative: bool) -> np.ndarray:
    """[2 * latent_size] mean and standard deviation over the frames that show a face."""
    both = PersonNeutral(NEUTRAL_MEMORY_S).extend(clip.latents, clip.times, clip.present).astype(np.float64)
    seen = np.split(both[clip.present], 2, axis=1)[int(relative)]
    return np.concatenate([seen.mean(axis=0), seen.std(axis=0)])


def named_right(people: list[list[np.ndarray]]) -> float:
    """Share of the other clips whose nearest known clip is the same person's."""
    known = np.array([clips[0] for clips in people])
    scale = known.std(axis=0) + 1e-6
    right = [
        np.linalg.norm((known - clip) / scale, axis=1).argmin() == person
        for person, clips in enumerate(people)
        for clip in clips[1:]
    ]
    return float(np.mean(right))


if __name__ == "__main__":
    main()
