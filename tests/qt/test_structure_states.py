"""Structures are hidden, locked and made transparent with the mouse; labels do not change."""

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QLineEdit

from label_dock import Dock
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.scans.volume import take_slices
from napari_sslseg.gui.inspect.acceptance import accept_slice
from napari_sslseg.gui.label import class_list
from napari_sslseg.gui.label.class_rows import EYE, LOCK

LIVER, SPLEEN = 0, 1


def click_eye(dock, row):
    click_column(dock, row, EYE)


def click_padlock(dock, row):
    click_column(dock, row, LOCK)


def click_column(dock, row, column):
    rows = dock.panel.classes.list
    place = rows.visualItemRect(rows.topLevelItem(row)).center()
    x = rows.columnViewportPosition(column) + rows.columnWidth(column) // 2
    dock.qtbot.mouseClick(rows.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(x, place.y()))


def alpha(layer, value):
    return float(layer.colormap.map(np.array([value]))[0, 3])


@pytest.fixture
def painted(ready):
    """A stroke of liver across the middle of the picture."""
    ready.panel.classes.choose(1)
    ready.click("tool-paint")
    ready.layer.brush_size = 12
    ready.drag((0, -1), (0, 1))
    assert (ready.layer.data == 1).sum() > 100
    return ready


def test_a_click_on_the_eye_hides_a_structure_and_another_shows_it(painted):
    dock, before = painted, painted.layer.data.copy()
    shown = dock.viewer.screenshot(canvas_only=True, flash=False)
    click_eye(dock, LIVER)
    assert alpha(dock.layer, 1) == 0
    assert alpha(dock.layer, 2) == 1
    hidden = dock.viewer.screenshot(canvas_only=True, flash=False)
    coloured = [np.ptp(picture[..., :3].astype(int), axis=-1) > 40 for picture in (shown, hidden)]
    assert coloured[0].sum() > 10 * (coloured[1].sum() + 1)
    click_eye(dock, LIVER)
    assert alpha(dock.layer, 1) == 1
    np.testing.assert_array_equal(dock.layer.data, before)
    assert dock.panel.classes.chosen == 1


@pytest.mark.parametrize("click", [click_eye, click_padlock])
def test_no_tool_changes_a_hidden_or_locked_structure(painted, click):
    dock, before = painted, painted.layer.data.copy()
    click(dock, LIVER)
    dock.panel.classes.choose(2)
    dock.notes.clear()
    dock.drag((-0.5, 0), (0.5, 0))
    assert (dock.layer.data == 2).any()
    np.testing.assert_array_equal(dock.layer.data == 1, before == 1)
    assert len(dock.notes) == 1  # It is said once why.
    assert "liver" in dock.notes[0]
    dock.click("tool-erase")
    dock.drag((0, -1), (0, 1))
    dock.drag((-0.5, 0), (0.5, 0))
    np.testing.assert_array_equal(dock.layer.data == 1, before == 1)
    assert not (dock.layer.data == 2).any()  # Other structures are erased.
    dock.click("tool-fill")
    dock.drag((0, 0), (0, 0))
    np.testing.assert_array_equal(dock.layer.data == 1, before == 1)
    assert len(dock.notes) == 1
    # Another click allows it.
    click(dock, LIVER)
    dock.click("tool-erase")
    dock.drag((0, -1), (0, 1))
    assert not (dock.layer.data == 1).any()


def test_a_locked_structure_is_painted_further_and_undone(painted):
    dock, before = painted, painted.layer.data.copy()
    click_padlock(dock, LIVER)
    dock.drag((1, -1), (1, 1))
    assert (dock.layer.data == 1).sum() > (before == 1).sum()
    dock.layer.undo()
    np.testing.assert_array_equal(dock.layer.data, before)
    dock.layer.undo()
    assert not dock.layer.data.any()


