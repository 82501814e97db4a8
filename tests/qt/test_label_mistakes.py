"""What a person may do wrong while labelling, in a real window with mouse and keys."""

import nibabel as nib
import numpy as np
import pytest
from napari._qt.widgets.qt_viewer_buttons import QtViewerPushButton
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLineEdit

from dialogs import answer
from napari_sslseg.core.project.project import Project


def new_layer(dock):
    """Press the button "new labels" of napari, and paint a stroke on the new layer."""
    found = dock.viewer.window._qt_window.findChildren(QtViewerPushButton)
    (button,) = [button for button in found if button.property("mode") == "new_labels"]
    dock.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    layer = dock.viewer.layers.selection.active
    assert layer is not dock.layer
    layer.brush_size = 8
    dock.press(Qt.Key.Key_P)
    dock.drag((-1, -1), (-1, 1))
    assert layer.data.any()
    return layer


def test_strokes_on_a_new_layer_of_napari_are_taken_over(ready):
    ready.scene.go_to(7)
    layer = new_layer(ready)
    assert not ready.layer.data.any()
    warning = ready.find("foreign-strokes")
    assert warning.isVisible()
    assert layer.name in warning.text()
    assert not ready.find("labels-saved").isVisible()
    questions = []
    answer("Take them over", questions)
    ready.press(Qt.Key.Key_D)
    assert layer.name in questions[0]
    np.testing.assert_array_equal(ready.layer.data == 1, layer.data > 0)
    ready.until(lambda: ready.project.done("ann") == (7,))
    np.testing.assert_array_equal(ready.saved(), ready.layer.data)
    assert layer not in ready.viewer.layers
    assert ready.layer.mode == "paint"
    assert not warning.isVisible()
    assert ready.find("labels-saved").isVisible()
    # The next stroke is on the labels of the scan, and all of it is one step to undo.
    assert ready.viewer.layers.selection.active is ready.layer
    ready.qtbot.keyClick(ready.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not ready.layer.data.any()


def test_strokes_on_a_new_layer_are_offered_on_a_done_slice_too(ready):
    answer("Mark as empty")
    ready.press(Qt.Key.Key_D)
    ready.until(lambda: bool(ready.project.done("ann")))
    done = ready.project.done("ann")
    layer = new_layer(ready)
    answer("Take them over")
    ready.press(Qt.Key.Key_D)
    assert layer not in ready.viewer.layers
    assert ready.layer.data[done[0]].any()
    ready.until_saved()
    assert ready.project.done("ann") == done


def test_strokes_of_one_scan_do_not_become_labels_of_another(ready):
    layer = new_layer(ready)
    warning, button = ready.find("foreign-strokes"), ready.find("take-strokes")
    ready.press(Qt.Key.Key_PageDown)
    ready.until(lambda: ready.session.current == "bob")
    assert layer not in ready.viewer.layers
    assert "ann" in warning.text()
    assert warning.isVisible()
    assert not button.isVisible()
    answer("Mark as empty")
    ready.press(Qt.Key.Key_D)
    ready.until(lambda: bool(ready.project.done("bob")))
    assert not ready.layer.data.any()
    ready.press(Qt.Key.Key_PageUp)
    ready.until(lambda: ready.session.current == "ann")
    assert layer in ready.viewer.layers
    ready.click("take-strokes")
    assert ready.layer.data.any()
    assert not warning.isVisible()


def test_strokes_stay_with_their_scan_when_another_project_is_open(ready, tmp_path):
    """Its scan has another size, up to which the slider would reach."""
    layer = new_layer(ready)
    drawn, first = layer.data.copy(), ready.project.folder
    other = Project.create(tmp_path / "other")
    data = np.zeros((9, 40, 44), np.float32)
    nib.save(
        nib.Nifti1Image(data + np.arange(44), np.diag([2.0, 1.5, 1.0, 1.0])), tmp_path / "cy.nii.gz"
    )
    other.add_scans([tmp_path / "cy.nii.gz"])
    other.close()
    assert ready.session.open(tmp_path / "other")
    ready.session.select("cy")
    ready.until(lambda: ready.session.current == "cy" and ready.layer is not None)
    ready.qtbot.wait(100)
    assert layer not in ready.viewer.layers
    assert ready.viewer.dims.nsteps[ready.viewer.dims.order[0]] == ready.layer.data.shape[0]
    warning = ready.find("foreign-strokes").text()
    assert "ann" in warning
    assert str(first) in warning
    assert ready.session.open(first)
    ready.until(lambda: ready.session.current == "ann" and layer in ready.viewer.layers)
    ready.qtbot.wait(100)
    np.testing.assert_array_equal(layer.data, drawn)
    ready.click("take-strokes")
    assert ready.layer.data.any()


def test_strokes_on_another_layer_are_taken_over_by_the_button(ready):
    layer = new_layer(ready)
    layer.data[2] = 9  # Another slice, with a value that is no structure.
    layer.refresh()
    answer("Cancel")
    ready.press(Qt.Key.Key_D)
    assert not ready.layer.data.any()
    ready.click("take-strokes")
    assert set(np.unique(ready.layer.data)) == {0, 1}
    assert ready.layer.data[2].all()
    ready.until_saved()


def test_strokes_of_napari_become_the_chosen_structure(ready):
    ready.panel.classes.choose(2)
    layer = new_layer(ready)  # With the value 1, which is another structure.
    ready.click("take-strokes")
    assert set(np.unique(ready.layer.data)) == {0, 2}
    assert "spleen" in ready.notes[-1]
    assert layer.name in ready.notes[-1]


def press_delete(dock):
    found = dock.viewer.window._qt_window.findChildren(QtViewerPushButton)
    (button,) = [button for button in found if button.property("mode") == "delete_button"]
    dock.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_the_window_survives_the_deletion_of_the_labels_beside_another_layer(ready):
    other = new_layer(ready)
    other.visible = False
    ready.scene.take_labels()
    press_delete(ready)
    ready.until(lambda: not ready.session.current)
    ready.qtbot.wait(1500)
    ready.viewer.dims.set_current_step(0, 3)
    ready.qtbot.wait(300)
    assert list(ready.viewer.layers) == [other]
    ready.session.select("ann")
    ready.until(lambda: ready.session.current == "ann")
    ready.qtbot.wait(300)
    assert ready.layer in ready.viewer.layers


def test_outside_of_the_scan_nothing_is_painted_or_marked(ready):
    # Another layer reaches further than the scan, on both sides.
    spacing = ready.scene.image.scale
    place = np.asarray(ready.scene.image.translate) - 10 * np.asarray(spacing)
    ready.viewer.add_labels(np.zeros((60, 8, 8), np.uint8), scale=spacing, translate=place)
    ready.scene.take_labels()
    ready.press(Qt.Key.Key_P)
    ready.drag((-1, -1), (-1, 1))
    drawn = ready.layer.data.copy()
    assert drawn.any()
    centre = ready.viewer.camera.center
    for step in (0, 59):
        ready.viewer.dims.set_current_step(0, step)
        ready.drag((0, -1), (0, 1))
        np.testing.assert_array_equal(ready.layer.data, drawn)
        ready.press(Qt.Key.Key_D)
        ready.qtbot.wait(100)
        assert not ready.project.done("ann")
    ready.scene.go_to(5)
    ready.viewer.camera.center = centre  # Drags moved the picture.
    ready.drag((1, -1), (1, 1))
    assert (ready.layer.data[5] != drawn[5]).any()


def test_erasing_a_removed_structure_cannot_be_undone_to_labels_without_a_name(ready):
    ready.panel.classes.choose(1)
    ready.press(Qt.Key.Key_P)
    ready.drag((-1, -1), (-1, 1))
    ready.until_saved()
    answer("Remove")
    ready.click("remove-class")
    answer("Erase everywhere")
    ready.until(lambda: 1 not in ready.project.class_names)
    ready.until(lambda: not ready.layer.data.any())
    ready.qtbot.keyClick(ready.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not ready.layer.data.any()
    assert not any("no structure" in note for note in ready.notes)


def test_a_deleted_layer_takes_the_scan_away_and_show_brings_it_back(ready):
    ready.scene.go_to(4)
    ready.press(Qt.Key.Key_P)
    ready.drag((-1, -1), (-1, 1))
    drawn = ready.layer.data.copy()
    ready.viewer.layers.selection = {ready.scene.image, ready.layer}
    ready.viewer.layers.remove_selected()
    ready.until(lambda: not ready.session.current)
    assert "deleted" in ready.notes[-1]
    assert not len(ready.viewer.layers)
    np.testing.assert_array_equal(ready.saved("ann"), drawn)
    ready.session.select("ann")
    ready.until(lambda: ready.session.current == "ann")
    np.testing.assert_array_equal(ready.layer.data, drawn)
    assert ready.scene.slice == 4


def test_an_empty_slice_is_confirmed_once_and_announced_later(ready):
    ready.scene.go_to(3)
    answer("Cancel")
    ready.press(Qt.Key.Key_D)
    assert ready.project.done("ann") == ()
    assert not ready.find("slice-done").isChecked()
    questions = []
    answer("Mark as empty", questions)
    ready.press(Qt.Key.Key_D)
    assert "no labels" in questions[0]
    ready.until(lambda: ready.project.done("ann") == (3,))
    ready.scene.go_to(4)
    ready.press(Qt.Key.Key_D)
    ready.until(lambda: ready.project.done("ann") == (3, 4))
    assert "Slice 4" in ready.notes[-1]
    assert ready.find("slice-done").isChecked()
    ready.session.deselect()  # As the removal of the scan does.
    assert not ready.find("slice-done").isChecked()
    assert "✓" not in ready.find("slice-done").text()


def test_in_a_rolled_view_slices_are_not_marked_and_the_plane_comes_back(ready):
    ready.scene.go_to(7)
    width = ready.find("slice-state").minimumSizeHint().width()
    ready.viewer.dims.roll()
    assert not ready.find("slice-done").isEnabled()
    # The long sentence does not make the panel wider, which would cut it at the right.
    assert ready.find("slice-state").minimumSizeHint().width() < width + 40
    ready.press(Qt.Key.Key_D)
    assert ready.project.done("ann") == ()
    assert "plane" in ready.notes[-1]
    ready.click("turn-back")
    assert ready.scene.slice == 7
    assert ready.find("slice-done").isEnabled()
    assert not ready.find("turn-back").isVisible()


@pytest.mark.parametrize("how", ["rolled view", "three edited dimensions"])
def test_strokes_through_other_slices_unmark_them(ready, how):
    for index in (9, 10, 11):
        ready.scene.go_to(index)
        ready.layer.data_setitem((np.array([index]), np.array([9]), np.array([9])), 1)
        ready.press(Qt.Key.Key_D)
    ready.until(lambda: ready.project.done("ann") == (9, 10, 11))
    ready.press(Qt.Key.Key_P)
    ready.layer.brush_size = 30
    if how == "rolled view":
        ready.viewer.dims.roll()
        left = ()
    else:
        ready.scene.go_to(10)
        ready.layer.n_edit_dimensions = 3
        left = (10,)
    ready.drag((0, 0), (0, 0.2))
    assert ready.layer.data[9].sum() > 1
    ready.until(lambda: ready.project.done("ann") == left)
    assert "no longer done" in ready.notes[-1].replace("\n", " ").lower()


def test_a_done_slice_that_is_erased_is_no_longer_done(ready):
    ready.scene.go_to(7)
    ready.press(Qt.Key.Key_P)
    ready.layer.brush_size = 8
    ready.drag((0, 0), (0, 0.5))
    ready.press(Qt.Key.Key_D)
    ready.until(lambda: ready.project.done("ann") == (7,))
    ready.press(Qt.Key.Key_E)
    ready.layer.brush_size = 30
    ready.drag((0, 0), (0, 0.5))
    assert not ready.layer.data.any()
    ready.until(lambda: ready.project.done("ann") == ())
    # The user may say that it is free of structures, and that stays.
    answer("Mark as empty")
    ready.press(Qt.Key.Key_D)
    ready.until(lambda: ready.project.done("ann") == (7,))
    ready.until_saved()
    ready.qtbot.wait(300)
    assert ready.project.done("ann") == (7,)


def test_the_brush_stays_on_structures(ready):
    ready.press(Qt.Key.Key_2)
    ready.layer.data_setitem((np.array([5]), np.array([9]), np.array([9])), 2)
    ready.press(Qt.Key.Key_M)  # A new label, in napari.
    assert ready.layer.selected_label == 2
    assert "spleen" in ready.notes[-1]
    ready.press(Qt.Key.Key_Equal)
    assert ready.layer.selected_label == 2
    answer("Remove")
    ready.layer.undo()
    ready.click("remove-class")
    ready.until(lambda: ready.layer.selected_label == 1)
    assert set(ready.project.class_names) == {1}
    assert "liver" in ready.notes[-1]
    ready.press(Qt.Key.Key_P)
    ready.drag((0, 0), (0, 0.5))
    ready.until_saved()
    assert set(ready.project.class_names) == {1}


def test_escape_cancels_a_new_structure_and_enter_leaves_the_brush_ready(ready):
    ready.click("add-class")
    editor = ready.panel.classes.list.findChild(QLineEdit)
    ready.qtbot.keyClick(editor, Qt.Key.Key_Escape)
    ready.until(lambda: set(ready.project.class_names) == {1, 2})
    ready.click("add-class")
    editor = ready.panel.classes.list.findChild(QLineEdit)
    ready.qtbot.keyClicks(editor, "kidney")
    ready.qtbot.keyClick(editor, Qt.Key.Key_Return)
    ready.until(lambda: "kidney" in ready.project.class_names.values())
    assert str(ready.layer.mode) == "paint"
    value = max(ready.project.class_names)
    assert ready.layer.selected_label == value
    # Escape in a later change of the name keeps the structure.
    ready.click("rename-class")
    editor = ready.panel.classes.list.findChild(QLineEdit)
    ready.qtbot.keyClick(editor, Qt.Key.Key_Escape)
    ready.qtbot.wait(100)
    assert ready.project.class_names[value] == "kidney"


def test_returning_to_the_step_keeps_the_tool(ready):
    ready.click("tool-paint")
    ready.widget.show_step("Scans")
    ready.widget.show_step("Label")
    assert str(ready.layer.mode) == "paint"


def test_brush_keys_work_after_a_tool_was_chosen_by_mouse(ready):
    window = ready.viewer.window._qt_window
    window.activateWindow()
    ready.find("brush-size").setFocus()
    ready.click("tool-paint")
    before = ready.layer.brush_size
    ready.qtbot.keyClick(window.focusWidget(), Qt.Key.Key_BracketRight)
    assert ready.layer.brush_size > before


def test_slice_and_strokes_of_a_scan_come_back_with_it(ready):
    ready.scene.go_to(3)
    ready.press(Qt.Key.Key_P)
    ready.drag((0, 0), (0, 0.5))
    drawn = ready.layer.data.copy()
    ready.session.select("bob")
    ready.until(lambda: ready.session.current == "bob")
    ready.session.select("ann")
    ready.until(lambda: ready.session.current == "ann")
    assert ready.scene.slice == 3
    np.testing.assert_array_equal(ready.layer.data, drawn)
    ready.scene.take_labels()
    ready.qtbot.keyClick(ready.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not ready.layer.data.any()
    ready.until_saved()
    ready.press(Qt.Key.Key_P)
    ready.drag((0, 0), (0, 0.5))
    ready.until_saved()


def test_keys_show_the_next_scan_and_the_one_before(ready):
    ready.press(Qt.Key.Key_PageDown)
    ready.until(lambda: ready.session.current == "bob")
    ready.press(Qt.Key.Key_PageDown)
    assert "last" in ready.notes[-1]
    ready.press(Qt.Key.Key_PageUp)
    ready.until(lambda: ready.session.current == "ann")


def corners(dock, *places):
    """Click corners of a polygon; each is a click of its own, not half of a double-click."""
    for place in places:
        dock.click_picture(*place)
        dock.qtbot.wait(20)


def test_an_open_polygon_is_dropped_with_a_note_when_its_slice_is_left(ready):
    ready.scene.go_to(7)
    answer("Mark as empty")
    ready.press(Qt.Key.Key_D)
    ready.until(lambda: ready.project.done("ann") == (7,))
    ready.press(Qt.Key.Key_G)
    corners(ready, (-1, -1), (-1, 1), (1, 1))
    polygon = ready.layer._overlays["polygon"]
    assert polygon.points
    ready.scene.go_to(8)
    assert not polygon.points
    assert "slice 7" in ready.notes[-1]
    assert "dropped" in ready.notes[-1]
    assert not ready.layer.data.any()
    assert ready.project.done("ann") == (7,)
    corners(ready, (-1, -1), (-1, 1), (1, 1))
    layer = ready.layer
    ready.press(Qt.Key.Key_PageDown)
    ready.until(lambda: ready.session.current == "bob")
    assert any("slice 8 was dropped" in note for note in ready.notes)
    assert not layer._overlays["polygon"].points
    assert not ready.layer.data.any()


def test_a_slice_with_an_open_polygon_is_done_with_the_polygon(ready):
    ready.scene.go_to(7)
    ready.press(Qt.Key.Key_G)
    corners(ready, (-1, -1), (-1, 1))
    ready.press(Qt.Key.Key_D)
    assert ready.project.done("ann") == ()
    assert "three corners" in ready.notes[-1]
    corners(ready, (1, 1), (1, -1))
    ready.press(Qt.Key.Key_D)
    ready.until(lambda: ready.project.done("ann") == (7,))
    assert any("closed" in note for note in ready.notes)
    assert ready.layer.data[7].any()
    ready.until_saved()
    # On a slice that is done, the outline belongs to the slice as well.
    before = ready.layer.data.sum()
    corners(ready, (-2, -2), (-2, 2), (2, 2))
    ready.press(Qt.Key.Key_D)
    assert ready.layer.data.sum() > before
    ready.until_saved()
    assert ready.project.done("ann") == (7,)
    ready.qtbot.keyClick(ready.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert ready.layer.data.sum() == before


def test_an_open_outline_of_the_brush_is_dropped_with_a_note(ready):
    ready.scene.go_to(7)
    ready.press(Qt.Key.Key_P)
    ready.click_picture(-1, -1, Qt.MouseButton.RightButton)
    for place in ((-1, 0), (-1, 1), (1, 1)):
        ready.qtbot.mouseMove(ready.canvas, ready.at(*place))
        ready.qtbot.wait(20)
    assert ready.layer._overlays["brush_stroke"].active
    assert ready.layer.data.any()
    ready.until(lambda: ready.saved("ann").any())  # The part that is drawn is saved meanwhile.
    ready.press(Qt.Key.Key_D)
    assert ready.project.done("ann") == ()
    ready.press(Qt.Key.Key_PageDown)
    ready.until(lambda: ready.session.current == "bob")
    assert any("slice 7 was dropped" in note for note in ready.notes)
    assert not ready.layer.data.any()
    ready.press(Qt.Key.Key_PageUp)
    ready.until(lambda: ready.session.current == "ann")
    assert not ready.layer.data.any()
    ready.until(lambda: not ready.saved("ann").any())
