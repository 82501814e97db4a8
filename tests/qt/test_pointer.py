"""What the mouse shows over the picture, in a real window."""

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QEnterEvent
from qtpy.QtWidgets import QApplication, QLabel

from napari_sslseg.gui.widget import FewShotWidget


def point_at(dock, down, right):
    """Move the mouse over the picture, by 20 mm times these numbers from its centre."""
    place = dock.at(down, right)
    everywhere = QPointF(place), QPointF(place), QPointF(dock.canvas.mapToGlobal(place))
    QApplication.sendEvent(dock.canvas, QEnterEvent(*everywhere))
    dock.qtbot.mouseMove(dock.canvas, place)


def readout(dock):
    (label,) = dock.viewer.window._qt_window.findChildren(QLabel, "voxel-readout")
    assert label.isVisible()
    return label.text()


def below(dock):
    """The voxel below the mouse, as napari has it."""
    layer = dock.scene.image
    return tuple(np.round(layer.world_to_data(dock.viewer.cursor.position)).astype(int))


def test_the_status_bar_says_the_value_and_the_structure_below_the_mouse(ready):
    ready.scene.go_to(7)
    point_at(ready, 0.5, -1)
    voxel = below(ready)
    assert voxel[0] == 7
    value = ready.scene.image.data[voxel]
    assert readout(ready) == f"intensity {value}"
    # A structure that is painted there is named at once.
    ready.press(Qt.Key.Key_2)
    ready.press(Qt.Key.Key_P)
    ready.click_picture(0.5, -1)
    assert readout(ready) == f"intensity {value} · spleen"
    ready.layer.visible = False
    assert readout(ready) == f"intensity {value}"
    ready.layer.visible = True
    ready.project.rename_class(2, "kidney")
    ready.session.classes_changed.emit()
    assert "kidney" in readout(ready)
    # Another slice below the same place.
    ready.scene.go_to(9)
    assert below(ready)[0] == 9
    assert readout(ready) == f"intensity {ready.scene.image.data[below(ready)]}"
    # Beside the scan, in three dimensions, and outside the picture there is nothing to say.
    point_at(ready, 20, 0)
    assert readout(ready) == ""
    point_at(ready, 0, 0)
    assert readout(ready)
    ready.viewer.dims.ndisplay = 3
    assert readout(ready) == ""
    ready.viewer.dims.ndisplay = 2
    point_at(ready, 0, 0.1)
    assert readout(ready)
    QApplication.sendEvent(ready.canvas, QEvent(QEvent.Type.Leave))
    assert readout(ready) == ""


def test_the_readout_follows_a_rolled_view_and_another_scan(ready):
    ready.viewer.dims.roll()
    point_at(ready, 0.2, 0.3)
    assert readout(ready) == f"intensity {ready.scene.image.data[below(ready)]}"
    ready.click("turn-back")
    ready.session.select("bob")
    ready.until(lambda: ready.session.current == "bob")
    point_at(ready, 0.4, 0.3)
    assert readout(ready) == f"intensity {ready.scene.image.data[below(ready)]}"


def test_predicted_structures_are_named(ready):
    point_at(ready, 0, 0)
    found = np.zeros(ready.layer.data.shape, np.uint8)
    found[below(ready)] = 1
    ready.scene.add_prediction(found, "prediction of a run")
    assert readout(ready).endswith("· predicted: liver")


@pytest.mark.parametrize("step", ["Label", "Scans"])
def test_the_help_line_of_napari_names_keys_that_work(ready, step):
    ready.widget.show_step(step)
    ready.scene.take_labels()
    for mode in ("paint", "erase", "fill", "pan_zoom"):
        ready.layer.mode = mode
        shown = ready.viewer.help
        assert "P: brush" in shown
        assert "<" not in shown
    ready.viewer.layers.selection.active = ready.scene.image
    assert "Page Up" in ready.viewer.help
    ready.session.select("bob")
    ready.until(lambda: ready.session.current == "bob")
    ready.scene.take_labels()
    ready.layer.mode = "erase"
    assert "P: brush" in ready.viewer.help
    # On a layer of somebody else, the keys of napari mean what they say.
    other = ready.viewer.add_labels(np.zeros((3, 5, 5), np.uint8))
    assert "use <" in ready.viewer.help
    other.mode = "paint"
    assert "use <" in ready.viewer.help
    ready.viewer.layers.remove(other)


def test_before_step_3_no_keys_of_tools_are_named(viewer, qtbot, label_folder):
    widget = FewShotWidget(viewer)
    qtbot.addWidget(widget)
    assert widget.session.open(label_folder)
    qtbot.waitUntil(lambda: widget.scene.labels is not None)
    widget.session.pump()
    for mode in ("erase", "paint", "pan_zoom"):
        widget.scene.labels.mode = mode
        assert "Page Up" in viewer.help
        assert "<" not in viewer.help
    widget.show_step("Label")
    assert "P: brush" in viewer.help
    widget.session.close()


def test_closing_the_panel_removes_the_readout(ready):
    ready.qtbot.mouseClick(ready.dock.title.close_button, Qt.MouseButton.LeftButton)
    ready.until(lambda: ready.widget.shutdown.over)
    ready.qtbot.wait(50)
    assert not ready.viewer.window._qt_window.findChildren(QLabel, "voxel-readout")
