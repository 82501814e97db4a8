"""Structures that imported labels bring, while slices of other scans are done without them."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from dialogs import answer
from loop_project import make_project, open_window
from named_labels import write_slicer
from napari_sslseg.gui.scans.new_classes import KEEP, NOT_LABELLED, UNMARK

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def dock(viewer, qtbot, tmp_path, monkeypatch):
    """The window with a project of two scans; slices of the first one are done."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    make_project(tmp_path, count=2, labelled=1)
    with open_window(viewer, qtbot, tmp_path / "project") as widget:
        yield widget


def import_tumour(dock, qtbot, monkeypatch, tmp_path):
    """Press Import labels… for the second scan, with a file that has a new structure."""
    project = dock.session.project
    name = project.names[1]
    scan = project.load(name)
    labels = np.zeros(scan.data.shape, np.int32)
    labels[4, 5], labels[4, 6] = 1, 3
    path = write_slicer(tmp_path / "b.nrrd", labels, scan, {1: "liver", 3: "tumour"})
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([str(path)], ""))
    monkeypatch.setattr("napari_sslseg.gui.scans.scan_list.needs_answer", lambda *_: False)
    table = dock.panels["Scans"].list
    row = table.model.index(table.model.row_of(name), 0)
    place = table.table.visualRect(table.table.proxy.mapFromSource(row)).center()
    qtbot.mouseClick(table.table.viewport(), LEFT, pos=place)
    qtbot.mouseClick(table.labels, LEFT)


@pytest.mark.parametrize(
    ("button", "done", "listed"),
    [(NOT_LABELLED, (3, 5), (1, 2)), (UNMARK, (), None), (KEEP, (3, 5), None)],
)
def test_done_slices_of_other_scans_are_asked_about(
    dock, qtbot, monkeypatch, tmp_path, button, done, listed
):
    project, heard = dock.session.project, []
    first = project.names[0]
    answer("Those with labels")
    answer(button, heard)
    import_tumour(dock, qtbot, monkeypatch, tmp_path)
    qtbot.waitUntil(lambda: bool(heard))
    assert all(word in heard[0] for word in ("2 slices", first, "tumour", "background"))
    qtbot.waitUntil(
        lambda: (project.done(first), project.labelled_classes(first)) == (done, listed)
    )
    # What is to be known of the labels stays until it is dismissed.
    assert dock.remarks.isVisible()
    assert "New classes: tumour" in dock.remarks.text.toPlainText()
    assert "spleen is not in the labels of" in dock.remarks.text.toPlainText()
    qtbot.mouseClick(dock.remarks.away, LEFT)
    assert not dock.remarks.isVisible()


@pytest.mark.parametrize(
    ("others", "done", "listed", "words"),
    [(True, (3, 5), (1, 2), "count as not labelled"), (False, (), None, "no longer done")],
    ids=["with other structures", "without"],
)
def test_cancel_counts_nothing_as_background_and_leaves_a_remark(
    dock, qtbot, monkeypatch, tmp_path, others, done, listed, words
):
    project = dock.session.project
    first = project.names[0]
    if not others:
        project.save_labels(first, np.zeros_like(project.labels(first).data))
        for value in (1, 2):
            project.remove_class(value)
        assert project.done(first) == (3, 5)
    answer("Those with labels")
    answer("Cancel")
    import_tumour(dock, qtbot, monkeypatch, tmp_path)
    qtbot.waitUntil(lambda: words in dock.remarks.text.toPlainText())
    assert first in dock.remarks.text.toPlainText()
    assert "tumour" in dock.remarks.text.toPlainText()
    assert project.done(first) == done
    assert project.labelled_classes(first) == listed


def test_scans_whose_labelled_structures_are_known_need_no_question(dock, qtbot):
    session, first = dock.session, dock.session.project.names[0]
    session.set_labelled_classes([first], (1,))
    dock.show_step("Label")
    qtbot.mouseClick(dock.panels["Label"].classes.add, LEFT)
    assert len(session.project.classes) == 3
    assert session.project.done(first) == (3, 5)
