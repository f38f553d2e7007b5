"""Pictures of one session are decoded in order, and those of others in between."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from live_server import wait_until

from natural_video_llm.inference.serving.picture_queue import PictureQueue


def test_nobody_waits_for_ever_behind_others_pictures() -> None:
    decoded: list[str] = []
    with ThreadPoolExecutor(1) as threads:
        begin = threading.Event()

        def queue_of(name: str) -> PictureQueue:
            def decode(time_s: float, content: bytes) -> None:
                begin.wait()
                decoded.append(f"{name}{time_s:.0f}")

            return PictureQueue(threads, decode)

        queues = [queue_of(name) for name in "ab"]
        for queue in queues:
            for number in range(3):
                assert queue.put(number, b"", most=3) == 0
        begin.set()
        wait_until(lambda: len(decoded) == 6)
    assert decoded == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_the_newest_wait() -> None:
    decoded, begin = list[float](), threading.Event()

    def decode(time_s: float, content: bytes) -> None:
        begin.wait()
        decoded.append(time_s)

    with ThreadPoolExecutor(1) as threads:
        queue = PictureQueue(threads, decode)
        queue.put(0, b"", most=1)
        time.sleep(0.05)  # it is being decoded by now
        assert [queue.put(number, b"", most=1) for number in (1, 2)] == [0, 1]
        begin.set()
        wait_until(lambda: len(decoded) == 2)
    assert decoded == [0, 2]
