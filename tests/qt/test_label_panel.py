"""Labelling in a real window with mouse and keys."""

import re

import nibabel as nib
import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QLineEdit, QPushButton, QWidget

from dialogs import answer
from label_dock import Dock
from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.label.class_edits import rename_class
from read_only_folder import read_only_folder


def test_painting_needs_a_structure_which_is_named_in_the_list(dock):
    assert not dock.find("tool-paint").isEnabled()
    assert not dock.find("slice-done").isEnabled()
    dock.press(Qt.Key.Key_D)
    assert "structure first" in dock.notes[0]
    assert not dock.project.done("ann")
    assert "first structure" in dock.panel.classes.hint.text()
    dock.click("add-class")
    editor = dock.panel.classes.list.findChild(QLineEdit)
    dock.qtbot.keyClicks(editor, "liver")
    dock.qtbot.keyClick(editor, Qt.Key.Key_Return)
    dock.until(lambda: dock.project.class_names == {1: "liver"})
    assert dock.find("tool-paint").isEnabled()
    dock.click("add-class")
    editor = dock.panel.classes.list.findChild(QLineEdit)
    dock.qtbot.keyClicks(editor, "LIVER")  # This name exists already, in lower case.
    dock.qtbot.keyClick(editor, Qt.Key.Key_Return)
    dock.until(lambda: len(dock.problems) == 1)
    assert dock.project.class_names == {1: "liver", 2: "structure 2"}
    assert dock.panel.classes.list.currentItem().text(0) == "structure 2"
    assert dock.layer.selected_label == 2
    # With the keyboard only.
    dock.qtbot.keyClick(dock.panel.classes.list, Qt.Key.Key_F2)
    editor = dock.panel.classes.list.findChild(QLineEdit)
    dock.qtbot.keyClicks(editor, "spleen")
    dock.qtbot.keyClick(editor, Qt.Key.Key_Return)
    dock.until(lambda: dock.project.class_names[2] == "spleen")
    assert list(dock.layer.features["class"]) == ["background", "liver", "spleen", "unknown"]


def test_a_structure_is_selected_by_click_or_key_and_can_be_recoloured(ready, monkeypatch):
    rows = ready.panel.classes.list
    item = rows.topLevelItem(1)
    ready.qtbot.mouseClick(
        rows.viewport(), Qt.MouseButton.LeftButton, pos=rows.visualItemRect(item).center()
    )
    assert ready.layer.selected_label == 2
    ready.press(Qt.Key.Key_1)
    assert ready.layer.selected_label == 1
    assert rows.currentItem().text(0) == "liver"
    ready.press(
        Qt.Key.Key_2, ready.find("slice-done")
    )  # Keys also work while the panel has the focus.
    assert ready.layer.selected_label == 2
    ready.press(Qt.Key.Key_7)  # By default, napari starts to transform the layer.
    assert ready.layer.selected_label == 2
    assert str(ready.layer.mode) == "pan_zoom"
    ready.layer.selected_label = 1
    assert rows.currentItem().text(0) == "liver"
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#123456"))
    ready.click("recolour-class")
    assert ready.project.classes[0].colour == "#123456"
    np.testing.assert_allclose(
        ready.layer.colormap.map(np.array([1]))[0], QColor("#123456").getRgbF(), atol=0.01
    )


def test_tools_are_reached_by_button_key_and_tab(ready):
    tools = {"paint": "P", "fill": "F", "polygon": "G", "erase": "E", "pick": "L", "pan_zoom": "Z"}
    for mode, key in tools.items():
        button = ready.find(f"tool-{mode}")
        assert f"({key})" in button.text()
        other = "pan_zoom" if mode != "pan_zoom" else "paint"
        ready.layer.mode = other
        ready.viewer.layers.selection.active = ready.scene.image
        ready.click(f"tool-{mode}")
        assert ready.layer.mode == mode
        assert ready.viewer.layers.selection.active is ready.layer
        ready.layer.mode = other
        assert not button.isChecked()
        ready.press(getattr(Qt.Key, f"Key_{key}"))
        assert ready.layer.mode == mode
        assert button.isChecked()
    # Tab reaches all controls.
    ready.viewer.window._qt_window.activateWindow()
    ready.panel.classes.list.setFocus()
    seen = []
    for _ in range(20):
        widget = ready.viewer.window._qt_window.focusWidget()
        seen.append(widget.objectName())
        ready.qtbot.keyClick(widget, Qt.Key.Key_Tab)
    expected = ["classes", "add-class", "rename-class", "recolour-class", "remove-class"]
    expected += ["tool-paint", "brush-size", "label-advanced", "slice-strip", "slice-done"]
    expected += ["next-open"]
    assert [name for name in seen if name in expected][: len(expected)] == expected
    for button in ready.panel.findChildren(QPushButton):
        assert button.text()
        assert button.objectName()


