"""The problem box shows a problem in full until the user dismisses it."""

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from loop_project import make_project, open_window
from napari_sslseg.gui.label.class_edits import rename_class
from napari_sslseg.gui.model.jobs import Problem

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def dock(viewer, qtbot, tmp_path):
    make_project(tmp_path, count=2)
    with open_window(viewer, qtbot, tmp_path / "project") as widget:
        yield widget


def test_a_problem_is_shown_with_details_and_dismissed(dock, qtbot):
    session, box = dock.session, dock.problem
    first, second = session.project.names
    session.select(first)
    qtbot.waitUntil(lambda: session.current == first)
    assert not box.isVisible()
    path = Path(session.project.entry(second).absolute)
    path.write_bytes(b"no scan")
    session.select(second)
    qtbot.waitUntil(box.isVisible)
    assert second in box.sentence.text()
    assert box.sentence.height() >= box.sentence.heightForWidth(box.sentence.width())
    assert not box.text.isVisible()
    qtbot.mouseClick(box.fold.button, LEFT)
    assert box.text.isVisible()
    assert "Traceback" in box.text.toPlainText()
    qtbot.mouseClick(box.copy, LEFT)
    copied = QApplication.clipboard().text()
    assert copied.startswith(box.shown.sentence)
    assert "Traceback" in copied
    qtbot.mouseClick(box.away, LEFT)
    assert not box.isVisible()
    assert session.current == first


def test_the_problem_of_unsaved_labels_disappears_after_saving(dock, qtbot):
    session, box = dock.session, dock.problem
    name = session.project.names[0]
    session.select(name)
    qtbot.waitUntil(lambda: dock.scene.labels is not None)
    folder = session.project.folder / "labels"
    folder.rename(folder.with_name("away"))
    folder.write_bytes(b"")
    layer = dock.scene.labels
    layer.data_setitem((np.array([1, 1]), np.array([2, 2]), np.array([3, 4])), 2)
    qtbot.waitUntil(box.isVisible)
    assert box.shown.kind == "unsaved labels"
    folder.unlink()
    folder.with_name("away").rename(folder)
    qtbot.waitUntil(lambda: not box.isVisible())
    assert (session.project.labels(name).data == layer.data).all()


def test_only_the_problem_that_is_over_disappears(dock, qtbot):
    session, box = dock.session, dock.problem
    session.problem.emit(Problem("There is a structure “liver” already; choose another name."))
    session.classes_changed.emit()
    assert box.isVisible()  # Its words do not matter.
    dock.show_step("Label")
    value = session.project.add_class("cyst").value
    rename_class(session, value, "Liver")
    assert box.shown.kind == "taken name"
    assert "liver" in box.shown.sentence
    rename_class(session, value, "kidney")
    assert not box.isVisible()
