"""The last seconds of video as clips: one every stride, each ending with the newest picture, so nothing looks ahead."""

import bisect
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

# Two ticks of the clock of MP4 video: a frame that is early by less has come in time.
_SLACK_S = 2e-5


@dataclass(frozen=True)
class Clip:
    """What was on show during the `window_s` before `time_s`.

    Args:
        time_s: its end, which is the time of its newest frame.
        pictures: crops [side, side, 3] uint8, as many as the window has places; none where the newest frame shows no
            face.
        faces: how many faces were in view of the newest frame, 0 where it shows none.
    """

    time_s: float
    pictures: list[np.ndarray]
    faces: int


@dataclass(frozen=True)
class _Crop:
    time_s: float
    rgb: np.ndarray | None


class ClipWindow:
    """Crops with their times in, clips out, picked by time: the frame rate may vary.

    A clip is due with the first frame at or after each moment of a grid `stride_s` apart that begins at the first
    frame. Where no frame came between two moments or more, one clip serves for all of them. Its pictures are those on
    show (the newest at or before) at `places` moments evenly spaced from `window_s` before the frame up to the frame
    itself; before the first frame that one is on show. In the place of a picture without a face stands the crop that
    came last before it in the window, or else the first one in the window.

    Holds the crops of `window_s` of video and one more. A frame that comes no later than the one before is passed over.

    Args:
        places: pictures a clip, at least one.
        window_s, stride_s: seconds, positive.
    """

    def __init__(self, places: int, window_s: float, stride_s: float) -> None:
        self._window_s, self._stride_s = window_s, stride_s
        self._ago_s = [window_s * place / max(1, places - 1) for place in reversed(range(places))]
        self.reset()

    def reset(self) -> None:
        """Forgets the past; the next frame is the first one."""
        self._crops: deque[_Crop] = deque()
        self._start_s = 0.0
        self._moments = 0

    def __len__(self) -> int:
        """How many frames are held."""
        return len(self._crops)

    def add(self, time_s: float, rgb: np.ndarray | None, faces: int) -> Clip | None:
        """The clip that became due with a frame, if one did.

        Args:
            time_s: when the frame was captured.
            rgb: its crop [side, side, 3] uint8, None where it shows no face; kept, so it must not change later.
            faces: how many faces were in view.
        """
        if not self._crops:
            self._start_s = time_s
        elif time_s <= self._crops[-1].time_s:
            return None
        self._crops.append(_Crop(time_s, rgb))
        # Of the moments that have passed, the last one counts.
        passed = math.floor((time_s - self._start_s + _SLACK_S) / self._stride_s) + 1
        clip = self._clip(faces) if passed > self._moments else None
        self._moments = max(self._moments, passed)
        self._forget(max(time_s, self._start_s + self._moments * self._stride_s - 2 * _SLACK_S))
        return clip

    def _forget(self, next_end_s: float) -> None:
        """Drops what no clip that ends at `next_end_s` or later shows."""
        while len(self._crops) > 1 and self._crops[1].time_s <= next_end_s - self._window_s + _SLACK_S:
            self._crops.popleft()

    def _clip(self, faces: int) -> Clip:
        newest = self._crops[-1]
        if newest.rgb is None:
            return Clip(newest.time_s, [], 0)
        self._forget(newest.time_s)
        shown = [(crop.time_s, crop.rgb) for crop in self._crops if crop.rgb is not None]
        times = [time_s for time_s, _ in shown]
        places = [bisect.bisect_right(times, newest.time_s - ago_s + _SLACK_S) for ago_s in self._ago_s]
        return Clip(newest.time_s, [shown[max(0, place - 1)][1] for place in places], faces)