def shown_state(dock):
    """Return the number of the slice and its state, as shown."""
    number, _, state = dock.find("slice-state").text().partition(": ")
    return number, state


def test_a_painted_slice_is_saved_and_then_marked_as_done(ready):
    ready.scene.go_to(7)
    ready.click("tool-paint")
    ready.find("brush-mm").setValue(9)
    ready.drag((-1, -1), (-1, 1), (1, 1))
    drawn = np.flatnonzero(ready.layer.data.any(axis=(1, 2)))
    assert list(drawn) == [7]
    ready.until_saved()
    assert shown_state(ready) == ("Slice 7 (0 to 19)", "painted, but not done")
    assert "not done" in ready.find("slice-unused").text()
    ready.press(Qt.Key.Key_D)
    ready.until(lambda: ready.project.done("ann") == (7,))
    assert shown_state(ready) == ("Slice 7 (0 to 19)", "done")
    assert ready.scene.slice == 7
    assert not ready.find("slice-unused").isVisible()
    counts = re.findall(r"\d+", ready.find("slice-count").text())
    assert counts == ["1", "20", "1", "1"]  # of the scan, of the project, and patients
    # Undo by the keys of napari is saved as well.
    ready.qtbot.keyClick(ready.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not ready.layer.data.any()
    ready.until_saved()
    assert not ready.saved().any()
    # The slice would count as free of structures, which nobody has said.
    ready.until(lambda: ready.project.done("ann") == ())
    assert shown_state(ready) == ("Slice 7 (0 to 19)", "not done")
    assert "slice 7" in ready.notes[-1]


def test_polygon_fill_erase_and_pick_on_the_canvas(ready):
    ready.press(Qt.Key.Key_2)
    ready.press(Qt.Key.Key_G)
    for corner in ((-1, -1), (-1, 1), (1, 1), (1, -1)):
        ready.click_picture(*corner)
    ready.press(Qt.Key.Key_Return)
    inside = np.count_nonzero(ready.layer.data == 2)
    assert inside > 100
    ready.until_saved()
    ready.press(Qt.Key.Key_1)
    ready.press(Qt.Key.Key_F)
    ready.click_picture()
    assert np.count_nonzero(ready.layer.data == 1) == inside
    ready.press(Qt.Key.Key_2)
    ready.press(Qt.Key.Key_L)
    ready.click_picture()
    assert ready.layer.selected_label == 1
    assert ready.panel.classes.chosen == 1
    ready.press(Qt.Key.Key_E)
    ready.drag((0, -0.5), (0, 0.5))
    assert 0 < np.count_nonzero(ready.layer.data) < inside
    ready.until_saved()


def test_painting_changes_only_the_current_slice_of_the_plane(ready):
    plane = "sagittal"
    ready.project.set_plane(plane)
    ready.session.plane_changed.emit()
    ready.viewer.reset_view()
    ready.scene.go_to(30)
    ready.press(Qt.Key.Key_P)
    ready.drag((0, -0.5), (0, 0.5))
    assert list(np.flatnonzero(ready.layer.data.any(axis=(0, 1)))) == [30]
    ready.until_saved()
    ready.press(Qt.Key.Key_D)
    ready.until(lambda: ready.project.done("ann") == (30,))


def test_the_slice_strip_shows_states_and_changes_the_slice(ready):
    strip = ready.find("slice-strip")
    for k in (3, 5):
        ready.layer.data_setitem((np.array([k]), np.array([9]), np.array([9])), 1)
    ready.scene.go_to(3)
    ready.press(Qt.Key.Key_D)
    ready.scene.go_to(11)
    answer("Mark as empty")
    ready.press(Qt.Key.Key_D)
    ready.until_saved()
    ready.until(lambda: ready.project.done("ann") == (3, 11))
    assert list(np.flatnonzero(strip.states)) == [3, 5, 11]
    assert list(strip.states[[3, 5, 11]]) == [2, 1, 3]
    middle = int(sum(strip.place_of(5)) / 2)
    assert strip.tip_at(middle).startswith("Slice 5 (0 to 19): painted, but not done")
    ready.qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(middle, 15))
    assert ready.scene.slice == 5
    ready.qtbot.keyClick(strip, Qt.Key.Key_Right)
    assert ready.scene.slice == 6
    ready.press(Qt.Key.Key_U)
    assert ready.scene.slice == 5
    ready.press(Qt.Key.Key_U)
    assert ready.scene.slice == 5
    assert ready.notes
    ready.scene.go_to(10)
    ready.press(Qt.Key.Key_N)
    assert ready.scene.slice == 12  # 11 is done.
    ready.scene.go_to(19)
    ready.click("next-open")
    assert ready.scene.slice == 0
    # All painted slices are marked together after confirmation.
    for k in (6, 7):
        ready.layer.data_setitem((np.array([k]), np.array([9]), np.array([9])), 1)
    ready.until_saved()
    questions = []
    answer("Cancel", questions)
    ready.click("mark-painted")
    assert "3 painted slices" in questions[0]
    assert ready.project.done("ann") == (3, 11)
    answer("Mark 3 as done")
    ready.click("mark-painted")
    ready.until(lambda: ready.project.done("ann") == (3, 5, 6, 7, 11))


