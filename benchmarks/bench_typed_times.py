"""How late is a key's time? Keys sent to `nvllm capture text` through a pseudo-terminal, against a bare reader.

The bare reader does nothing but take the time and read: what it loses, the machine lost.

    python benchmarks/bench_typed_times.py
"""

import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

LINES, GAP_S = 30, 0.05
LINE = "Is this key on time, number {}?"
NVLLM = (sys.executable, "-c", "from natural_video_llm.cli import main; main()")
BARE_READER = """
import os, sys, time, tty
tty.setraw(0)
print("ready:", end="", flush=True)
times = []
while not times or data != b"\\x04":
    data = os.read(0, 4096)
    times += [time.monotonic()] * len(data.replace(b"\\r", b"").replace(b"\\x04", b""))
open(sys.argv[1], "w").write(repr(times))
"""


def type_lines(command: list[str], ready: bytes) -> list[float]:
    """Monotonic time just after each key was sent, but for Enter."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    screen = bytearray()
    threading.Thread(target=_read, args=(master, screen), daemon=True).start()
    while ready not in screen:
        time.sleep(0.05)
    sent = []
    for number in range(LINES):
        for key in LINE.format(number):
            os.write(master, key.encode())
            sent.append(time.monotonic())
            time.sleep(GAP_S)
        os.write(master, b"\r")
    time.sleep(1)
    os.write(master, b"\x04")
    process.wait(timeout=30)
    return sent


def _read(master: int, screen: bytearray) -> None:
    while True:
        try:
            screen += os.read(master, 65536)
        except OSError:
            return


def report(name: str, times: list[float], sent: list[float]) -> None:
    late_ms = 1e3 * np.maximum(np.array(times) - np.array(sent), 0)
    middle, high = np.percentile(late_ms, [50, 99])
    print(
        f"{name}: {len(late_ms)} keys, median {middle:.2f} ms, 99th percentile {high:.2f} ms, "
        f"at most {late_ms.max():.2f} ms, within 10 ms {(late_ms <= 10).mean():.2%}"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        yes, session, read = (Path(folder) / name for name in ("consent.txt", "session", "times"))
        yes.write_text("A benchmark types to itself.", encoding="utf-8")
        sent = type_lines([*NVLLM, "capture", "text", str(session), "--yes", str(yes)], b"speaker:")
        events = [json.loads(line) for line in (session / "session.jsonl").read_text(encoding="utf-8").splitlines()]
        began_s = events[0]["monotonic_s"]
        report("nvllm capture text", [t + began_s for e in events[1:] for t in e["char_times"]], sent)
        sent = type_lines([sys.executable, "-c", BARE_READER, str(read)], b"ready:")
        report("bare reader", json.loads(read.read_text(encoding="utf-8")), sent)
    print("load of the machine:", ", ".join(f"{load:.1f}" for load in os.getloadavg()), "on", os.cpu_count(), "cores")


if __name__ == "__main__":
    main()
