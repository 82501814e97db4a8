"""Strokes of the brush in a real window, with what may happen while the button is held."""

import numpy as np
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication


def test_a_stroke_during_which_the_next_scan_opens_can_be_undone(ready):
    """The key for the next scan is pressed while the mouse button is held."""
    before = ready.layer.data.copy()
    ready.press(Qt.Key.Key_P)
    start, end = ready.at(0, -0.5), ready.at(0, 0.5)
    move_mouse(ready.canvas, start, Qt.MouseButton.NoButton)
    ready.qtbot.mousePress(ready.canvas, Qt.MouseButton.LeftButton, pos=start)
    move_mouse(ready.canvas, end, Qt.MouseButton.LeftButton)
    assert (ready.layer.data != before).any()
    drawn = ready.layer.data.copy()
    ready.press(Qt.Key.Key_PageDown)
    ready.until(lambda: ready.session.current == "bob")
    other = ready.layer.data.copy()
    # The rest of the movement, until the button is released, draws on neither scan.
    move_mouse(ready.canvas, ready.at(0.5, 0.5), Qt.MouseButton.LeftButton)
    ready.qtbot.mouseRelease(ready.canvas, Qt.MouseButton.LeftButton, pos=ready.at(0.5, 0.5))
    np.testing.assert_array_equal(ready.layer.data, other)
    ready.press(Qt.Key.Key_PageUp)
    ready.until(lambda: ready.session.current == "ann")
    np.testing.assert_array_equal(ready.layer.data, drawn)
    ready.qtbot.keyClick(ready.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(ready.layer.data, before)


def move_mouse(canvas, place, buttons):
    everywhere = QPointF(place), QPointF(canvas.mapToGlobal(place))
    none, kind = Qt.MouseButton.NoButton, QEvent.Type.MouseMove
    event = QMouseEvent(kind, *everywhere, none, buttons, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(canvas, event)