def test_removing_a_structure_asks_and_asks_again_before_erasing_labels(ready):
    ready.layer.data_setitem((np.array([3, 4]), np.array([9, 9]), np.array([9, 9])), 1)
    ready.layer.data_setitem((np.array([3]), np.array([5]), np.array([9])), 2)
    ready.press(Qt.Key.Key_1)
    answer("Cancel")
    ready.click("remove-class")
    questions = []
    answer("Remove")
    answer("Erase everywhere", questions)
    ready.click("remove-class")
    ready.until(lambda: set(ready.project.class_names) == {2})
    assert questions[0].startswith("“liver” is labelled in 1 scan (ann).")
    assert questions[0].endswith("?")
    ready.until(lambda: not (ready.layer.data == 1).any())
    ready.until_saved()
    assert set(np.unique(ready.saved())) == {0, 2}
    assert list((ready.project.folder / "labels" / "aside").iterdir())
    assert ready.panel.classes.values == [2]
    # A structure without labels is removed without the second question.
    ready.project.add_class("kidney")
    ready.session.classes_changed.emit()
    ready.press(Qt.Key.Key_2)
    answer("Remove")
    ready.click("remove-class")
    ready.until(lambda: set(ready.project.class_names) == {2})


def test_a_tool_without_any_structure_says_so(dock, notifications):
    assert dock.panel.classes.values == []
    notes = []
    dock.session.note.connect(notes.append)
    dock.press(Qt.Key.Key_P)
    dock.until(lambda: str(dock.layer.mode) == "pan_zoom")
    assert "no structure" in notes[-1]
    assert not dock.find("tool-paint").isChecked()


def test_a_name_that_another_structure_has_is_refused(ready):
    problems = []
    ready.session.problem.connect(lambda problem: problems.append(problem.sentence))
    rename_class(ready.session, 2, "Liver")
    assert "“liver”" in problems[0]
    assert problems[0].count("name") == 1
    assert ready.project.class_names == {1: "liver", 2: "spleen"}
    rename_class(ready.session, 1, "Liver")  # Its own name.
    assert ready.project.class_names[1] == "Liver"


def test_brush_tool_opacity_and_outlines_stay_when_the_scan_changes(ready):
    ready.click("label-advanced")
    ready.find("label-opacity").setValue(80)
    ready.qtbot.keyClick(ready.find("label-outlines"), Qt.Key.Key_Space)
    ready.find("brush-mm").setValue(17)
    ready.press(Qt.Key.Key_2)
    ready.press(Qt.Key.Key_P)
    assert (ready.layer.opacity, ready.layer.contour) == (0.8, 2)
    ready.session.select("bob")
    ready.until(lambda: ready.session.current == "bob")
    layer = ready.layer
    assert (layer.opacity, layer.contour, layer.brush_size) == (0.8, 2, 17)
    assert (layer.mode, layer.selected_label) == ("paint", 2)
    ready.press(Qt.Key.Key_1)
    assert layer.selected_label == 1
    ready.drag((0, 0), (0, 0.5))
    ready.until_saved()


def test_closing_the_dock_saves_and_removes_its_layers(ready, label_folder):
    ready.press(Qt.Key.Key_P)
    ready.drag((0, 0), (0, 0.5))
    expected = ready.layer.data.copy()
    ready.dock.destroyOnClose()
    ready.until(lambda: not ready.viewer.layers)
    with Project.open(label_folder) as project:
        np.testing.assert_array_equal(project.labels("ann").data, expected)


def test_closing_the_window_saves(ready, label_folder):
    ready.press(Qt.Key.Key_P)
    ready.drag((0, 0), (0, 0.5))
    expected = ready.layer.data.copy()
    ready.viewer.close()
    with Project.open(label_folder) as project:
        np.testing.assert_array_equal(project.labels("ann").data, expected)


