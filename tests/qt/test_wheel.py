"""The mouse wheel over the picture, with real events."""

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication


def turn(dock, clicks, held=Qt.KeyboardModifier.NoModifier):
    """Turn the wheel by clicks, up if positive, a little off the centre of the picture."""
    place = dock.at(1, 1)
    dock.qtbot.mouseMove(dock.canvas, place)
    for _ in range(abs(clicks)):
        event = QWheelEvent(
            QPointF(place), QPointF(dock.canvas.mapToGlobal(place)), QPoint(),
            QPoint(0, 120 * int(np.sign(clicks))), Qt.MouseButton.NoButton, held,
            Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(dock.canvas, event)
        dock.qtbot.wait(10)


def zoom(dock):
    return dock.viewer.scene.camera.zoom


@pytest.fixture
def scans(dock):
    dock.widget.show_step("Scans")
    return dock.widget.panels["Scans"]


def test_the_wheel_changes_the_slice_and_zooms_with_ctrl(dock, scans):
    dock.scene.go_to(7)
    before = zoom(dock)
    turn(dock, -3)
    assert dock.scene.slice == 10
    turn(dock, 2)
    assert dock.scene.slice == 8
    turn(dock, 30)
    assert dock.scene.slice == 0
    assert zoom(dock) == before
    place = dock.at(1, 1)
    dock.qtbot.mouseMove(dock.canvas, place)
    below = np.array(dock.viewer.cursor.position)
    turn(dock, 2, Qt.KeyboardModifier.ControlModifier)
    assert zoom(dock) > before
    assert dock.scene.slice == 0
    # What was under the mouse is still there.
    dock.qtbot.mouseMove(dock.canvas, place + QPoint(1, 0))
    np.testing.assert_allclose(dock.viewer.cursor.position[1:], below[1:], atol=1)


def test_the_wheel_zooms_if_that_is_preferred(dock, scans):
    dock.scene.go_to(7)
    before = zoom(dock)
    dock.qtbot.mouseClick(
        scans.view.wheel, Qt.MouseButton.LeftButton, pos=QPoint(8, scans.view.wheel.height() // 2)
    )
    assert scans.view.wheel.isChecked()
    turn(dock, 2)
    assert zoom(dock) > before
    assert dock.scene.slice == 7
    turn(dock, -1, Qt.KeyboardModifier.ControlModifier)
    assert dock.scene.slice == 8
    folder = dock.project.folder
    dock.session.close()
    assert dock.session.open(folder)
    assert scans.view.wheel.isChecked()
