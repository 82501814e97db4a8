"""The other two planes beside the picture, with real events."""

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from napari_sslseg.core.project.project import Project

SHAPE = (20, 96, 100)
LEFT = Qt.MouseButton.LeftButton


def views(dock):
    """The two planes by the axis across them."""
    found = dock.viewer.window._qt_window.findChildren(QWidget)
    shown = [one for one in found if one.objectName().startswith("plane-view-")]
    return {one.axis: one for one in shown if one.isVisible()}


def box(dock):
    return dock.widget.panels["Scans"].view.three


def tick(dock):
    dock.widget.show_step("Scans")
    dock.qtbot.mouseClick(box(dock), LEFT, pos=QPoint(8, box(dock).height() // 2))
    dock.qtbot.wait(100)
    dock.widget.show_step("Label")
    dock.scene.take_labels()


@pytest.fixture
def planes(ready):
    """The window with three planes, on a scan of 60 x 96 x 100 mm with a bright block."""
    tick(ready)
    return ready


def lines_of(dock):
    """The lines in the canvas of napari."""
    from vispy.scene.visuals import Line

    scene = dock.viewer.window._qt_viewer.canvas.view.scene
    (lines,) = (child for child in scene.children if type(child) is Line)
    return lines


def picture(view):
    return view.grab().toImage()


def colour(view, voxel):
    """Colour of a voxel of a plane as it is drawn."""
    QApplication.processEvents()
    found = picture(view).pixelColor(view.place_of(voxel).toPoint())
    return found.red(), found.green(), found.blue()


def drawn(dock):
    dock.qtbot.wait(80)


def test_a_click_in_one_plane_moves_the_slice_in_all(planes):
    assert set(views(planes)) == {1, 2}
    assert planes.scene.look.voxel == (10, 48, 50)
    coronal, sagittal = views(planes)[1], views(planes)[2]
    place = coronal.place_of((4, 48, 20)).toPoint()
    planes.qtbot.mouseClick(coronal, LEFT, pos=place)
    assert planes.scene.look.voxel == (4, 48, 20)
    assert planes.scene.slice == 4
    assert sagittal.title == "Sagittal 20"
    # The lines of the large picture cross at the same place, in mm.
    _, row, column = planes.scene.image.data_to_world((4, 48, 20))
    ends = lines_of(planes).pos
    np.testing.assert_allclose(np.median(ends, axis=0), (column, row), atol=0.01)
    # Dragging goes on, and a place outside the slice is its border.
    planes.qtbot.mousePress(sagittal, LEFT, pos=sagittal.place_of((15, 30, 20)).toPoint())
    assert planes.scene.slice == 15
    assert coronal.title == "Coronal 30"
    planes.qtbot.mouseRelease(sagittal, LEFT)
    planes.qtbot.mouseClick(sagittal, LEFT, pos=QPoint(1, 1))
    assert planes.scene.look.voxel[0] == 0
    # The slider of napari moves the line.
    planes.scene.go_to(12)
    assert planes.scene.look.voxel[0] == 12


def test_a_click_in_the_large_picture_moves_the_others_and_still_paints(planes):
    planes.press(Qt.Key.Key_P)
    planes.layer.brush_size = 4
    planes.scene.go_to(7)
    planes.click_picture(-1, 1)
    row, column = 48 - 20, 50 + 20
    assert planes.scene.look.voxel == pytest.approx((7, row, column), abs=1)
    assert planes.layer.data[7, row, column] == 1
    assert planes.scene.slice == 7
    # What was painted is seen in the other planes.
    drawn(planes)
    voxel = planes.scene.look.voxel
    beside = (voxel[0], voxel[1], voxel[2] - 1)
    red, green, blue = planes.layer.colormap.map(np.array([1]))[0][:3]
    shown = np.array(colour(views(planes)[1], beside), float)
    assert np.dot(shown - shown.mean(), np.array([red, green, blue]) - 0.5) > 20
    planes.layer.undo()
    drawn(planes)
    grey = colour(views(planes)[1], beside)
    assert max(grey) - min(grey) <= 2


def test_shift_moves_the_point_without_a_button(planes):
    planes.qtbot.mouseMove(planes.canvas, planes.at(0, 0))
    before = planes.scene.look.voxel
    planes.qtbot.mouseMove(planes.canvas, planes.at(1, 1))
    assert planes.scene.look.voxel == before
    place = planes.at(1, 1)
    event = QMouseEvent(
        QEvent.Type.MouseMove, QPointF(place), QPointF(planes.canvas.mapToGlobal(place)),
        Qt.MouseButton.NoButton, Qt.MouseButton.NoButton, Qt.KeyboardModifier.ShiftModifier,
    )  # fmt: skip
    planes.qtbot.wait(30)  # vispy leaves out moves that follow too quickly
    QApplication.sendEvent(planes.canvas, event)
    assert planes.scene.look.voxel == pytest.approx((10, 68, 70), abs=1)


def test_the_wheel_over_a_plane_changes_its_slice(planes):
    view = views(planes)[2]
    place = QPointF(view.rect().center())
    event = QWheelEvent(
        place, QPointF(view.mapToGlobal(place.toPoint())), QPoint(), QPoint(0, -240),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase,
        False,
    )  # fmt: skip
    QApplication.sendEvent(view, event)
    assert planes.scene.look.voxel == (10, 48, 52)
    assert planes.scene.slice == 10


def test_another_plane_or_a_rolled_view_keeps_the_point(planes):
    planes.scene.go_to(4)
    planes.click_picture(-1, 0.5)
    voxel = planes.scene.look.voxel
    assert voxel == pytest.approx((4, 28, 60), abs=1)
    planes.widget.panels["Scans"].view.choose_plane("coronal")
    assert planes.scene.slice == voxel[1]
    assert planes.scene.look.voxel == voxel
    assert set(views(planes)) == {0, 2}
    planes.widget.panels["Scans"].view.choose_plane("sagittal")
    assert planes.scene.slice == voxel[2]
    assert set(views(planes)) == {0, 1}
    planes.widget.panels["Scans"].view.choose_plane("axial")
    assert planes.scene.slice == 4
    planes.viewer.dims.roll()
    assert planes.scene.look.voxel == voxel
    shown = planes.scene.image.world_to_data(planes.viewer.dims.point)
    (hidden,) = planes.viewer.dims.not_displayed
    assert round(shown[hidden]) == voxel[hidden]
    lines = lines_of(planes)
    assert lines.visible
    planes.viewer.dims.ndisplay = 3
    planes.qtbot.wait(50)
    assert not lines.visible
    planes.viewer.dims.ndisplay = 2
    assert lines.visible
    planes.click("turn-back")
    assert planes.scene.slice == 4


def test_contrast_and_another_scan_are_shown(planes):
    view = views(planes)[1]
    image = planes.scene.image
    image.contrast_limits = (10_000, 10_001)
    drawn(planes)
    assert colour(view, (3, 48, 20)) == (0, 0, 0)
    image.contrast_limits = (0, 1)
    drawn(planes)
    assert colour(view, (3, 48, 20)) == (255, 255, 255)
    planes.session.select("bob")
    planes.until(lambda: planes.session.current == "bob")
    drawn(planes)
    assert planes.scene.look.voxel == (10, 48, 50)
    assert colour(view, (3, 48, 20)) != (255, 255, 255)
    planes.session.close()
    drawn(planes)
    picture(view)  # Nothing is shown, and nothing fails.


def test_lines_and_planes_are_no_layers_and_go_with_the_check_box(ready):
    height = ready.canvas.height()
    panel = ready.widget.height()
    names = [layer.name for layer in ready.viewer.layers]
    children = len(ready.viewer.window._qt_viewer.canvas.view.scene.children)
    for _ in range(2):
        tick(ready)
        assert box(ready).isChecked()
        assert len(views(ready)) == 2
        assert [layer.name for layer in ready.viewer.layers] == names
        assert abs(ready.widget.height() - panel) < 5  # The panel keeps its height.
        assert ready.canvas.height() < height
        tick(ready)
        assert not views(ready)
        ready.qtbot.wait(50)
        assert len(ready.viewer.window._qt_viewer.canvas.view.scene.children) == children
    tick(ready)
    (dock,) = (
        one for one in ready.viewer.window._qt_window.findChildren(QDockWidget)
        if one.windowTitle() == "Other planes"
    )  # fmt: skip
    ready.qtbot.mouseClick(dock.title.close_button, LEFT)
    ready.until(lambda: not box(ready).isChecked())
    ready.qtbot.wait(50)
    ready.scene.go_to(3)
    tick(ready)
    assert len(views(ready)) == 2


def test_closing_the_panel_closes_the_planes(planes):
    window = planes.viewer.window._qt_window
    assert isinstance(window, QMainWindow)
    planes.qtbot.mouseClick(planes.dock.title.close_button, LEFT)
    planes.until(lambda: planes.widget.shutdown.over)
    planes.qtbot.wait(50)
    assert not [one for one in window.findChildren(QWidget) if one.objectName() == "planes-pane"]
    ours = [*planes.viewer.mouse_drag_callbacks, *planes.viewer.mouse_move_callbacks]
    assert not [one for one in ours if one.__module__.startswith("napari_sslseg")]


def test_the_window_closes_with_the_planes_shown(planes):
    planes.press(Qt.Key.Key_P)
    planes.click_picture()
    expected = planes.layer.data.copy()
    folder = planes.project.folder
    planes.viewer.close()
    with Project.open(folder) as project:
        np.testing.assert_array_equal(project.labels("ann").data, expected)