def test_six_hundred_slices_are_in_the_strip(viewer, qtbot, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "long.nii"
    nib.save(nib.Nifti1Image(np.zeros((64, 64, 600), np.int16), np.eye(4)), path)
    with Project.create(tmp_path / "project") as project:
        project.add_scans([path])
        project.add_class("liver")
        project.remember("scan", "long")
    dock = Dock(viewer, qtbot, tmp_path / "project")
    dock.layer.mode = "paint"
    strip = dock.find("slice-strip")
    assert len(strip.states) == 600
    for k in range(0, 600, 60):
        dock.scene.go_to(k)
        dock.layer.paint((k, 30, 30), 1)
    dock.until(lambda: np.count_nonzero(strip.states == 1) == 10)
    dock.until_saved()
    # A click goes to the slice under it, although slices are narrower than a pixel.
    for k in (0, 300, 599):
        left, right = strip.place_of(k)
        place = QPoint(round((left + right) / 2), 15)
        qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=place)
        assert abs(dock.scene.slice - k) <= 1
    dock.leave()


def test_adding_a_structure_asks_whether_done_slices_stay_done(ready, qtbot):
    dock, project = ready, ready.project
    answer("Mark as empty")
    dock.press(Qt.Key.Key_D)
    dock.until(lambda: len(project.done("ann")) == 1)
    before, heard = project.class_names, []
    answer("Cancel", heard)
    dock.click("add-class")
    assert project.class_names == before
    assert heard[0].startswith("1 slice")
    answer("Add and keep marks")
    dock.click("add-class")
    dock.until(lambda: len(project.classes) == len(before) + 1)
    assert len(project.done("ann")) == 1
    answer("Add and unmark")
    dock.click("add-class")
    dock.until(lambda: len(project.classes) == len(before) + 2)
    assert project.done("ann") == ()
    assert project.has_labels("ann")


def test_escape_in_the_name_of_a_structure_marks_done_slices_again(ready, qtbot):
    dock, project = ready, ready.project
    answer("Mark as empty")
    dock.press(Qt.Key.Key_D)
    dock.until(lambda: len(project.done("ann")) == 1)
    done, before = project.done("ann"), project.class_names
    dock.panel.classes.choose(2)
    answer("Add and unmark")
    dock.click("add-class")
    dock.until(lambda: project.done("ann") == ())
    qtbot.keyClick(dock.find("classes").findChild(QLineEdit), Qt.Key.Key_Escape)
    dock.until(lambda: project.class_names == before)
    dock.until(lambda: project.done("ann") == done)
    assert dock.layer.selected_label == 2
    assert not [note for note in dock.notes if "brush" in note]
    assert not dock.problems


def test_unknown_voxels_are_painted_shown_and_saved(ready):
    """The last row of the list paints 255, which is grey, named, and never a structure."""
    rows = ready.panel.classes.list
    row = rows.topLevelItem(2)
    assert (rows.topLevelItemCount(), row.text(0)) == (3, "unknown")
    rows.setCurrentItem(row)
    assert ready.layer.selected_label == 255
    colour = QColor.fromRgbF(*map(float, ready.layer.colormap.map(np.uint8(255))[:3]))
    assert colour.saturation() == 0
    ready.layer.data_setitem((np.array([3, 3]), np.array([5, 6]), np.array([9, 9])), 255)
    ready.until_saved()
    assert (ready.saved() == 255).sum() == 2
    assert set(ready.project.class_names) == {1, 2}
    # It cannot be renamed or removed, and has no number key.
    before = ready.project.classes
    for button in ("rename-class", "recolour-class", "remove-class"):
        ready.click(button)
    ready.press(Qt.Key.Key_3)
    assert ready.project.classes == before
    assert ready.panel.classes.chosen is None
    assert ready.layer.selected_label == 255
    ready.press(Qt.Key.Key_1)
    assert ready.layer.selected_label == 1
    assert not ready.problems


def test_a_read_only_project_cannot_be_drawn_on(viewer, qtbot, label_folder):
    with read_only_folder(label_folder):
        dock = Dock(viewer, qtbot, label_folder)
        try:
            box = dock.widget.findChild(QWidget, "problem")
            assert box.isVisible()
            assert "open for reading only" in dock.problems[0]
            assert "reading only" in dock.panel.saved.text()
            assert not dock.panel.tools.isEnabled()
            before = dock.layer.data.copy()
            dock.press(Qt.Key.Key_2)
            dock.click_picture()
            qtbot.wait(50)
            assert np.array_equal(dock.layer.data, before)
        finally:
            dock.leave()
