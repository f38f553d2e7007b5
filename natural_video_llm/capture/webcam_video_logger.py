"""Camera → video segments, every frame with its capture time.

`record_video` is the verb; `VideoLogger` records in the background of whatever else runs. One of its threads takes
frames from the camera, one encodes them, a bounded queue lies between: a slow encoder costs counted frames, never a
wrong time.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from rich.console import Console

from natural_video_llm.assets import face_landmarker_file
from natural_video_llm.capture.camera_source import CameraLostError, Source, find_source
from natural_video_llm.capture.options import VideoOptions
from natural_video_llm.capture.session_opening import open_session
from natural_video_llm.capture.video_monitor import VideoMonitor, VideoStatus
from natural_video_llm.console import emit
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.encoders.face_landmarks import FaceLandmarker
from natural_video_llm.sessions.clock import SessionClock
from natural_video_llm.sessions.events import SessionEnd, VideoGap
from natural_video_llm.sessions.folder import SessionWriter
from natural_video_llm.sessions.lock import role_lock
from natural_video_llm.sessions.segments import SegmentRecorder, recover_segments
from natural_video_llm.stop_signals import on_stop_signals

# What a killed process loses: half a second of queue at most, and the fragment of a quarter that was not whole yet.
_QUEUE_S = 0.5
_NOMINAL_RATE_HZ = 30.0
# A camera that pauses: what it gave is put on the disk meanwhile.
_IDLE_S = 1.0
_BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_LOOK_EVERY_S = 1.0
_STOP_TIMEOUT_S = 3.0
_GRAIN_S = 1e-4
_TOO_SLOW = (
    "frames are dropped, this machine cannot keep up: close other programs or lower --width, --height and --rate-hz"
)
_STATUS_EVERY_S, _TICK_S = 0.5, 0.1

# A window with a title that shows the newest picture while the last function says to go on.
Preview = Callable[[str, Callable[[], np.ndarray | None], Callable[[], bool]], None]


@dataclass(frozen=True)
class _Frame:
    time_s: float
    rgb: np.ndarray
    dropped_before: int


@dataclass(frozen=True)
class _End:
    dropped_before: int


class VideoLogger:
    """Records a source into a session in the background. A context manager: leaving it closes the last segment.

    Entering locks the session against a second video logger, takes up what a killed one left, and opens the source.

    Args:
        source: the camera.
        writer, clock: of the session.
        segment_s: length of a segment in seconds.
        say: takes the sentences about trouble that a person can mend, from any thread; each kind comes once.
        sees_face: whether there is a face in rgb [H, W, 3] uint8; asked once a second.

    Raises (on entering):
        UserError: a second video logger, or the source cannot be opened.
    """

    def __init__(
        self,
        source: Source,
        writer: SessionWriter,
        clock: SessionClock,
        segment_s: float = 10.0,
        say: Callable[[str], None] = lambda sentence: None,
        sees_face: Callable[[np.ndarray], bool] | None = None,
    ):
        self._source, self._writer, self._clock = source, writer, clock
        self._segment_s, self._sees_face = segment_s, sees_face
        self._nominal_rate_hz = source.rate_hz or _NOMINAL_RATE_HZ
        self._monitor = VideoMonitor(writer.path, source.rate_hz, say)
        self._queue: queue.Queue[_Frame | VideoGap | _End] = queue.Queue(
            max(4, round(self._nominal_rate_hz * _QUEUE_S))
        )
        self._stop = threading.Event()
        self._capturing = threading.Thread(target=self._capture, name="video-capture", daemon=True)
        self._encoding = threading.Thread(target=self._encode, name="video-encoder", daemon=True)
        self._error: Exception | None = None
        self._ended = False
        self._away: tuple[float, str] | None = None
        self._last_s, self._dropped_before = -1.0, 0
        self._face_seen: bool | None = None
        self._stack = ExitStack()
        self.newest: np.ndarray | None = None

    def __enter__(self) -> "VideoLogger":
        with ExitStack() as stack:
            stack.enter_context(role_lock(self._writer.path, "video"))
            recover_segments(self._writer)
            self._source.open()
            self._stack = stack.pop_all()
        self._encoding.start()
        self._capturing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # A camera that hangs in its driver must not hold the last segment back.
        self._capturing.join(_STOP_TIMEOUT_S)
        if self._capturing.is_alive():
            self._queue.put(_End(self._dropped_before))
        self._encoding.join()
        self._stack.close()
        if kind is None and self._error is not None:
            raise self._error

    @property
    def running(self) -> bool:
        return self._encoding.is_alive() and not self._stop.is_set()

    def stop(self) -> None:
        """End the recording soon; to be followed by leaving the context."""
        self._stop.set()

    def status(self) -> VideoStatus:
        """Raises the error that ended the recording, if one did."""
        if self._error is not None:
            raise self._error
        return VideoStatus(
            frames=self._monitor.frames,
            dropped=self._monitor.dropped,
            rate_hz=self._monitor.rate_hz,
            face_seen=self._face_seen,
            disk_left_bytes=self._monitor.disk_left_bytes(),
            camera_away=self._away is not None,
            running=self.running,
        )

    @property
    def last_s(self) -> float:
        """Capture time of the newest frame that was kept; -1 before the first."""
        return self._last_s

    def look_with(self, sees_face: Callable[[np.ndarray], bool]) -> None:
        """From now on say whether a face is seen; for a detector that takes its time to load."""
        self._sees_face = sees_face

    def _capture(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    for time_s, rgb in self._source.frames(self._clock, self._stop):
                        self._take(time_s, rgb)
                    break  # a file has an end
                except CameraLostError as lost:
                    self._wait_for_camera(str(lost))
            if self._away is not None:
                self._report_gap(self._clock.now_s())
        except Exception as error:  # shown by status(): a thread's own traceback would reach nobody
            self._error = self._error or error
        finally:
            self._source.close()
            self._queue.put(_End(self._dropped_before))

    def _take(self, time_s: float, rgb: np.ndarray) -> None:
        if self._away is not None:
            self._report_gap(time_s)
        self._monitor.see(time_s, rgb)
        self.newest = rgb
        try:
            # A time that stands still, to the grain of the video's own clock, is a fault of the source.
            if time_s - self._last_s > _GRAIN_S:
                self._queue.put(_Frame(time_s, rgb, self._dropped_before), block=self._source.can_wait)
                self._last_s, self._dropped_before = time_s, 0
                return
        except queue.Full:
            self._monitor.say_once("slow", _TOO_SLOW)
        self._monitor.dropped += 1
        self._dropped_before += 1

    def _wait_for_camera(self, reason: str) -> None:
        """Try to open the lost camera, ever less often, until it is there or the recording ends."""
        if self._away is None:
            self._away = (max(self._last_s, 0.0), reason)
            self._monitor.gap()
        self._monitor.say_once(
            "lost", f"{reason}; trying again until it is back: check cable, network and other programs"
        )
        self._source.close()
        attempt = 0
        while not self._stop.wait(_BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)]):
            try:
                self._source.open()
                return
            except UserError:
                attempt += 1

    def _report_gap(self, t_end: float) -> None:
        assert self._away is not None
        t, reason = self._away
        self._queue.put(VideoGap(t=t, t_end=t_end, reason=reason))
        self._away = None

    def _encode(self) -> None:
        try:
            recorder = SegmentRecorder(self._writer, self._segment_s, self._nominal_rate_hz)
            self._encode_all(recorder)
        except Exception as error:  # as in _capture
            self._error = error
            self._stop.set()
            while not self._ended:
                self._next()  # so that the capture thread never waits for room

    def _encode_all(self, recorder: SegmentRecorder) -> None:
        looked_s = -_LOOK_EVERY_S
        while True:
            try:
                item = self._next(timeout_s=_IDLE_S)
            except queue.Empty:
                recorder.finish()
                continue
            if isinstance(item, _End):
                recorder.finish(item.dropped_before)
                return
            if isinstance(item, VideoGap):
                recorder.finish()
                self._writer.append(item)
                continue
            recorder.write(item.rgb, item.time_s, item.dropped_before)
            if self._sees_face is not None and time.monotonic() - looked_s >= _LOOK_EVERY_S:
                looked_s = time.monotonic()
                self._face_seen = self._sees_face(item.rgb)

    def _next(self, timeout_s: float | None = None) -> _Frame | VideoGap | _End:
        item = self._queue.get(timeout=timeout_s)
        self._ended = isinstance(item, _End)
        return item


def record_video(folder: Path, options: VideoOptions, console: Console, as_json: bool = False) -> VideoStatus:
    """Record into the session `folder` until the source ends, Ctrl-C, SIGTERM or `q` in the preview.

    Returns:
        How it went.

    Raises:
        UserError: no consent, no camera, a second video logger, a full disk, or no right to write.
    """
    options.check()
    show_preview = _preview(console) if options.preview else None
    source = find_source(options.source, options.width, options.height, options.rate_hz)
    writer, clock = open_session(folder, options.speaker, options.person, options.yes, console)

    def say(sentence: str) -> None:
        if as_json:
            emit(notice=sentence)
        else:
            console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)

    with writer:
        signals: list[bool] = []
        with (
            on_stop_signals(lambda: signals.append(True)),
            VideoLogger(source, writer, clock, options.segment_s, say) as video,
        ):
            threading.Thread(target=_look_for_faces, args=(video,), daemon=True).start()
            with _status_line(console, source.name, folder, as_json) as show:

                def go_on() -> bool:
                    show(video)
                    return video.running and not signals

                if show_preview is not None:
                    show_preview(f"{source.name} → {folder}", lambda: video.newest, go_on)
                else:
                    while go_on():
                        time.sleep(_TICK_S)
        status = video.status()
        if not status.frames:
            raise UserError(f"{source.name} gave not a single frame; try another source")
        writer.append(SessionEnd(t=max(clock.now_s(), video.last_s)))
    if as_json:
        emit(progress="video", **asdict(status))
    return status


def _preview(console: Console) -> Preview | None:
    """The window's function, or None where there is no display to show it on."""
    from natural_video_llm.capture.preview import has_display, show_preview

    if has_display():
        return show_preview
    console.print("no display for the preview; it is recorded all the same", highlight=False)
    return None


def _look_for_faces(video: VideoLogger) -> None:
    """Load the face detector beside the recording; without its model file nobody looks."""
    try:
        landmarker = FaceLandmarker(face_landmarker_file())
    except UserError:
        return

    def sees_face(rgb: np.ndarray) -> bool:
        landmarker.reset()
        return landmarker(rgb) is not None

    video.look_with(sees_face)


@contextmanager
def _status_line(console: Console, name: str, folder: Path, as_json: bool) -> Iterator[Callable[[VideoLogger], None]]:
    """A function that shows how it goes, at most twice a second: one live line on a terminal, or JSON lines."""
    shown_s = -_STATUS_EVERY_S
    if not as_json:
        console.print(f"recording {name} into {folder}; Ctrl-C stops", markup=False, highlight=False, soft_wrap=True)

    with console.status("", refresh_per_second=4) if not as_json else nullcontext() as line:

        def show(video: VideoLogger) -> None:
            nonlocal shown_s
            if time.monotonic() - shown_s < _STATUS_EVERY_S:
                return
            shown_s = time.monotonic()
            status = video.status()
            if line is not None:
                line.update(status.line())
            else:
                emit(progress="video", **asdict(status))

        yield show
