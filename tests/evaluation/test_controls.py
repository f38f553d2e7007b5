"""What each control shows, on a track whose numbers tell what they are."""

from dataclasses import replace

import numpy as np
import pytest

from natural_video_llm.evaluation.controls import background_only, identity_only, pose_and_shape
from natural_video_llm.training.dataset import Example, FaceTrack

MEMORY_S = 4.0
SIZE, POSE = 6, 2


def make_example(person: str = "a", session: str = "a0", start_s: float = 10.0, seconds: float = 30.0) -> Example:
    """Ten frames a second of random latents around the person's own, every seventh without a face."""
    rng = np.random.default_rng(sum(map(ord, person + session)))
    times = np.arange(round(seconds * 10)) / 10
    raw = (ord(person) + rng.normal(size=(len(times), SIZE))).astype(np.float16)
    moved = rng.normal(size=(len(times), SIZE)).astype(np.float16)
    present = np.arange(len(times)) % 7 > 0
    track = FaceTrack(np.concatenate([raw, moved], axis=1) * present[:, None], times, present)
    ids = np.arange(8)
    return Example(session, person, "q", "a few words", ids, start_s + ids / 10, ids >= 4, track)


def test_identity_is_a_still_near_the_mean_from_outside_the_moments_at_stake() -> None:
    example = make_example()
    face = identity_only([example], MEMORY_S)["identity only"](example)
    seen = example.seen(MEMORY_S)
    assert np.array_equal(face.times, seen.times)
    assert face.present.all()
    (still,) = {tuple(row) for row in face.latents.tolist()}
    assert still[SIZE:] == (0.0,) * SIZE, "a held face does not move"
    raw = example.track.latents[:, :SIZE].astype(float)
    outside = example.track.present & ~np.isin(example.track.times, seen.times)
    mean = raw[example.track.present].mean(0)
    nearest = raw[outside][np.linalg.norm(raw[outside] - mean, axis=1).argmin()]
    assert np.allclose(still[:SIZE], nearest)


def test_identity_of_short_clips_comes_from_the_persons_other_clips() -> None:
    clips = [make_example(session=f"a{i}", start_s=1.0, seconds=1.6) for i in range(2)]
    faces = identity_only(clips, MEMORY_S)["identity only"]
    for clip, other in zip(clips, clips[::-1], strict=True):
        still = faces(clip).latents[0, :SIZE]
        assert (other.track.latents[:, :SIZE] == still).all(1).any()
        assert not (clip.track.latents[:, :SIZE] == still).all(1).any()


def test_without_a_frame_outside_there_is_no_such_control() -> None:
    assert identity_only([make_example(), make_example("b", "b0", 1.0, 1.6)], MEMORY_S) == {}
    example = make_example()
    nobody = replace(example, track=replace(example.track, present=np.zeros(len(example.track.times), bool)))
    assert identity_only([nobody], MEMORY_S) == {}


@pytest.mark.parametrize(
    ("name", "kept", "held"),
    [
        ("head pose only", slice(SIZE - POSE, SIZE), slice(0, SIZE - POSE)),
        ("geometry without pose", slice(0, SIZE - POSE), slice(SIZE - POSE, SIZE)),
    ],
)
def test_one_part_stays_and_the_other_is_held_at_its_mean(name: str, kept: slice, held: slice) -> None:
    example = make_example()
    face = pose_and_shape([example], POSE, MEMORY_S)[name](example)
    seen = example.seen(MEMORY_S)
    assert np.array_equal(face.present, seen.present)
    shown, truth = (f.latents.reshape(-1, 2, SIZE) for f in (face, seen))
    assert np.array_equal(shown[:, :, kept], truth[:, :, kept])
    assert not shown[~seen.present].any(), "nobody in view stays nobody in view"
    raw = example.track.latents[example.track.present, :SIZE].astype(float)
    assert np.allclose(shown[seen.present, 0, held], raw.mean(0)[held], atol=0.05)
    assert not shown[:, 1, held].any()
    assert example.track.latents[:, SIZE:].any(), "the example's own track is left as it was"


def test_the_background_is_that_of_the_same_session_at_the_same_time() -> None:
    examples = [make_example(), make_example("b", "b0")]
    tracks = {"a0": examples[1].track, "b0": examples[0].track}
    condition = background_only(tracks, MEMORY_S)["background only"]
    assert np.array_equal(condition(examples[0]).latents, examples[0].seen(MEMORY_S, examples[1].track).latents)
