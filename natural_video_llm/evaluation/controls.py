"""Controls: what is left of the face's use when a part of what the camera saw is taken away."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from natural_video_llm.evaluation.conditions import Condition
from natural_video_llm.training.dataset import Example, FaceTrack

_CHUNK_FRAMES = 4096


def identity_only(examples: Sequence[Example], memory_s: float) -> dict[str, Condition]:
    """A frame of the same person held all the time: who it is can be seen, what the face does cannot.

    It is the frame nearest to the person's mean, from outside the moments that the example's tokens see. A held face is
    its own neutral, so that it does not move. Left out where somebody is never in view outside of them.
    """
    people: dict[str, dict[int, FaceTrack]] = {}
    for example in examples:
        people.setdefault(example.person, {})[id(example.track)] = example.track
    distances: dict[int, np.ndarray] = {}
    for tracks in people.values():
        mean = _mean_face(list(tracks.values()))
        distances |= {key: _distances(track, mean) for key, track in tracks.items()}
    held = {id(e): _neutral_frame(e, people[e.person], distances, memory_s) for e in examples}
    if any(frame is None for frame in held.values()):
        return {}

    def held_still(example: Example) -> FaceTrack:
        frame, seen = held[id(example)], example.seen(memory_s)
        assert frame is not None
        return FaceTrack(np.tile(frame, (len(seen.times), 1)), seen.times, np.ones(len(seen.times), bool))

    return {"identity only": held_still}


def pose_and_shape(examples: Sequence[Example], pose_numbers: int, memory_s: float) -> dict[str, Condition]:
    """The head's pose without the face's shape, and the shape without the pose, for latents whose last `pose_numbers`
    numbers are the pose: the other part stays as it is on average in that session."""
    tracks = {id(e.track): e.track for e in examples}
    mean_of = {key: _mean_face([track]) for key, track in tracks.items()}
    size = len(next(iter(mean_of.values())))
    shape, pose = slice(0, size - pose_numbers), slice(size - pose_numbers, size)

    def held(part: slice) -> Condition:
        def face_of(example: Example) -> FaceTrack:
            seen = example.seen(memory_s)
            halves = np.array(seen.latents).reshape(len(seen.times), 2, size)
            halves[seen.present, 0, part] = mean_of[id(example.track)][part]
            halves[seen.present, 1, part] = 0
            return FaceTrack(halves.reshape(len(seen.times), 2 * size), seen.times, seen.present)

        return face_of

    return {"head pose only": held(shape), "geometry without pose": held(pose)}


def background_only(tracks: Mapping[str, FaceTrack], memory_s: float) -> dict[str, Condition]:
    """What the same encoder makes of the video with the face painted over; `tracks` by session id."""
    return {"background only": lambda e: e.seen(memory_s, tracks[e.session_id])}


def _neutral_frame(
    example: Example, tracks: Mapping[int, FaceTrack], distances: Mapping[int, np.ndarray], memory_s: float
) -> np.ndarray | None:
    """[2 * latent_size]: the frame, and no movement."""
    after_s, until_s = example.query_times.min() - memory_s, example.query_times.max()
    best, nearest = None, np.inf
    for key, track in tracks.items():
        distance = distances[key]
        if track is example.track:
            distance = np.where((track.times > after_s) & (track.times <= until_s), np.inf, distance)
        row = int(np.argmin(distance)) if len(distance) else 0
        if len(distance) and distance[row] < nearest:
            best, nearest = np.array(track.latents[row]), distance[row]
    if best is not None:
        best[len(best) // 2 :] = 0
    return best


def _mean_face(tracks: Sequence[FaceTrack]) -> np.ndarray:
    """[latent_size] float32, over the frames with a face; zeros where there is none."""
    total, count = np.zeros(tracks[0].latents.shape[1] // 2), 0
    for _, faces in (part for track in tracks for part in _faces(track)):
        total, count = total + faces.sum(0, dtype=np.float64), count + len(faces)
    return (total / max(count, 1)).astype(np.float32)


def _distances(track: FaceTrack, mean: np.ndarray) -> np.ndarray:
    """[frames] from `mean`, infinite where nobody is in view."""
    distances = np.full(len(track.times), np.inf)
    for rows, faces in _faces(track):
        distances[rows] = np.linalg.norm(faces - mean, axis=1)
    return distances


def _faces(track: FaceTrack) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, their latents [rows, latent_size] float32) of the frames with a face, some at a time: a track may lie in
    a file that is larger than memory."""
    size = track.latents.shape[1] // 2
    seen = np.flatnonzero(track.present)
    for start in range(0, len(seen), _CHUNK_FRAMES):
        rows = seen[start : start + _CHUNK_FRAMES]
        yield rows, track.latents[rows, :size].astype(np.float32)
