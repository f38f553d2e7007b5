"""What `--source` may name."""

import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from logger_process import write_clip
from time_code import picture

from natural_video_llm.capture import camera_source
from natural_video_llm.capture.camera_source import CameraLostError, LocalCamera, Stream, camera_names, find_source
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.clock import SessionClock


@pytest.fixture
def cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three devices as Linux lists them."""
    for number, name in ((0, "Integrated Camera: RGB"), (2, "Logitech BRIO"), (3, "Logitech BRIO")):
        (tmp_path / "sys" / f"video{number}").mkdir(parents=True)
        (tmp_path / "sys" / f"video{number}" / "name").write_text(f"{name}\n", encoding="utf-8")
    monkeypatch.setattr(camera_source, "_CAMERA_NAMES", tmp_path / "sys")


@pytest.mark.usefixtures("cameras")
def test_a_camera_by_name() -> None:
    assert camera_names() == {0: "Integrated Camera: RGB", 2: "Logitech BRIO", 3: "Logitech BRIO"}
    for given, number in (("Logitech BRIO", 2), ("brio", 2), ("integrated", 0)):
        source = find_source(given, 640, 480, 30)
        assert isinstance(source, LocalCamera)
        assert source.name == f"camera {number}"
    with pytest.raises(UserError, match=r"cameras here: 0 \(Integrated Camera: RGB\), 2 \(Logitech BRIO\)"):
        find_source("Elgato", 640, 480, 30)


def test_files_and_addresses(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "0", [0.0], lambda t: picture(t, 160, 120))
    for source in (str(clip), "rtsp://somewhere/stream", "http://somewhere/video"):
        assert isinstance(find_source(source, 640, 480, 30), Stream)
    with pytest.raises(UserError, match="no camera 77"):
        find_source("/dev/video77", 640, 480, 30)


def test_a_file_without_video_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.mp4: no readable video"):
        Stream(str(tmp_path / "text.mp4")).open()
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UserError, match="no video stream"):
        Stream(str(sound)).open()


def frames_of(source: Stream) -> list[float]:
    source.open()
    times_s = [time_s for time_s, _ in source.frames(SessionClock(), threading.Event())]
    source.close()
    return times_s


def test_a_file_keeps_its_own_intervals_at_any_speed(tmp_path: Path) -> None:
    times_s = [50.0, 50.1, 50.5, 51.0]
    clip = write_clip(tmp_path / "clip.mp4", times_s, lambda t: picture(t, 160, 120))
    for real_time in (True, False):
        clock = SessionClock()
        source = Stream(str(clip), real_time)
        played_s = frames_of(source)
        assert (clock.now_s() >= 1.0) == real_time
        np.testing.assert_allclose(np.subtract(played_s, played_s[0]), np.subtract(times_s, 50.0), atol=1e-3)


def test_a_finished_file_at_an_address_is_played_like_a_file(tmp_path: Path) -> None:
    """It would else be recorded as fast as the network gives it, again and again."""
    times_s = [i / 10 for i in range(8)]
    clip = write_clip(tmp_path / "clip.mp4", times_s, lambda t: picture(t, 160, 120))
    with av.open(str(clip)) as source, av.open(str(tmp_path / "plain.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[misc, arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        played_s = frames_of(Stream(f"http://127.0.0.1:{server.server_address[1]}/plain.mkv"))
        server.shutdown()
    np.testing.assert_allclose(np.subtract(played_s, played_s[0]), times_s, atol=1e-3)


def test_a_stop_interrupts_the_wait_for_the_next_frame(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [0.0, 60.0], lambda t: picture(t, 160, 120))
    source, stop, clock = Stream(str(clip)), threading.Event(), SessionClock()
    source.open()
    threading.Timer(0.2, stop.set).start()
    assert len(list(source.frames(clock, stop))) == 1
    assert clock.now_s() < 5
    source.close()


def test_a_local_camera_is_timed_and_lost(tmp_path: Path) -> None:
    """OpenCV plays a file where no camera is at hand; its end looks like a pulled plug."""
    red = np.zeros((120, 160, 3), np.uint8)
    red[..., 0] = 200
    clip = write_clip(tmp_path / "clip.mp4", [i / 30 for i in range(10)], lambda _: red)
    camera, clock = LocalCamera(0, 640, 480, 30), SessionClock()
    camera._camera = cv2.VideoCapture(str(clip))
    frames: list[tuple[float, np.ndarray]] = []
    with pytest.raises(CameraLostError, match="camera 0"):
        frames.extend(camera.frames(clock, threading.Event()))
    camera.close()
    assert len(frames) == 10
    assert [time_s for time_s, _ in frames] == sorted(time_s for time_s, _ in frames)
    assert frames[5][1].reshape(-1, 3).mean(axis=0) == pytest.approx([200, 0, 0], abs=12)