def test_an_accepted_prediction_keeps_a_locked_structure_and_removal_does_not(painted, monkeypatch):
    dock, before = painted, painted.layer.data.copy()
    axis, index = PLANE_AXIS[dock.project.plane], dock.scene.slice
    click_padlock(dock, LIVER)
    accept_slice(dock.layer, np.full_like(before, 2), axis, index)
    shown = take_slices(dock.layer.data, index, axis)
    was = take_slices(before, index, axis)
    np.testing.assert_array_equal(shown == 1, was == 1)
    assert (shown[was != 1] == 2).all()
    dock.until_saved()
    monkeypatch.setattr(class_list, "ask_choice", lambda parent, text, choices, **_: choices[0])
    dock.click("remove-class")
    dock.until(lambda: 1 not in dock.project.class_names and not dock.session.jobs)
    assert not (dock.layer.data == 1).any()
    assert not dock.session.structures.protected


def test_a_structure_that_is_painted_or_selected_is_shown(painted):
    dock = painted
    click_eye(dock, LIVER)
    dock.drag((1, -1), (1, 1))
    assert alpha(dock.layer, 1) == 1
    click_eye(dock, SPLEEN)
    assert alpha(dock.layer, 2) == 0
    dock.press(Qt.Key.Key_2)
    assert dock.layer.selected_label == 2
    assert alpha(dock.layer, 2) == 1


def test_opacity_is_chosen_with_the_colour_and_holds_for_predictions(painted, monkeypatch):
    dock = painted
    layer = dock.scene.add_prediction(np.ones_like(dock.layer.data), "prediction")
    asked = []

    def choose(now, *_):
        asked.append(now.alphaF())
        chosen = QColor(now)
        chosen.setAlphaF(0.25)
        return chosen

    monkeypatch.setattr(QColorDialog, "getColor", choose)
    colour = dock.project.classes[0].colour
    dock.click("recolour-class")
    dock.click("recolour-class")
    assert asked == pytest.approx([1, 0.25], abs=0.01)
    assert alpha(dock.layer, 1) == pytest.approx(0.25)
    assert alpha(layer, 1) == pytest.approx(0.25)
    assert dock.project.classes[0].colour == colour


def test_a_structure_that_is_added_again_has_its_old_value(painted, monkeypatch):
    dock = painted
    monkeypatch.setattr(class_list, "ask_choice", lambda parent, text, choices, **_: choices[0])
    dock.click("remove-class")
    dock.until(lambda: 1 not in dock.project.class_names and not dock.session.jobs)
    dock.click("add-class")
    editor = dock.find("classes").findChild(QLineEdit)
    editor.selectAll()
    dock.qtbot.keyClicks(editor, "liver")
    dock.press(Qt.Key.Key_Return, editor)
    dock.until(lambda: dock.project.class_names.get(1) == "liver")
    dock.until(lambda: dock.layer.selected_label == 1)
    assert dock.panel.classes.chosen == 1
    assert len(dock.project.classes) == 2


def test_the_project_remembers_hidden_structures_and_forgets_removed_ones(
    painted, viewer, qtbot, label_folder
):
    click_eye(painted, LIVER)
    painted.session.structures.set_opacity(2, 0.5)
    assert painted.project.add_class("kidney").value == 3
    painted.session.classes_changed.emit()
    click_padlock(painted, 2)
    painted.panel.classes.choose(2)
    painted.until_saved()
    viewer.window.remove_dock_widget(painted.dock)
    painted.leave()
    again = Dock(viewer, qtbot, label_folder)
    assert alpha(again.layer, 1) == 0
    assert again.layer.selected_label == 2
    assert again.panel.classes.chosen == 2
    assert alpha(again.layer, 2) == pytest.approx(0.5)
    assert again.session.structures.protected == {1, 3}
    again.project.remove_class(2)
    again.session.classes_changed.emit()
    assert again.project.add_class("spleen").value == 2
    again.session.classes_changed.emit()
    assert alpha(again.layer, 2) == 1
    again.leave()
