"""Classes of imported labels in a real window: found by name, or asked for in a table."""

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QDialog, QFileDialog, QPushButton, QTableWidget

from dialogs import answer
from named_labels import write_slicer
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.scans.labels import save_labels

SHAPE = ((10, 40, 40), (18.0, 9.0, 9.0))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two scans in files, and as volumes."""
    folder = tmp_path_factory.mktemp("scans")
    found = []
    for number in range(2):
        scan, _ = make_patient(number, "MR", *SHAPE)
        source = scan.geometry.to_source(scan.data)
        nib.save(nib.Nifti1Image(source, scan.geometry.affine), folder / f"p{number}.nii.gz")
        found.append(scan)
    return folder, found


@pytest.fixture
def dock(viewer, monkeypatch, scans, tmp_path, qtbot):
    """The window with a project of both scans."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    _, widget = viewer.window.add_plugin_dock_widget("napari-sslseg", "Few-shot segmentation")
    widget.session.create(tmp_path / "project")
    widget.session.add(sorted(scans[0].iterdir()))
    qtbot.waitUntil(lambda: widget.scene.image is not None)
    qtbot.waitUntil(lambda: not widget.session.jobs)
    widget.notes = []
    widget.session.note.connect(widget.notes.append)
    widget.session.remark.connect(widget.notes.append)
    return widget


def write(scans, path, number, names):
    """Write labels whose first structure is row 5, the second row 6, and so on."""
    scan = scans[1][number]
    labels = np.zeros(scan.data.shape, np.int32)
    for row, value in enumerate(names, 5):
        labels[4, row] = value
    if any(names.values()):
        return write_slicer(path, labels, scan, names)
    return save_labels(labels, path, like=scan)


def rows(project, name, count):
    """Names of the classes in the rows of the structures."""
    labels = project.labels(name).data
    return [project.class_names.get(int(labels[4, row, 0])) for row in range(5, 5 + count)]


def start_import(dock, qtbot, monkeypatch, name, path):
    """Select a scan and press Import labels…"""
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([str(path)], ""))
    scan_list = dock.panels["Scans"].list
    index = scan_list.table.proxy.mapFromSource(
        scan_list.model.index(scan_list.model.row_of(name), 0)
    )
    place = scan_list.table.visualRect(index).center()
    qtbot.mouseClick(scan_list.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert scan_list.chosen == [name]
    qtbot.mouseClick(scan_list.labels, Qt.MouseButton.LeftButton)


def answer_classes(qtbot, choices, press, heard):
    """Choose classes in the next dialog by their text, and press a button."""

    def look():
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, QDialog) or dialog.objectName() != "ask-classes":
            QTimer.singleShot(20, look)
            return
        (table,) = dialog.findChildren(QTableWidget)
        boxes = [table.cellWidget(row, 1) for row in range(table.rowCount())]
        heard.append(
            [(table.item(row, 0).text(), box.currentText()) for row, box in enumerate(boxes)]
        )
        (ok,) = [
            b for b in dialog.findChildren(QPushButton) if b.text().replace("&", "") == "Import"
        ]
        heard.append(ok.isEnabled())
        for row, text in choices.items():
            box = boxes[row]
            assert isinstance(box, QComboBox)
            box.setFocus()
            # By the keyboard, as the list of a box would be a window of its own.
            QTest.keyClick(box, Qt.Key.Key_Home)
            while box.currentText() != text:
                before = box.currentIndex()
                QTest.keyClick(box, Qt.Key.Key_Down)
                assert box.currentIndex() > before, f"no entry {text!r}"
        heard.append(ok.isEnabled())
        (button,) = [
            b for b in dialog.findChildren(QPushButton) if b.text().replace("&", "") == press
        ]
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    QTimer.singleShot(20, look)


def imported(dock, qtbot, count):
    qtbot.waitUntil(
        lambda: sum("were imported" in note for note in dock.notes) == count, timeout=30_000
    )


def test_equal_names_need_no_question(dock, scans, qtbot, monkeypatch, tmp_path):
    project = dock.session.project
    first = write(scans, tmp_path / "a.nrrd", 0, {1: "liver", 2: "spleen"})
    answer("Those with labels")
    start_import(dock, qtbot, monkeypatch, "p0", first)
    imported(dock, qtbot, 1)
    second = write(scans, tmp_path / "b.nrrd", 1, {1: "Spleen", 2: "LIVER"})
    answer("Those with labels")
    start_import(dock, qtbot, monkeypatch, "p1", second)
    imported(dock, qtbot, 2)
    assert project.class_names == {1: "liver", 2: "spleen"}
    assert rows(project, "p1", 2) == ["spleen", "liver"]
    assert not any("background" in note for note in dock.notes)
    third = write(scans, tmp_path / "c.nrrd", 1, {1: "liver"})
    answer("Those with labels")
    start_import(dock, qtbot, monkeypatch, "p1", third)
    imported(dock, qtbot, 3)
    assert "spleen is not in the labels of p1" in dock.notes[-1]
    assert "Labelled structures…" in dock.notes[-1]


