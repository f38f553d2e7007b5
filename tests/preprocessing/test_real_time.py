"""How it is told whether an encoder keeps up: with encoders that take a known while."""

import re
import time
from collections.abc import Sequence

import numpy as np
import pytest
from own_encoder import OwnEncoder

from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders import Encoded, Frame, make_encoder
from natural_video_llm.preprocessing.encoders.real_time import measure_real_time, portrait_frames


def test_an_encoder_of_frames_owes_one_latent_a_frame() -> None:
    found = measure_real_time(OwnEncoder(0.05), frame_rate_hz=30)
    assert 0.2 < found.factor <= 1 / (30 * 0.05)
    assert 0.05 <= found.median_s <= found.p95_s
    assert (found.latents, found.stride_s, found.face_seen) == (8, 1 / 30, True)
    assert found.verdict.startswith("too slow for live use: ")
    assert found.verdict.endswith(" of 30 frames a second")
    assert found.warning is not None
    assert found.warning.startswith(f"the encoder own needs {1 / found.factor:.1f} s for each second of video: ")
    fewer = measure_real_time(OwnEncoder(0.05), frame_rate_hz=6)
    assert fewer.factor > 1
    assert (fewer.verdict, fewer.warning) == ("keeps up at 6 Hz", None)


def test_an_encoder_of_clips_only_has_to_finish_one_a_stride() -> None:
    found = measure_real_time(OwnEncoder(0.1, 0.5), video_s=1)
    assert 1 < found.factor <= 5
    assert (found.latents, found.stride_s) == (2, 0.5)
    assert (found.verdict, found.warning) == ("keeps up at 30 Hz", None)
    slow = measure_real_time(OwnEncoder(0.4, 0.2))
    assert slow.factor <= 0.5
    assert re.fullmatch(r"too slow for live use: a clip takes [\d.]+ s, one is due every 0.2 s", slow.verdict)


def test_a_very_slow_one_is_not_waited_for() -> None:
    started_s = time.monotonic()
    found = measure_real_time(OwnEncoder(0.3), video_s=60, at_most_s=0.5)
    assert found.latents == 2
    assert time.monotonic() - started_s < 10


def test_what_the_first_latent_takes_is_not_counted() -> None:
    class Prepares(OwnEncoder):
        prepared = False

        def encode(self, frames: Sequence[Frame]) -> Encoded:
            time.sleep(0 if self.prepared else 1)
            self.prepared = True
            return super().encode(frames)

    found = measure_real_time(Prepares(0.005), frame_rate_hz=10)
    assert found.p95_s < 0.5
    assert found.keeps_up


def test_an_encoder_without_latents_is_told() -> None:
    class Mute(OwnEncoder):
        def encode(self, frames: Sequence[Frame]) -> Encoded:
            return Encoded.join([], self.latent_size)

    with pytest.raises(UserError, match="encoder own: gives no latents"):
        measure_real_time(Mute(0))


def test_the_portrait_drifts_and_is_seen() -> None:
    encoder = make_encoder("face-geometry")
    frames = list(portrait_frames(10, 3.3))
    assert [time_s for time_s, _ in frames] == pytest.approx(np.arange(34) / 10)
    assert {(rgb.shape, rgb.dtype) for _, rgb in frames} == {((480, 640, 3), np.dtype(np.uint8))}
    found = encoder.encode(frames)
    assert found.faces.tolist() == [1] * 34
    assert np.ptp(found.latents[:, 1437].astype(float)) > 0.05, "to and fro across the picture"
    assert measure_real_time(encoder).face_seen
