"""The live face: what extraction would give, now, bounded, and what is dropped counted."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import skimage
from live_models import SetClock, adapted, tiny_llama
from own_encoder import OwnEncoder
from transformers import PreTrainedTokenizerBase

from natural_video_llm.inference.live_face import LiveFace
from natural_video_llm.inference.stages import Stages
from natural_video_llm.models.face import PersonNeutral
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.preprocessing.encoders import Encoded, Encoder, Frame, make_encoder
from natural_video_llm.preprocessing.encoders.face_geometry import geometry_latent
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.preprocessing.extract_video_latents import encode_segment
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.video import SegmentWriter, read_frames

EMPTY_FRAMES = (7, 8)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerBase) -> NaturalVideoLLM:
    return adapted(tiny_llama(tokenizer))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder("face-geometry")


@pytest.fixture(scope="module")
def portrait_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a real face that drifts across the picture, gone in `EMPTY_FRAMES`."""
    path = tmp_path_factory.mktemp("video") / "portrait.mp4"
    picture = skimage.data.astronaut()
    writer = SegmentWriter(path, 256, 256, 15)
    for number in range(16):
        rgb = np.ascontiguousarray(picture[:256, 90 + 2 * number : 346 + 2 * number])
        writer.write(rgb * (number not in EMPTY_FRAMES), number / 15)
    writer.close()
    return path


def watch(model: NaturalVideoLLM, open_encoder: Callable[[], Encoder], clock: SessionClock) -> LiveFace:
    return LiveFace(model, open_encoder, clock, Stages(), lambda due: None)


def kept(face: LiveFace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, latents and presence that wait to be encoded."""
    rows = face.ring._waiting
    return np.array([r[0] for r in rows]), np.stack([r[1] for r in rows]), np.array([r[2] for r in rows])


def test_the_ring_gets_what_extraction_gives(model: NaturalVideoLLM, portrait_video: Path, encoder: Encoder) -> None:
    expected, _ = encode_segment(portrait_video, encoder)
    encoder.encode(list(read_frames(portrait_video))[-4:])  # whom the encoder followed before must not matter
    clock = SetClock()
    face = watch(model, lambda: encoder, clock)
    for time_s, rgb in read_frames(portrait_video):
        clock.time_s = 10 + time_s
        assert face.see(clock.time_s, rgb)
        face.settle()
    view, (times, latents, present) = face.view(), kept(face)
    assert face.close() is encoder
    assert (view.frames, view.dropped, view.face_seen) == (16, {}, True)
    assert present.tolist() == expected.present.tolist()
    assert np.flatnonzero(~present).tolist() == list(EMPTY_FRAMES)
    neutral = PersonNeutral(model.config.neutral_memory_s)
    np.testing.assert_array_equal(latents, neutral.extend(expected.latents, times, expected.present))


def test_points_from_elsewhere_give_the_encoders_latent(encoder: Encoder, face_task_file: Path) -> None:
    rgb = np.ascontiguousarray(skimage.data.astronaut()[:256, 90:346])
    encoder.reset()
    found = FaceLandmarker(face_task_file)(rgb)
    assert found is not None
    latent = geometry_latent(found.points.tolist(), 256, 256)
    np.testing.assert_array_equal(latent, encoder.encode([(0.0, rgb)]).latents[0])


def test_a_busy_encoder_takes_the_newest_picture(model: NaturalVideoLLM) -> None:
    clock = SessionClock()
    face = watch(model, lambda: OwnEncoder(0.05), clock)
    given = []
    for number in range(100):
        given.append(clock.now_s())
        face.see(given[-1], np.full((48, 64, 3), number, np.uint8))
        time.sleep(0.01)
    face.settle()
    view, (times, _, _) = face.view(), kept(face)
    face.close()
    assert view.frames + sum(view.dropped.values()) == 100
    assert view.dropped["busy"] > 10
    assert times[-1] >= given[-2], "the newest one wins"
    assert (np.diff(times) > 0).all()
    assert all(np.abs(np.array(given) - t).min() < 1e-6 for t in times)


def test_pictures_wait_while_a_clip_is_being_encoded(model: NaturalVideoLLM) -> None:
    clock = SessionClock()
    face = watch(model, lambda: OwnEncoder(0.2, 0.4), clock)
    for number in range(30):
        face.see(clock.now_s(), np.full((48, 64, 3), number, np.uint8))
        time.sleep(0.04)
    face.settle()
    view = face.view()
    face.close()
    assert view.frames + sum(view.dropped.values()) == 30
    assert sum(view.dropped.values()) <= 3, "the next clip needs them"


def test_a_face_of_a_while_ago_is_not_seen_now(model: NaturalVideoLLM) -> None:
    clock = SetClock()
    face = watch(model, lambda: OwnEncoder(0.1, 0.0), clock)
    assert not face.view().met
    face.see_latent(10.0, np.zeros(1440, np.float16))
    assert face.view().face_seen
    clock.time_s = 12.5
    view = face.view()
    assert not view.face_seen
    assert view.met
    assert (view.video_s, view.without_face_s) == (2.5, 2.5)


def test_an_error_of_the_encoder_surfaces(model: NaturalVideoLLM) -> None:
    def broken() -> Encoder:
        raise OSError("no weights")

    clock = SetClock()
    face = watch(model, broken, clock)
    face.see(10.0, np.zeros((4, 4, 3), np.uint8))
    face.settle()
    with pytest.raises(OSError, match="no weights"):
        face.view()
    with pytest.raises(OSError, match="no weights"):
        face.see(10.1, np.zeros((4, 4, 3), np.uint8))
    assert face.close() is None


def test_an_encoder_is_given_back_once_and_only_when_whole(model: NaturalVideoLLM, encoder: Encoder) -> None:
    class Breaking(OwnEncoder):
        def encode(self, frames: Sequence[Frame]) -> Encoded:
            raise OSError("the device is gone")

    for taken, given_back in ((encoder, encoder), (Breaking(0.0), None)):
        face = watch(model, partial[Encoder](lambda taken: taken, taken), SetClock())
        face.see(10.0, np.zeros((4, 4, 3), np.uint8))
        face.settle()
        assert face.close() is given_back
        assert face.close() is None


def test_closing_stops_the_thread(model: NaturalVideoLLM, encoder: Encoder) -> None:
    clock = SetClock()
    face = watch(model, lambda: encoder, clock)
    face.see(10.0, np.zeros((48, 64, 3), np.uint8))
    face.settle()
    face.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("face-encoder")]
