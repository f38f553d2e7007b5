"""The preview window, on a display that is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from logger_process import finish, start, write_clip
from time_code import picture

pytest.importorskip("PySide6", reason="the preview is an extra: pip install 'natural-video-llm[desktop]'")

WINDOW = (
    "import sys; import numpy as np\n"
    "from PySide6 import QtCore, QtTest, QtWidgets\n"
    "from natural_video_llm.capture.preview import show_preview\n"
    "from natural_video_llm.errors import UserError\n"
    "ticks = 0\n"
    "def go_on():\n"
    "    global ticks; ticks += 1\n"
    "    window = QtWidgets.QApplication.topLevelWidgets()[0]\n"
    "    if ticks == 10 and sys.argv[1] == 'close': window.close()\n"
    "    if ticks == 10 and sys.argv[1] == 'q': QtTest.QTest.keyClick(window, QtCore.Qt.Key.Key_Q)\n"
    "    if ticks == 10 and sys.argv[1] == 'error': raise UserError('no more pictures')\n"
    "    return ticks < (10 if sys.argv[1] == 'end' else 300)\n"
    "picture = np.zeros((48, 64, 3), np.uint8); picture[:, 40:] = 255\n"
    "try: show_preview('a title', lambda: picture.copy(), go_on)\n"
    "except UserError as error: print(error)\n"
    "print(ticks)"
)


def run(code: str, *arguments: str) -> str:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_it_ends_with_the_recording_q_the_window_or_an_error() -> None:
    assert run(WINDOW, "end") == "10"
    assert int(run(WINDOW, "q")) < 20
    assert int(run(WINDOW, "close")) < 20
    assert run(WINDOW, "error").splitlines()[0] == "no more pictures"


def test_without_a_display_it_records_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    clip = write_clip(tmp_path / "clip.mp4", [i / 30 for i in range(10)], lambda t: picture(t, 160, 120))
    code, out, errors = finish(start(tmp_path / "one", clip, "--preview"))
    assert (code, errors) == (0, [])
    assert "no display" in out
    assert "10 frames kept" in out


def test_a_recording_with_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    clip = write_clip(tmp_path / "clip.mp4", [i / 30 for i in range(30)], lambda t: picture(t, 160, 120))
    code, out, errors = finish(start(tmp_path / "one", clip, "--preview"))
    assert (code, errors) == (0, [])
    assert "30 frames kept" in out
