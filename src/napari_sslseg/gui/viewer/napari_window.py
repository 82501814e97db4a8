"""The napari window that is open, if any: notifications, warnings and drawing."""

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from napari_sslseg.core.common.errors import ScanWarning

# napari passes files that are dropped together to a reader one by one. A sentence about all of them
# is shown once.
REPEAT_SECONDS = 5.0
_last_shown: dict[str, float] = {}


def current_viewer() -> Any:
    """Return the viewer of the open window; None without a window, as in a script."""
    # Without this module there is no window. Importing it would take a second.
    if "napari._qt.qt_main_window" not in sys.modules:
        return None
    import napari

    return napari.current_viewer()


def notify(sentence: str, severity: Literal["info", "warning", "error"]) -> None:
    """Show a notification; without a window, issue a Python warning unless it is an "info".

    napari shows each Python warning only once in a session, but a warning about a scan must be
    shown each time the scan is opened.
    """
    now = time.monotonic()
    if now - _last_shown.get(sentence, -REPEAT_SECONDS) < REPEAT_SECONDS:
        return
    _last_shown[sentence] = now
    if current_viewer() is None:
        if severity != "info":
            warnings.warn(sentence, ScanWarning, stacklevel=3)
        return
    from napari.utils import notifications

    getattr(notifications, f"show_{severity}")(sentence)


@contextmanager
def drawing_suspended() -> Iterator[None]:
    """Suspend drawing of the canvas in the block, if there is a window.

    Adding and removing layers adds and removes sliders of napari. That resizes the canvas, which is
    then drawn at once with layers that are not ready, and sometimes crashes.
    """
    centres = []
    if "napari._qt.qt_main_window" in sys.modules:
        from qtpy.QtWidgets import QApplication, QMainWindow

        windows = [w for w in QApplication.topLevelWidgets() if isinstance(w, QMainWindow)]
        centres = [w.centralWidget() for w in windows if w.centralWidget() is not None]
    for centre in centres:
        centre.setUpdatesEnabled(False)
    try:
        yield
    finally:
        for centre in centres:
            centre.setUpdatesEnabled(True)


def focus_picture() -> None:
    """Move the keyboard to the picture, whose keys such as [ and ] do nothing elsewhere."""
    from qtpy.QtOpenGLWidgets import QOpenGLWidget
    from qtpy.QtWidgets import QApplication, QMainWindow

    for window in QApplication.topLevelWidgets():
        centre = window.centralWidget() if isinstance(window, QMainWindow) else None
        canvas = centre.findChild(QOpenGLWidget) if centre is not None else None
        if canvas is not None and window.isVisible():
            canvas.setFocus()


def pause_activity_spinner() -> None:
    """Pause the animated activity icon of napari, whose frames each redraw the whole window.

    Without a graphics card this takes most of the time of the main thread. The progress bar next
    to it still moves.
    """
    from qtpy.QtWidgets import QApplication, QLabel

    for window in QApplication.topLevelWidgets():
        for label in window.findChildren(QLabel):
            movie = label.movie()
            if movie is not None:
                movie.setPaused(True)


@contextmanager
def collected_scan_warnings() -> Iterator[list[str]]:
    """Collect the texts of scan warnings in the block; other warnings are issued as usual."""
    sentences: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScanWarning)
        yield sentences
    for warning in caught:
        if issubclass(warning.category, ScanWarning):
            sentences.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
