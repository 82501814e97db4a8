"""Width and level of the intensity window by mouse and by numbers, in a real window."""

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

RIGHT, MIDDLE = Qt.MouseButton.RightButton, Qt.MouseButton.MiddleButton


@pytest.fixture
def scans(ready):
    """The panel of step 1; the labels stay the active layer."""
    ready.widget.show_step("Scans")
    ready.widget.show_step("Label")
    ready.scene.take_labels()
    return ready.widget.panels["Scans"]


def drag(dock, button, by, start=(0, 0)):
    """Drag with a button by some pixels, in steps."""
    canvas = dock.canvas
    first = dock.at(*start)
    dock.qtbot.mouseMove(canvas, first)
    dock.qtbot.mousePress(canvas, button, pos=first)
    for step in range(1, 6):
        dock.qtbot.wait(30)  # vispy leaves out moves that follow too quickly
        place = first + QPoint(*(int(part * step / 5) for part in by))
        event = QMouseEvent(
            QEvent.Type.MouseMove, QPointF(place), QPointF(canvas.mapToGlobal(place)),
            Qt.MouseButton.NoButton, button, Qt.KeyboardModifier.NoModifier,
        )  # fmt: skip
        QApplication.sendEvent(canvas, event)
    dock.qtbot.mouseRelease(canvas, button, pos=first + QPoint(*by))


def view(dock):
    camera = dock.viewer.scene.camera
    return camera.center, camera.zoom


@pytest.mark.parametrize(
    ("mode", "button"),
    [
        ("pan_zoom", RIGHT),
        ("erase", RIGHT),
        ("fill", RIGHT),
        ("pick", RIGHT),
        ("pan_zoom", MIDDLE),
        ("paint", MIDDLE),
        ("erase", MIDDLE),
        ("fill", MIDDLE),
        ("polygon", MIDDLE),
    ],
)
def test_a_drag_changes_the_window_and_nothing_else(ready, scans, mode, button):
    ready.layer.data_setitem((np.array([10]), np.array([48]), np.array([50])), 2)
    drawn = ready.layer.data.copy()
    ready.layer.mode = mode
    ready.scene.go_to(10)
    before, (width, level) = view(ready), scans.windowing.window
    drag(ready, button, (100, 50))
    wider, higher = scans.windowing.window
    assert wider == pytest.approx(width * 2 ** (100 / 300), rel=0.05)
    assert higher == pytest.approx(level + width * 50 / 300, rel=0.05)
    np.testing.assert_array_equal(ready.layer.data, drawn)
    assert view(ready) == before
    assert ready.viewer.layers.selection == {ready.layer}
    assert str(ready.layer.mode) == mode
    assert ready.layer.selected_label == 1
    assert scans.view.preset.currentText() == "Custom"
    # Afterwards, the left button does what the tool says.
    if mode == "erase":
        ready.click_picture()
        assert not ready.layer.data.any()


def test_the_right_button_still_closes_a_stroke_of_the_brush(ready, scans):
    ready.layer.mode = "paint"
    ready.layer.brush_size = 3
    ready.scene.go_to(10)
    before = scans.windowing.window
    ready.click_picture(-1, -1, RIGHT)
    for corner in ((-1, 0), (-1, 1), (0, 1), (1, 1)):
        ready.qtbot.mouseMove(ready.canvas, ready.at(*corner))
        ready.qtbot.wait(20)
    # A middle drag meanwhile would leave a gap in the outline.
    assert ready.layer._overlays["brush_stroke"].active
    for corner in ((1, 0), (1, -1), (0, -1), (-1, -1)):
        ready.qtbot.mouseMove(ready.canvas, ready.at(*corner))
        ready.qtbot.wait(20)
    assert ready.layer.data[10, 48, 50] == 1  # The inside is filled.
    assert scans.windowing.window == before


def test_a_polygon_goes_on_after_a_drag_and_its_right_button_removes_a_corner(ready, scans):
    ready.layer.mode = "polygon"
    ready.scene.go_to(10)
    before = scans.windowing.window
    for corner in ((-1, -1), (-1, 1)):
        ready.click_picture(*corner)
    drag(ready, MIDDLE, (60, 0))
    assert scans.windowing.window != before
    for corner in ((1, 1), (1, -1), (2, 2)):
        ready.click_picture(*corner)
    changed = scans.windowing.window
    ready.click_picture(2, 2, RIGHT)
    assert scans.windowing.window == changed
    ready.qtbot.mouseMove(ready.canvas, ready.at(1, -1))  # napari adds the place of the mouse.
    ready.press(Qt.Key.Key_Return)
    inside = np.argwhere(ready.layer.data[10])
    assert len(inside) == pytest.approx(40 * 40, rel=0.1)  # 40 mm wide, at 1 mm


def test_other_layers_keep_their_right_button(ready, scans):
    other = ready.viewer.add_labels(np.zeros((20, 96, 100), np.uint8), scale=(3, 1, 1))
    other.mode = "erase"
    before = scans.windowing.window
    drag(ready, RIGHT, (50, 0))
    assert scans.windowing.window == before
    drag(ready, MIDDLE, (50, 0))
    assert scans.windowing.window != before


def type_into(dock, box, text):
    box.selectAll()
    dock.qtbot.keyClicks(box, text)
    dock.qtbot.keyClick(box, Qt.Key.Key_Return)


def test_width_and_level_are_typed_and_kept_for_the_scan(ready, scans):
    ready.widget.show_step("Scans")
    width, level = scans.view.width_box, scans.view.level_box
    type_into(ready, width, "150")
    type_into(ready, level, "-20")
    np.testing.assert_allclose(ready.scene.image.contrast_limits, (-95, 55))
    assert scans.view.preset.currentText() == "Custom"
    ready.session.select("bob")
    ready.until(lambda: ready.session.current == "bob")
    assert scans.view.preset.currentText() == "Auto"
    assert width.value() != 150
    ready.session.select("ann")
    ready.until(lambda: ready.session.current == "ann")
    assert (width.value(), level.value()) == (150, -20)
    # Leaving a box without a change does not round the window.
    scans.windowing.set(200.25, 300.125)
    for box in (width, level):
        box.setFocus()
        ready.qtbot.keyClick(box, Qt.Key.Key_Return)
        ready.qtbot.keyClick(box, Qt.Key.Key_Tab)
    assert scans.windowing.window == (200.25, 300.125)
    # Narrow windows have decimals, and no window is narrower than one step of whole numbers.
    type_into(ready, width, "1.5")
    type_into(ready, width, "0")
    assert width.value() == 1
    scans.view.preset.textActivated.emit("Auto")
    assert scans.view.preset.currentText() == "Auto"


def test_scans_of_small_values_have_decimals(ready, scans):
    ready.widget.show_step("Scans")
    scans.windowing.set(1.25, 0.5)
    assert scans.view.width_box.text() == "1.25"
    type_into(ready, scans.view.level_box, "0.12")
    assert scans.windowing.window == pytest.approx((1.25, 0.12))


def test_the_numbers_fit_into_the_narrowest_panel(ready, scans):
    ready.widget.show_step("Scans")
    ready.qtbot.wait(50)
    assert scans.view.minimumSizeHint().width() <= 346  # 370 without margins and scroll bar
