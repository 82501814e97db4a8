"""Answers to the questions that a test expects, in the order in which they are asked."""

from collections import deque

from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox

_expected = deque()


def answer(text, heard=None):
    """Press the button with this text in the next dialog; add its question to ``heard``."""
    _expected.append((text, heard))
    QTimer.singleShot(20, _look)


def not_asked():
    """Return the answers to questions that were not asked, and forget them."""
    texts = [text for text, _ in _expected]
    _expected.clear()
    return texts


def _look():
    if not _expected:
        return
    box = QApplication.activeModalWidget()
    if not isinstance(box, QMessageBox):
        QTimer.singleShot(20, _look)
        return
    text, heard = _expected.popleft()
    if heard is not None:
        heard.append(box.text())
    buttons = {item.text().replace("&", ""): item for item in box.buttons()}
    if text not in buttons:
        box.reject()  # An open dialog would wait for ever.
        raise AssertionError(f"{box.text()!r} has no button {text!r}, but {list(buttons)}")
    QTest.mouseClick(buttons[text], Qt.MouseButton.LeftButton)
