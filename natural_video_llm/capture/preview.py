"""The preview window of a recording (PySide6, extra `desktop`)."""

import os
import sys
from collections.abc import Callable

import numpy as np

from natural_video_llm.errors import UserError

try:
    from PySide6 import QtCore, QtGui, QtWidgets
except ImportError as error:
    raise UserError(
        f"the preview needs PySide6 ({error}): pip install 'natural-video-llm[desktop]', or leave --preview out"
    ) from error

_REDRAW_MS = 33


def has_display() -> bool:
    """Whether a window can be shown; Qt ends the whole process where it cannot."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in named)


def show_preview(title: str, newest: Callable[[], np.ndarray | None], go_on: Callable[[], bool]) -> None:
    """Show the newest picture, rgb [H, W, 3] uint8, mirrored as people know themselves.

    Returns when `go_on` says so, or when `q` is pressed or the window is closed. What `go_on` raises is raised here.
    """
    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    window = _Window(newest, go_on)
    window.setWindowTitle(title)
    window.resize(640, 480)
    window.show()
    app.exec()
    window.close()
    if window.error is not None:
        raise window.error


class _Window(QtWidgets.QLabel):
    def __init__(self, newest: Callable[[], np.ndarray | None], go_on: Callable[[], bool]) -> None:
        super().__init__()
        self._newest, self._go_on = newest, go_on
        self._shown: np.ndarray | None = None
        self.error: Exception | None = None
        self.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self._timer = QtCore.QTimer(self)
        self._timer.timeout.connect(self._tick)
        self._timer.start(_REDRAW_MS)
        QtGui.QShortcut(QtGui.QKeySequence("q"), self, QtWidgets.QApplication.quit)

    def _tick(self) -> None:
        try:
            going = self._go_on()
        except Exception as error:  # Qt would print it and go on
            self.error, going = error, False
        if not going:
            self._timer.stop()
            QtWidgets.QApplication.quit()
            return
        rgb = self._newest()
        if rgb is None or rgb is self._shown:
            return
        self._shown = rgb
        height_px, width_px = rgb.shape[:2]
        mirrored = np.ascontiguousarray(rgb[:, ::-1])
        image = QtGui.QImage(mirrored.data, width_px, height_px, 3 * width_px, QtGui.QImage.Format.Format_RGB888)
        fitted = QtGui.QPixmap.fromImage(image).scaled(self.size(), QtCore.Qt.AspectRatioMode.KeepAspectRatio)
        self.setPixmap(fitted)
