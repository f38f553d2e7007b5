"""Pictures that carry a time as bars, black for 0 and white for 1, and a server that sends them as a camera would."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import cv2
import numpy as np

_BITS = 40


def picture(time_s: float, width_px: int = 640, height_px: int = 480) -> np.ndarray:
    """rgb [H, W, 3] uint8 that carries `time_s` in 0.1 ms."""
    ticks = round(time_s * 1e4)
    bits = [ticks >> i & 1 for i in range(_BITS)]
    bars = np.kron(np.array(bits, np.uint8) * 200 + 30, np.ones(width_px // _BITS, np.uint8))
    return np.ascontiguousarray(np.broadcast_to(bars[None, :, None], (height_px, width_px, 3)))


def time_in(rgb: np.ndarray) -> float:
    bars = rgb[..., 1].mean(axis=0).reshape(_BITS, -1)
    middle = bars[:, bars.shape[1] // 4 : -bars.shape[1] // 4].mean(axis=1)
    return sum(int(level > 130) << i for i, level in enumerate(middle)) / 1e4


class _Camera(BaseHTTPRequestHandler):
    """Motion JPEG: each picture carries the monotonic time at which it was taken, right before it is sent."""

    interval_s = 1 / 30
    closing: threading.Event

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        start_s = time.monotonic()
        for number in count():
            if self.closing.wait(max(0.0, start_s + number * self.interval_s - time.monotonic())):
                return
            jpeg = cv2.imencode(".jpg", picture(time.monotonic()))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def camera_server(port: int = 0) -> Iterator[int]:
    """A network camera on this machine; gives its port. Leaving the block pulls its plug."""
    closing = threading.Event()
    handler = type("_Handler", (_Camera,), {"closing": closing})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