def test_new_names_are_asked_for_in_a_table(dock, scans, qtbot, monkeypatch, tmp_path):
    project = dock.session.project
    project.add_class("liver")
    project.add_class("kidneys")
    path = write(
        scans, tmp_path / "a.nrrd", 0, {1: "left kidney", 2: "Liver", 3: "BODY", 4: "tumour"}
    )
    heard = []
    choices = {0: "kidneys", 2: "Leave out"}
    answer_classes(qtbot, choices, "Import", heard)
    answer("All slices")
    start_import(dock, qtbot, monkeypatch, "p0", path)
    imported(dock, qtbot, 1)
    assert heard[0] == [
        ("left kidney (1)", "New class: left kidney"),
        ("Liver (2)", "liver"),
        ("BODY (3)", "New class: BODY"),
        ("tumour (4)", "New class: tumour"),
    ]
    assert heard[1] is True
    assert rows(project, "p0", 4) == ["kidneys", "liver", None, "tumour"]
    assert "New classes: tumour" in dock.notes[-1]


def test_unclear_structures_must_be_chosen(dock, scans, qtbot, monkeypatch, tmp_path):
    project = dock.session.project
    project.add_class("liver")
    path = write(scans, tmp_path / "a.nrrd", 0, {1: "liver", 2: "liver "})
    heard = []
    answer_classes(qtbot, {0: "liver", 1: "Leave out"}, "Import", heard)
    answer("None")
    start_import(dock, qtbot, monkeypatch, "p0", path)
    imported(dock, qtbot, 1)
    assert heard == [[("liver (1)", "Choose …"), ("liver (2)", "Choose …")], False, True]
    assert rows(project, "p0", 2) == ["liver", None]


def test_values_without_names_are_asked_for_and_remembered(
    dock, scans, qtbot, monkeypatch, tmp_path
):
    project = dock.session.project
    project.add_class("liver")
    project.add_class("spleen")
    heard = []
    answer_classes(qtbot, {0: "spleen", 1: "Leave out"}, "Import", heard)
    answer("None")
    first = write(scans, tmp_path / "a.nii.gz", 0, {1: None, 1035: None})
    start_import(dock, qtbot, monkeypatch, "p0", first)
    imported(dock, qtbot, 1)
    assert heard[0] == [("value 1", "liver"), ("value 1035", "Choose …")]
    assert rows(project, "p0", 2) == ["spleen", None]
    answer_classes(qtbot, {}, "Import", heard)
    answer("None")
    second = write(scans, tmp_path / "b.nii.gz", 1, {1: None, 1035: None})
    start_import(dock, qtbot, monkeypatch, "p1", second)
    imported(dock, qtbot, 2)
    assert heard[3] == [("value 1", "spleen"), ("value 1035", "Leave out")]
    assert rows(project, "p1", 2) == ["spleen", None]


def test_cancelling_imports_nothing(dock, scans, qtbot, monkeypatch, tmp_path):
    project = dock.session.project
    project.add_class("liver")
    heard = []
    answer_classes(qtbot, {}, "Cancel", heard)
    path = write(scans, tmp_path / "a.nrrd", 0, {1: "spleen"})
    start_import(dock, qtbot, monkeypatch, "p0", path)
    qtbot.waitUntil(lambda: len(heard) == 3)
    qtbot.waitUntil(lambda: QApplication.activeModalWidget() is None)
    assert not dock.session.jobs
    assert not project.has_labels("p0")
    assert project.class_names == {1: "liver"}


def test_255_is_kept_as_unknown_and_the_note_says_so(dock, scans, qtbot, monkeypatch, tmp_path):
    project = dock.session.project
    path = write(scans, tmp_path / "a.nii.gz", 0, {1: "", 2: "", 255: ""})
    answer("Those with labels")
    start_import(dock, qtbot, monkeypatch, "p0", path)
    imported(dock, qtbot, 1)
    assert "255 is kept as unknown" in dock.notes[-1]
    assert set(project.class_names) == {1, 2}
    qtbot.waitUntil(lambda: dock.scene.labels is not None and (dock.scene.labels.data == 255).any())
    assert dict(dock.scene.labels.features.to_numpy())[255] == "unknown"
