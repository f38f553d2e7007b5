"""The same pictures as the browser and as the server see them, and what a model says to each."""

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from page_server import BUILT, Server, node

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.inference.conversation import Sampling
from natural_video_llm.inference.engine import Engine
from natural_video_llm.preprocessing.encoders.face_landmarks import (
    LEFT_EYE_OUTER,
    POINTS,
    RIGHT_EYE_OUTER,
    FaceLandmarker,
)
from natural_video_llm.sessions.clock import SessionClock

RATE_HZ = 15
MESSAGES = (
    "I lost my keys",
    "I got a new job",
    "My dad wants to come to my match",
    "I am moving to another city",
    "The exam was yesterday",
    "My sister called me last night",
    "I cooked dinner for everyone",
    "We adopted a dog",
)


@dataclass(frozen=True)
class SeenTwice:
    """The same pictures' points [pictures, 478, 3] in pixels, as the browser and as the server found them."""

    browser: np.ndarray
    server: np.ndarray
    size_px: tuple[int, int]

    def apart(self) -> np.ndarray:
        """[pictures]: mean over the points, in distances between the eyes' outer corners."""
        eyes_px = np.linalg.norm(self.server[:, LEFT_EYE_OUTER] - self.server[:, RIGHT_EYE_OUTER], axis=-1)
        return np.linalg.norm(self.browser - self.server, axis=-1).mean(axis=-1) / eyes_px


def see_twice(frames: list[np.ndarray], folder: Path, chromium: str, server: Server) -> SeenTwice:
    """Of frames [H, W, 3] uint8 RGB, RATE_HZ of them a second, all with a face."""
    found = found_by_browser(frames, folder, chromium, server)
    landmarker = FaceLandmarker(face_landmarker_file())
    own = [face.points for n, rgb in enumerate(frames) if (face := landmarker(rgb, n / RATE_HZ)) is not None]
    browser = np.reshape([one["points"] for one in found], (len(frames), POINTS, 3))
    height_px, width_px = frames[0].shape[:2]
    return SeenTwice(browser, np.stack(own), (width_px, height_px))


def found_by_browser(frames: list[np.ndarray], folder: Path, chromium: str, server: Server) -> list[dict]:
    """What geometry.mjs prints; the pictures lie in `folder` on their way."""
    files = [folder / f"{number}.png" for number in range(len(frames))]
    for file, rgb in zip(files, frames, strict=True):
        cv2.imwrite(str(file), rgb[..., ::-1])
    (worker,) = BUILT.glob("app/faceWorker-*.js")
    made = node("geometry.mjs", server.address, chromium, f"/app/{worker.name}", *files)
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)


class PlayedClock(SessionClock):
    """Stands where it is put: a reply is written in the moment of the last picture."""

    time_s = 0.0

    def now_s(self) -> float:
        return self.time_s


def first_reply(
    engine: Engine, message: str, points: Iterable[np.ndarray | None], size_px: tuple[int, int], sampling: Sampling
) -> str:
    """The reply to the first message of a conversation, sent when all of `points` has been seen."""
    clock = PlayedClock()
    with closing(engine.open(clock, sampling)) as conversation:
        for number, found in enumerate(points):
            clock.time_s = number / RATE_HZ
            assert conversation.see_points(clock.time_s, found, *size_px)
            conversation.settle()
        return "".join(piece.text for piece in conversation.reply(message))
