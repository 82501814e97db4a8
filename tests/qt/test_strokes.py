"""Strokes of the brush in a real window, with what may happen while the button is held."""

import numpy as np
import pytest
from napari.settings import get_settings
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


def checked(dock):
    """The tool that the panel shows as active."""
    return [button.text() for button in dock.panel.tools.tools.buttons() if button.isChecked()]


def test_the_tools_show_what_the_mouse_does_to_the_labels(ready):
    ready.press(Qt.Key.Key_E)
    assert checked(ready) == ["Erase (E)"]
    own = ready.viewer.add_labels(np.zeros(ready.layer.data.shape, np.uint8), name="mine")
    ready.press(Qt.Key.Key_P)
    assert str(own.mode) == "paint"
    assert checked(ready) == []  # The brush paints on the other layer.
    ready.click("tool-fill")
    assert ready.viewer.layers.selection.active is ready.layer
    assert checked(ready) == ["Fill (F)"]
    ready.viewer.layers.selection.active = own
    assert checked(ready) == []
    ready.viewer.layers.selection.active = ready.layer
    assert checked(ready) == ["Fill (F)"]


@pytest.mark.parametrize("letter", ["E", "Z"])
def test_a_shortcut_with_the_letter_of_a_tool_keeps_the_tool(ready, letter):
    key, control = getattr(Qt.Key, f"Key_{letter}"), Qt.KeyboardModifier.ControlModifier
    ready.press(Qt.Key.Key_P)
    ready.press(key)
    ready.press(Qt.Key.Key_F)
    # After the time that makes a key a held one.
    ready.qtbot.wait(round(1_100 * get_settings().application.hold_button_delay))
    ready.qtbot.keyClick(ready.canvas, key, control)
    assert str(ready.layer.mode) == "fill"


def test_a_held_key_of_a_tool_still_gives_back_the_former_tool(ready):
    ready.press(Qt.Key.Key_P)
    for _ in range(2):
        ready.qtbot.keyPress(ready.canvas, Qt.Key.Key_E)
        assert str(ready.layer.mode) == "erase"
        ready.qtbot.wait(round(1_100 * get_settings().application.hold_button_delay))
        ready.qtbot.keyRelease(ready.canvas, Qt.Key.Key_E)
        assert str(ready.layer.mode) == "paint"


def move_mouse(canvas, place, buttons):
    everywhere = QPointF(place), QPointF(canvas.mapToGlobal(place))
    none, kind = Qt.MouseButton.NoButton, QEvent.Type.MouseMove
    event = QMouseEvent(kind, *everywhere, none, buttons, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(canvas, event)
