"""The open napari window, if there is one, and what it is told."""

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from napari_sslseg.core.common.errors import ScanWarning

# Files dropped together reach a reader one by one; what is true of all is said once.
QUIET_SECONDS = 5.0
_said: dict[str, float] = {}


def current_viewer() -> Any:
    """The viewer of the open window, or None, as in a script."""
    # Without this module there is no window, and loading it takes a second.
    if "napari._qt.qt_main_window" not in sys.modules:
        return None
    import napari

    return napari.current_viewer()


def tell(sentence: str, severity: Literal["info", "warning", "error"]) -> None:
    """Show a sentence as a notification; without a window, warn of all but mere information.

    napari itself shows each Python warning once in a session, but what is said about a scan must
    be said whenever that scan is opened.
    """
    now = time.monotonic()
    if now - _said.get(sentence, -QUIET_SECONDS) < QUIET_SECONDS:
        return
    _said[sentence] = now
    if current_viewer() is None:
        if severity != "info":
            warnings.warn(sentence, ScanWarning, stacklevel=3)
        return
    from napari.utils import notifications

    getattr(notifications, f"show_{severity}")(sentence)


@contextmanager
def still_picture() -> Iterator[None]:
    """Draw no picture meanwhile, if there is a window.

    Where layers come and go, the sliders of napari do, too. The picture then gets another size and
    is drawn at once, with layers that are not ready yet, which ends the program now and then.
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


def hold_spinner() -> None:
    """Hold napari's turning sign of activity: each of its pictures draws the whole window anew.

    Without a graphics card that takes most of the time of the screen. The bar beside it still
    moves.
    """
    from qtpy.QtWidgets import QApplication, QLabel

    for window in QApplication.topLevelWidgets():
        for label in window.findChildren(QLabel):
            movie = label.movie()
            if movie is not None:
                movie.setPaused(True)


@contextmanager
def scan_warnings() -> Iterator[list[str]]:
    """Collect the sentences of scan warnings in the block; other warnings go on their way."""
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
