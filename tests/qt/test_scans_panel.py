"""The scans step in a real window: projects, scans, the scan list, the view, and closing."""

import os
import shutil
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QApplication,
    QDialogButtonBox,
    QDockWidget,
    QFileDialog,
    QInputDialog,
    QLineEdit,
    QStyleOptionViewItem,
)

from dialogs import answer
from dicom_files import ramp, write_series
from napari_sslseg.core.common.events import Done, Message
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.label.class_edits import rename_class
from napari_sslseg.gui.scans.project_bar import INSIDE
from napari_sslseg.gui.scans.scan_table import PATIENT, PROBLEM
from napari_sslseg.gui.widget import STEPS

PLUGIN = "napari-sslseg"
DOCK = "Few-shot segmentation"


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Three small MR phantoms and a small CT phantom."""
    folder = tmp_path_factory.mktemp("scans")
    for seed, modality, place in ((0, "MR", ""), (1, "MR", ""), (2, "MR", ""), (5, "CT", "ct")):
        scan, labels = make_patient(seed, modality, shape=(24, 40, 40), spacing=(8, 9, 9))
        for kind, volume in (("images", scan), ("labels", labels)):
            (folder / place / kind).mkdir(parents=True, exist_ok=True)
            data = volume.geometry.to_source(volume.data)
            image = nib.Nifti1Image(data, volume.geometry.affine)
            nib.save(image, folder / place / kind / f"{scan.name}.nii.gz")
    return folder


@pytest.fixture
def dock(viewer, monkeypatch, tmp_path):
    """The dock widget, opened as from the plugins menu, without recent projects."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    return widget


@pytest.fixture
def panel(dock):
    return dock.panels["Scans"]


@pytest.fixture
def full(dock, scans, tmp_path, qtbot):
    """The panel with a project of the MR phantoms; the first one is shown."""
    dock.session.create(tmp_path / "project")
    dock.session.add(sorted((scans / "images").iterdir()))
    qtbot.waitUntil(lambda: dock.scene.image is not None)
    idle(dock, qtbot)
    return dock.panels["Scans"]


def idle(dock, qtbot):
    qtbot.waitUntil(lambda: not dock.session.jobs)


def click(qtbot, widget):
    assert widget.isVisible()
    assert widget.isEnabled()
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)


def choosing(monkeypatch, path):
    """Let the file dialogs return a path, or several."""
    several = [str(item) for item in path] if isinstance(path, list) else [str(path)]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: several[0])
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (several[0], ""))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (several[0], ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (several, ""))


def choose_row(panel, qtbot, name):
    index = panel.list.table.proxy.mapFromSource(
        panel.list.model.index(panel.list.model.row_of(name), 0)
    )
    table = panel.list.table
    table.scrollTo(index)
    place = table.visualRect(index).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert panel.list.chosen == [name]
    return place


def drop(widget, paths):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier(0)
    enter = QDragEnterEvent(QPoint(20, 20), copy, data, left, none)
    QApplication.sendEvent(widget, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(widget, QDropEvent(QPointF(20, 20), copy, data, left, none))


def test_scans_that_are_added_while_the_list_is_renewed_are_all_listed(
    dock, panel, qtbot, tmp_path
):
    values = np.random.default_rng(0).normal(300, 60, (6, 6, 4)).astype(np.int16)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        values[0, 0, 0] = number
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"p{number:02}.nii")
    dock.session.create(tmp_path / "project")
    job = dock.session.add([folder])
    rows = []
    while job.active:
        dock.session.scans_changed.emit()  # As each change of the project while scans are added.
        rows.append((panel.list.model.rowCount(), panel.list.table.proxy.rowCount()))
        qtbot.wait(1)
    assert all(model == shown for model, shown in rows)
    assert panel.list.table.proxy.rowCount() == 60
    assert {panel.list.table.proxy.index(row, 0).data() for row in range(60)} == set(
        dock.session.project.names
    )


def test_names_of_scans_differ_in_any_width_of_the_column(dock, panel, qtbot, tmp_path):
    values = np.random.default_rng(0).normal(300, 60, (6, 6, 4)).astype(np.int16)
    names = [f"SC-HF-I-{number:04}_of_the_first_examination_ED" for number in range(3)]
    for number, name in enumerate(names):
        values[0, 0, 0] = number
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii")
    dock.session.create(tmp_path / "project")
    dock.session.add([tmp_path / f"{name}.nii" for name in names])
    idle(dock, qtbot)
    table = panel.list.table

    def shown():
        found = []
        for row in range(3):
            index = table.proxy.index(row, 0)
            option = QStyleOptionViewItem()
            table.initViewItemOption(option)
            option.rect = table.visualRect(index)
            table.itemDelegateForIndex(index).initStyleOption(option, index)
            found.append(option.text)
        return found

    assert len(set(shown())) == 3
    assert all("…" in text for text in shown())
    for width in (90, 120, 200):
        table.setColumnWidth(0, width)
        assert len(set(shown())) == 3
        room = width - table.iconSize().width()
        assert all(table.fontMetrics().horizontalAdvance(text) < room for text in shown())
    dock.viewer.window.resize(1900, 900)
    side = dock
    while not isinstance(side, QDockWidget):
        side = side.parent()
    main = dock.viewer.window._qt_window
    main.resizeDocks([side], [1200], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: shown() == names)


def test_only_some_structures_may_be_labelled_in_a_scan(full, dock, qtbot):
    project = dock.session.project
    for name in ("liver", "spleen"):
        project.add_class(name)
    dock.session.classes_changed.emit()
    first = project.names[0]

    def answer_with(*checked, press):
        def act():
            box = QApplication.activeModalWidget()
            items = [box.list.item(row) for row in range(box.list.count())]
            assert [item.text() for item in items] == ["liver", "spleen"]
            for item in items:
                on = item.text() in checked
                item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
            button = box.findChild(QDialogButtonBox).button(press)
            assert button.isEnabled() == bool(checked)
            if not button.isEnabled():
                box.reject()
            qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

        QTimer.singleShot(50, act)

    ok = QDialogButtonBox.StandardButton.Ok
    choose_row(full, qtbot, first)
    answer_with("spleen", press=ok)
    full.list.ask_labelled()
    assert project.labelled_classes(first) == (2,)
    assert "only spleen labelled" in full.list.detail.text()
    answer_with(press=ok)  # Nothing cannot be chosen.
    full.list.ask_labelled()
    assert project.labelled_classes(first) == (2,)
    answer_with("liver", "spleen", press=ok)
    full.list.ask_labelled()
    assert project.labelled_classes(first) is None


class TestProjects:
    def test_a_new_project_is_listed_as_recent_and_opens_again(
        self, dock, panel, qtbot, monkeypatch, tmp_path
    ):
        assert panel.hint.isVisible()
        assert not panel.list.isVisible()
        folder = tmp_path / "knees"  # A new name, which the user typed.
        choosing(monkeypatch, folder)
        click(qtbot, panel.bar.new)
        assert panel.bar.name.text() == "knees"
        assert (folder / "project.json").is_file()
        dock.session.close()
        recent = [b for b in panel.bar.recent.children() if b.objectName() == "recent-knees"]
        click(qtbot, recent[0])
        assert dock.session.project.folder == folder
        panel.bar.menu.aboutToShow.emit()
        assert panel.bar.menu.actions()[0].text().startswith("knees")

    def test_a_project_in_a_folder_with_files_gets_its_own_subfolder(
        self, dock, panel, qtbot, monkeypatch, tmp_path
    ):
        (tmp_path / "stuff").mkdir()
        (tmp_path / "stuff" / "notes.txt").write_text("mine")
        choosing(monkeypatch, tmp_path / "stuff")
        answer("Cancel")
        click(qtbot, panel.bar.new)
        assert dock.session.project is None
        answer(INSIDE)
        click(qtbot, panel.bar.new)
        assert dock.session.project.folder == tmp_path / "stuff" / "few-shot project"

    def test_a_project_that_cannot_be_opened_is_reported_and_the_current_one_stays_open(
        self, dock, panel, monkeypatch, tmp_path
    ):
        dock.session.create(tmp_path / "mine")
        for name, text in (("damaged", "{"), ("newer", '{"format": 99}')):
            (tmp_path / name).mkdir()
            (tmp_path / name / "project.json").write_text(text)
            choosing(monkeypatch, tmp_path / name)
            panel.bar.ask_open()
            assert dock.problem.isVisible()
            assert name in dock.problem.shown.sentence
            assert (tmp_path / name / "project.json").read_text() == text
        with Project.create(tmp_path / "locked") as locked:
            choosing(monkeypatch, locked.folder)
            panel.bar.ask_open()
            assert "already open" in dock.problem.shown.sentence
        assert dock.session.project.folder == tmp_path / "mine"
        assert panel.bar.name.text() == "mine"


class TestWithoutProject:
    def test_dropped_scans_ask_for_a_project_and_are_added(
        self, dock, panel, qtbot, scans, tmp_path
    ):
        shutil.copytree(scans / "images", tmp_path / "mine")
        files = sorted((tmp_path / "mine").iterdir())
        answer("Cancel")
        drop(panel, files)
        qtbot.wait(300)
        assert dock.session.project is None
        answer("Create it there")
        drop(panel, files)
        qtbot.waitUntil(lambda: dock.session.project is not None)
        idle(dock, qtbot)
        assert dock.session.project.folder == tmp_path / "mine" / "few-shot project"
        assert len(dock.session.project.names) == len(files)

    def test_a_dropped_folder_gets_a_project_beside_it(self, dock, panel, qtbot, scans, tmp_path):
        shutil.copytree(scans / "images", tmp_path / "mine")
        answer("Create it there")
        drop(panel, [tmp_path / "mine"])
        qtbot.waitUntil(lambda: dock.session.project is not None)
        idle(dock, qtbot)
        assert dock.session.project.folder == tmp_path / "few-shot project"
        assert len(dock.session.project.names) == 3

    def test_scans_on_the_canvas_are_offered(self, dock, panel, viewer, qtbot, scans, tmp_path):
        shutil.copytree(scans / "images", tmp_path / "mine")
        file = min((tmp_path / "mine").iterdir())
        viewer.open(str(file), plugin=PLUGIN)
        assert panel.opened_box.isVisible()
        answer("Create it there")
        click(qtbot, panel.opened_add)
        idle(dock, qtbot)
        assert len(dock.session.project.names) == 1
        assert not panel.opened_box.isVisible()

    def test_example_patients_are_ready_to_label(self, dock, panel, qtbot, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        click(qtbot, panel.example)
        qtbot.waitUntil(lambda: dock.session.project is not None or dock.problem.shown is not None)
        assert dock.problem.shown is None
        qtbot.waitUntil(lambda: not dock.session.jobs)
        project = dock.session.project
        assert len(project.names) == 6
        assert len({project.entry(name).subject for name in project.names}) == 6
        assert len(project.classes) == 3
        assert tmp_path in project.folder.parents
        assert dock.scene.image is not None
        assert dock.steps.button(STEPS.index("Label")).isEnabled()


class TestAdding:
    def test_dropped_files_are_added_and_broken_ones_are_listed(
        self, dock, panel, qtbot, scans, tmp_path
    ):
        dock.session.create(tmp_path / "project")
        broken = tmp_path / "broken.nii.gz"
        broken.write_bytes(b"no scan at all")
        drop(panel, [*sorted((scans / "images").iterdir()), broken])
        idle(dock, qtbot)
        assert len(dock.session.project.names) == 3
        assert panel.list.model.rowCount() == 3
        assert "1 file was" in panel.left_out_toggle.text()
        assert not panel.left_out.isVisible()
        click(qtbot, panel.left_out_toggle)
        assert panel.left_out.isVisible()
        assert panel.left_out.item(0).text().startswith(broken.name)
        assert panel.left_out.item(0).toolTip() == str(broken)
        # It is forgotten with the scans that it was left out with.
        for name in panel.session.project.names:
            choose_row(panel, qtbot, name)
            answer("Remove")
            click(qtbot, panel.list.remove)
        assert not panel.left_out_box.isVisible()

    def test_labels_and_single_slices_are_not_added_as_scans(
        self, dock, panel, qtbot, scans, tmp_path
    ):
        dock.session.create(tmp_path / "project")
        image = next((scans / "images").iterdir())
        name = image.name.removesuffix(".nii.gz")
        labels = tmp_path / f"{name}_labels.nii.gz"
        shutil.copy(scans / "labels" / image.name, labels)
        alone = tmp_path / "elsewhere_mask.nii.gz"
        grid = np.diag([3.0, 3, 3, 1])
        nib.save(nib.Nifti1Image(np.eye(9, dtype=np.uint8)[None].repeat(9, 0), grid), alone)
        picture = tmp_path / "picture.nii.gz"
        grey = np.arange(100, 500, dtype=np.int16).reshape(20, 20, 1)
        nib.save(nib.Nifti1Image(grey, grid), picture)
        drop(panel, [labels, image, alone, picture])
        idle(dock, qtbot)
        assert dock.session.project.names == (name,)
        assert not dock.session.project.has_labels(name)
        assert "3 files were" in panel.left_out_toggle.text()
        click(qtbot, panel.left_out_toggle)
        said = {panel.left_out.item(row).text() for row in range(panel.left_out.count())}
        assert len(said) == 3
        by_file = {sentence.split()[0]: sentence for sentence in said}
        assert name in by_file[labels.name]
        assert "Import labels" in by_file[labels.name]
        assert "Import labels" in by_file[alone.name]
        assert "only one slice" in by_file[picture.name]

    def test_the_buttons_add_files_and_dicom_folders(
        self, dock, panel, qtbot, monkeypatch, scans, data_dir, tmp_path
    ):
        dock.session.create(tmp_path / "project")
        choosing(monkeypatch, sorted((scans / "images").iterdir())[:2])
        click(qtbot, panel.add_files)
        assert panel.stop.isVisible()
        idle(dock, qtbot)
        shutil.copytree(data_dir / "dicom/mr_ge_papaya_20", tmp_path / "tree/deep/er")
        choosing(monkeypatch, tmp_path / "tree")
        click(qtbot, panel.add_folder)
        idle(dock, qtbot)
        assert len(dock.session.project.names) == 3
        model = panel.list.model
        texts = [model.index(2, column).data() for column in range(model.columnCount())]
        assert texts[5] == "MR"
        assert texts[6].startswith("20 × ")
        assert texts[7].count("×") == 2

    def test_a_scan_dropped_on_the_canvas_is_offered_and_added(
        self, full, dock, viewer, qtbot, scans
    ):
        (path,) = (scans / "ct/images").iterdir()
        assert not full.opened_box.isVisible()
        viewer.open(str(path), plugin=PLUGIN)  # As napari does with dropped files.
        assert "phantom_ct_005" in full.opened_text.text()
        click(qtbot, full.opened_add)
        idle(dock, qtbot)
        assert "phantom_ct_005" in dock.session.project.names
        assert not full.opened_box.isVisible()
        assert "phantom_ct_005" not in [layer.name for layer in viewer.layers]
        # A scan that is already in the project is not offered.
        viewer.open(str(path), plugin=PLUGIN)
        assert not full.opened_box.isVisible()


class TestList:
    def test_double_click_and_enter_show_the_scan_of_a_row(self, full, dock, viewer, qtbot):
        table = full.list.table
        place = choose_row(full, qtbot, "phantom_mr_001")
        qtbot.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
        qtbot.waitUntil(lambda: dock.session.current == "phantom_mr_001")
        assert dock.scene.image.name == "phantom_mr_001"
        choose_row(full, qtbot, "phantom_mr_002")
        qtbot.keyClick(table, Qt.Key.Key_Return)
        qtbot.waitUntil(lambda: dock.session.current == "phantom_mr_002")
        assert all(full.thumbnails.get(name) is not None for name in dock.session.project.names)

    def test_a_click_on_the_header_sorts_the_list(self, full, qtbot):
        header = full.list.table.horizontalHeader()
        proxy = full.list.table.proxy
        up = ["phantom_mr_000", "phantom_mr_001", "phantom_mr_002"]
        full.list.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        place = QPoint(header.sectionViewportPosition(0) + 20, header.height() // 2)
        for wanted in (up[::-1], up):
            qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)
            assert [proxy.index(row, 0).data() for row in range(3)] == wanted

    def test_a_role_applies_to_all_scans_of_the_patient_and_is_reported(
        self, full, dock, qtbot, notifications
    ):
        project = dock.session.project
        project.set_subject("phantom_mr_001", "phantom_mr_000")
        dock.session.scans_changed.emit()
        choose_row(full, qtbot, "phantom_mr_000")
        full.list.use.setFocus()
        qtbot.keyClick(full.list.use, Qt.Key.Key_Down)
        qtbot.keyClick(full.list.use, Qt.Key.Key_Return)
        if (
            project.entry("phantom_mr_000").role == "train"
        ):  # The effect of the keys depends on the Qt style.
            full.list.use.activated.emit(1)
        assert {s.name: s.role for s in project.record.scans} == {
            "phantom_mr_000": "test", "phantom_mr_001": "test", "phantom_mr_002": "train",
        }  # fmt: skip
        assert "phantom_mr_001" in notifications()[-1][1]

    def test_a_scan_is_removed_after_confirmation(self, full, dock, qtbot):
        project = dock.session.project
        dock.session.mark_done("phantom_mr_000", [3])
        choose_row(full, qtbot, "phantom_mr_000")
        answer("Cancel")
        click(qtbot, full.list.remove)
        assert "phantom_mr_000" in project.names
        answer("Remove")
        qtbot.keyClick(full.list.table, Qt.Key.Key_Delete)
        assert "phantom_mr_000" not in project.names
        assert dock.scene.image is None
        assert full.list.model.rowCount() == 2
        assert list((project.folder / "labels/aside").iterdir())

    def test_a_missing_scan_is_reported_and_found_again(
        self, dock, panel, qtbot, monkeypatch, scans, tmp_path
    ):
        here = tmp_path / "here"
        shutil.copytree(scans / "images", here)
        dock.session.create(tmp_path / "project")
        dock.session.add([here])
        idle(dock, qtbot)
        (tmp_path / "archive").mkdir()
        moved = [here / f"phantom_mr_00{number}.nii.gz" for number in (1, 2)]
        for path in moved:
            shutil.move(path, tmp_path / "archive")
        # Both are marked when the user wants to see one of them.
        choose_row(panel, qtbot, "phantom_mr_001")
        assert panel.list.show_button.isVisible()
        qtbot.keyClick(panel.list.table, Qt.Key.Key_Return)
        idle(dock, qtbot)
        assert set(panel.scan_actions.problems) == {"phantom_mr_001", "phantom_mr_002"}
        assert "2 scans cannot be used" in dock.next.text()
        assert panel.list.find_button.isVisible()
        assert "is missing" in panel.list.detail.text()
        index = panel.list.table.proxy.index(1, PROBLEM)
        assert index.data() == "Missing"
        assert "is missing" in index.data(Qt.ItemDataRole.ToolTipRole)
        assert not panel.list.show_button.isEnabled()
        choosing(monkeypatch, tmp_path / "archive" / moved[0].name)
        click(qtbot, panel.list.find_button)
        idle(dock, qtbot)
        assert not panel.scan_actions.problems
        assert dock.session.project.problems() == {}
        assert not panel.list.find_button.isVisible()

    @pytest.mark.parametrize("choice", ["Those with labels", "All slices", "None"])
    def test_labels_are_imported(self, full, dock, qtbot, monkeypatch, scans, choice):
        path = scans / "labels/phantom_mr_000.nii.gz"
        choose_row(full, qtbot, "phantom_mr_000")
        choosing(monkeypatch, path)
        answer(choice)
        click(qtbot, full.list.labels)
        project, name = dock.session.project, "phantom_mr_000"
        qtbot.waitUntil(lambda: project.has_labels(name))
        qtbot.waitUntil(lambda: not dock.session.jobs and dock.scene.labels is not None)
        shown = dock.scene.labels.data
        assert set(np.unique(shown)) == set(np.unique(nib.load(path).dataobj))
        with_labels = tuple(np.flatnonzero(shown.any(axis=(1, 2))).tolist())
        wanted = {"Those with labels": with_labels, "All slices": tuple(range(24)), "None": ()}
        assert dock.session.project.done("phantom_mr_000") == wanted[choice]

    def test_of_two_hundred_scans_only_visible_ones_are_read(
        self, dock, panel, qtbot, scans, tmp_path
    ):
        dock.session.create(tmp_path / "project")
        dock.session.add([scans / "images"])
        idle(dock, qtbot)
        project = dock.session.project
        one = project.record.scans[0]
        from napari_sslseg.core.project.record import with_changes

        more = tuple(
            with_changes(one, name=f"scan_{n:03d}", subject=f"patient_{n:03d}", content=f"{n:032x}")
            for n in range(200)
        )
        project.change(lambda record: with_changes(record, scans=record.scans + more))

        dock.session.scans_changed.emit()
        assert panel.list.model.rowCount() == 203
        idle(dock, qtbot)
        assert len(panel.thumbnails._pictures) < 40

    def test_the_modality_of_a_scan_is_corrected_by_the_menu(self, full, dock, qtbot):
        project, rows = dock.session.project, full.list
        name, other = project.names[:2]
        assert dock.session.current == name
        before = dock.scene.image.contrast_limits
        rows.table.selectRow(rows.table.proxy.mapFromSource(
            rows.model.index(rows.model.row_of(name), 0)
        ).row())  # fmt: skip
        assert rows.chosen == [name]

        def pick():
            menu = QApplication.activePopupWidget()
            (action,) = [one for one in menu.actions() if one.text() == "Modality: CT"]
            menu.setActiveAction(action)
            qtbot.keyClick(menu, Qt.Key.Key_Return)

        QTimer.singleShot(300, pick)
        rows.table.customContextMenuRequested.emit(QPoint(5, 5))
        idle(dock, qtbot)
        assert project.entry(name).modality == "CT"
        assert project.entry(other).modality == "MR"
        assert project.load(name).modality == "CT"
        assert dock.session.current == name
        assert dock.scene.image.contrast_limits != before


class TestView:
    def test_changing_the_plane_asks_before_slices_are_unmarked(self, full, dock, viewer, qtbot):
        project = dock.session.project
        coronal, axial = (full.view.planes.button(number) for number in (1, 0))
        click(qtbot, coronal)
        assert project.plane == "coronal"
        assert viewer.dims.order[0] == 1
        assert dock.scene.slice == dock.scene.image.data.shape[1] // 2
        dock.session.mark_done("phantom_mr_000", [4, 5])
        seen = []
        answer("Cancel", seen)
        click(qtbot, axial)
        assert len(seen) == 1
        assert "2 slices" in seen[0]
        assert "axial" in seen[0]
        assert project.plane == "coronal"
        assert coronal.isChecked()
        answer("Unmark 2 slices")
        click(qtbot, axial)
        assert project.plane == "axial"
        assert project.done("phantom_mr_000") == ()

    def test_ct_and_mr_have_their_own_intensity_windows(self, full, dock, qtbot, scans):
        view = full.view
        assert view.preset.currentText() == "Auto"
        dock.session.add([scans / "ct/images"])
        idle(dock, qtbot)
        dock.session.select("phantom_ct_005")
        qtbot.waitUntil(lambda: dock.session.current == "phantom_ct_005")
        assert view.preset.currentText() == "Soft tissue"
        assert (view.width_box.value(), view.level_box.value()) == (400, 40)
        view.preset.textActivated.emit("Lung")
        assert tuple(dock.scene.image.contrast_limits) == (-1350, 150)
        # The window is used again for the next CT.
        idle(dock, qtbot)
        dock.session.select("phantom_mr_000")
        qtbot.waitUntil(lambda: dock.session.current == "phantom_mr_000")
        assert view.preset.currentText() == "Auto"
        dock.session.select("phantom_ct_005")
        qtbot.waitUntil(lambda: dock.session.current == "phantom_ct_005")
        assert (view.width_box.value(), view.level_box.value()) == (1500, -600)

    def test_shift_and_drag_changes_only_the_intensity_window(self, full, dock, viewer, qtbot):
        labels = dock.scene.labels
        labels.mode = "paint"
        viewer.layers.selection = {labels}
        canvas = viewer.window._qt_viewer.canvas.native
        width, level = full.windowing.window
        centre, camera = canvas.rect().center(), viewer.camera.center
        qtbot.mouseMove(canvas, centre)
        left, shift = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier
        qtbot.mousePress(canvas, left, shift, centre)
        for step in range(1, 6):
            qtbot.wait(30)  # vispy leaves out moves that follow too quickly
            move(canvas, centre + QPoint(20 * step, 10 * step), shift)
        assert full.view.preset.currentText() == "Custom"
        qtbot.mouseRelease(canvas, left, shift, centre + QPoint(100, 50))
        wider, higher = full.windowing.window
        assert wider == pytest.approx(width * 2 ** (100 / 300), rel=0.05)
        assert higher == pytest.approx(level + width * 50 / 300, rel=0.05)
        assert not labels.data.any()
        assert viewer.camera.center == camera
        assert viewer.layers.selection == {labels}


def move(canvas, place, modifiers):
    from qtpy.QtCore import QEvent
    from qtpy.QtGui import QMouseEvent

    left = Qt.MouseButton.LeftButton
    everywhere = QPointF(place), QPointF(canvas.mapToGlobal(place))
    event = QMouseEvent(
        QEvent.Type.MouseMove, *everywhere, Qt.MouseButton.NoButton, left, modifiers
    )
    QApplication.sendEvent(canvas, event)


def training(ends):
    """A job that runs until it is stopped, then takes 0.2 s to save."""

    def events(stop, pause):
        while not stop.is_set:
            yield Message("learning")
            time.sleep(0.01)
        time.sleep(0.2)
        ends.append("saved")
        yield Done(None, stopped=True)

    return events


def forget_window(viewer):
    """Prevent the fixture from closing the window a second time."""
    del viewer.window._qt_window


def is_free(folder):
    """Return True if the project can be opened, so that no process holds its lock."""
    with Project.open(folder):
        return True


class TestClosing:
    def test_closing_napari_saves_and_releases_the_project(self, full, dock, viewer):
        folder, saved = dock.session.project.folder, []
        dock.session.before_closing(lambda: saved.append(dock.scene.labels.data.shape))
        viewer.window._qt_window.close()
        forget_window(viewer)
        assert saved
        assert is_free(folder)

    def test_closing_asks_before_strokes_on_another_layer_are_lost(self, full, dock, viewer, qtbot):
        project, name = dock.session.project, dock.session.current
        folder = project.folder
        project.add_class("liver")
        dock.session.classes_changed.emit()
        window, labels = viewer.window._qt_window, dock.scene.labels
        layer = viewer.add_labels(
            np.zeros(labels.data.shape, np.uint8), scale=labels.scale, translate=labels.translate
        )
        layer.data_setitem((np.array([1]), np.array([2]), np.array([3])), 1)
        questions = []
        answer("Cancel", questions)
        window.close()
        assert window.isVisible()
        assert layer.name in questions[0]
        answer("Take them over and close")
        window.close()
        forget_window(viewer)
        with Project.open(folder) as again:
            assert again.labels(name).data[1, 2, 3]

    def test_a_script_that_closes_the_viewer_stops_the_training_and_releases_the_project(
        self, full, dock, viewer
    ):
        folder, ends = dock.session.project.folder, []
        dock.session.run("finetune", "Fine-tuning", training(ends))
        viewer.close()
        assert ends == ["saved"]
        assert is_free(folder)

    def test_the_problem_that_a_name_is_taken_ends_with_another_name(self, full, dock):
        for name in ("femur", "tibia"):
            dock.session.project.add_class(name)
        rename_class(dock.session, 2, "Femur")
        assert "femur" in dock.problem.shown.sentence
        rename_class(dock.session, 2, "patella")
        assert dock.problem.shown is None

    @pytest.mark.parametrize("button", ["ask_new", "ask_open"])
    def test_no_place_is_asked_for_during_a_training(self, full, dock, monkeypatch, button):
        def refuse(*_, **__):
            pytest.fail("a place was asked for in vain")

        monkeypatch.setattr(QFileDialog, "getSaveFileName", refuse)
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", refuse)
        job = dock.session.run("finetune", "Fine-tuning", training([]))
        getattr(full.bar, button)()
        assert "training is running" in dock.problem.shown.sentence
        job.stop()

    def test_closing_during_a_training_asks_and_saves_it_first(self, full, dock, viewer, qtbot):
        folder, ends = dock.session.project.folder, []
        window = viewer.window._qt_window
        dock.session.run("finetune", "Fine-tuning", training(ends))
        answer("Cancel")
        window.close()
        assert window.isVisible()
        assert dock.session.training is not None
        answer("Stop it and close")
        window.close()
        assert window.isVisible()  # The window stays responsive while the training is saved.
        qtbot.waitUntil(lambda: dock.shutdown.over)
        forget_window(viewer)
        assert ends == ["saved"]
        assert is_free(folder)

    def test_closing_the_dock_releases_the_project_and_a_new_dock_opens(
        self, full, dock, viewer, qtbot
    ):
        folder = dock.session.project.folder
        for step in STEPS:
            dock.show_step(step)
        ours = [c for c in viewer.mouse_drag_callbacks if c.__module__.startswith("napari_sslseg")]
        assert ours
        assert {"D", "N", "U"} <= {str(key) for key in viewer.keymap}
        click(qtbot, dock.parent().title.close_button)
        qtbot.waitUntil(lambda: dock.shutdown.over)
        assert is_free(folder)
        assert not viewer.layers
        assert not set(ours) & set(viewer.mouse_drag_callbacks)
        assert not viewer.keymap
        _, again = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
        assert again is not dock
        assert again.session.open(folder)
        qtbot.waitUntil(lambda: again.scene.image is not None)
        assert len(viewer.layers) == 2

    def test_the_dock_stays_open_while_a_training_runs(
        self, full, dock, viewer, qtbot, notifications
    ):
        ends = []
        job = dock.session.run("pretrain", "Pretraining", training(ends))
        click(qtbot, dock.parent().title.close_button)
        qtbot.waitUntil(dock.isVisible)
        assert dock.session.project is not None
        assert "stop it first" in notifications()[-1][1]
        job.stop()
        idle(dock, qtbot)

    def test_hiding_the_dock_keeps_the_project_open(self, full, dock, qtbot):
        click(qtbot, dock.parent().title.hide_button)
        assert not dock.isVisible()
        assert dock.session.project is not None


OPENED = """
import sys
import napari
viewer = napari.Viewer(show=True)
viewer.window.add_plugin_dock_widget("napari-sslseg", "Few-shot segmentation")
heavy = {"torch", "monai", "SimpleITK", "highdicom", "matplotlib", "pyqtgraph"} & set(sys.modules)
print("heavy:", *sorted(heavy))
viewer.close()
"""


def test_the_dock_opens_without_importing_heavy_packages(tmp_path):
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OPENED],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_the_dock_opens_from_the_plugins_menu(viewer, qtbot):
    menu = viewer.window.plugins_menu
    menu.aboutToShow.emit()
    action = next(a for a in menu.actions() if a.text() == "Few-shot segmentation (napari-sslseg)")
    action.trigger()
    assert "Few-shot segmentation (napari-sslseg)" in viewer.window.dock_widgets


def test_a_thumbnail_has_the_proportions_of_the_scan():
    from napari_sslseg.gui.scans.thumbnails import middle_slice

    volume, _ = make_patient(0, "CT", shape=(10, 40, 80), spacing=(5, 4, 2))
    assert middle_slice(volume).shape == (64, 64)
    assert middle_slice(volume, "coronal").shape == (20, 64)


@pytest.fixture
def visits(dock, tmp_path, qtbot):
    """The panel with two visits of each of three patients, whose names do not clearly say so."""
    for seed, name in enumerate(f"genius_0{p}0{v}" for p in (7, 8, 9) for v in range(2)):
        values = np.random.default_rng(seed).integers(0, 900, (12, 10, 6)).astype(np.int16)
        (tmp_path / "visits").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "visits" / f"{name}.nii.gz")
    dock.session.create(tmp_path / "project")
    dock.session.add([tmp_path / "visits"])
    qtbot.waitUntil(lambda: dock.scene.image is not None)
    idle(dock, qtbot)
    return dock.panels["Scans"]


class TestPatients:
    def edit(self, panel, qtbot, name, text, key=None):
        """Edit the patient of a scan with the mouse, or with a key."""
        choose_row(panel, qtbot, name)
        table, row = panel.list.table, panel.list.model.row_of(name)
        index = panel.list.table.proxy.mapFromSource(panel.list.model.index(row, PATIENT))
        place = table.visualRect(index).center()
        if key is None:
            qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
            qtbot.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
        else:
            qtbot.keyClick(table, key)
        qtbot.waitUntil(lambda: table.findChild(QLineEdit) is not None)
        editor = table.findChild(QLineEdit)
        editor.selectAll()
        qtbot.keyClicks(editor, text)
        qtbot.keyClick(editor, Qt.Key.Key_Return)
        qtbot.waitUntil(lambda: table.findChild(QLineEdit) is None)

    def test_the_guess_is_shown_with_its_doubt(self, visits):
        model = visits.list.model
        assert model.headerData(PATIENT, Qt.Orientation.Horizontal) == "Patient"
        shown = [model.index(row, PATIENT).data() for row in range(model.rowCount())]
        assert shown == ["genius_07"] * 2 + ["genius_08"] * 2 + ["genius_09"] * 2
        text = visits.list.patients.text()
        assert visits.list.patients.isVisible()
        assert "6 scans of 3 patients" in text
        assert "genius_0700 and genius_0701" in text
        table = visits.list.table
        where = table.columnViewportPosition(PATIENT) + table.columnWidth(PATIENT)
        assert where <= table.viewport().width()

    def test_a_patient_is_corrected_by_mouse_and_key_and_stays(self, dock, visits, qtbot):
        current = dock.session.current
        self.edit(visits, qtbot, "genius_0701", "Anna")
        self.edit(visits, qtbot, "genius_0801", "Anna", Qt.Key.Key_F2)
        project = dock.session.project
        assert project.entry("genius_0701").subject == "Anna"
        assert project.entry("genius_0801").subject == "Anna"
        assert dock.session.current == current
        assert "6 scans of 4 patients" in visits.list.patients.text()
        assert "taken for one" not in visits.list.patients.text()
        # Blanks alone are a slip, and an undo of labels is another matter.
        self.edit(visits, qtbot, "genius_0900", "   ")
        assert project.entry("genius_0900").subject == "genius_09"
        dock.scene.labels.undo()
        folder = project.folder
        dock.session.close()
        assert dock.session.open(folder)
        assert dock.session.project.entry("genius_0701").subject == "Anna"

    def test_a_scan_takes_the_use_of_its_new_patient(self, dock, visits, qtbot):
        dock.session.set_role("genius_0900", "test")
        notes = []
        dock.session.note.connect(notes.append)
        self.edit(visits, qtbot, "genius_0700", "genius_09")
        assert dock.session.project.entry("genius_0700").role == "test"
        assert any("genius_0700" in note and "held out" in note for note in notes)

    def test_the_patient_of_several_scans_is_chosen(self, dock, visits, qtbot, monkeypatch):
        asked = []
        monkeypatch.setattr(
            QInputDialog, "getItem", lambda *words: (asked.append(words[3]) or " Bert ", True)
        )
        visits.list.table.selectAll()
        click(qtbot, visits.list.patient)
        assert asked == [["genius_07", "genius_08", "genius_09"]]
        assert {entry.subject for entry in dock.session.project.record.scans} == {"Bert"}
        assert "6 scans of 1 patient: all" in visits.list.patients.text()


@pytest.fixture
def organs(tmp_path):
    """Scans of two patients with one file per organ, as TotalSegmentator writes them."""
    for seed, (patient, present) in enumerate((("s0", ("liver", "spleen")), ("s1", ("spleen",)))):
        values = np.random.default_rng(seed).integers(0, 900, (12, 10, 6)).astype(np.int16)
        (tmp_path / "ts" / patient / "segmentations").mkdir(parents=True)
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "ts" / patient / "ct.nii.gz")
        for organ in present:
            mask = np.zeros((12, 10, 6), np.uint8)
            mask[2 : 5 if organ == "liver" else 4, 2:8, :3] = 1
            mask = mask if organ == "liver" else mask[::-1]
            path = tmp_path / "ts" / patient / "segmentations" / f"{organ}.nii.gz"
            nib.save(nib.Nifti1Image(mask, np.eye(4)), path)
    return tmp_path / "ts"


class TestLabelsBesideScans:
    def test_one_click_imports_the_labels_of_all_scans(self, dock, panel, organs, qtbot, tmp_path):
        dock.session.create(tmp_path / "project")
        dock.session.add([organs])
        idle(dock, qtbot)
        project = dock.session.project
        assert project.names == ("s0_ct", "s1_ct")
        assert panel.import_found.text() == "Import the labels of 2 scans…"
        answer("Those with labels")
        click(qtbot, panel.import_found)
        idle(dock, qtbot)
        value = {name: value for value, name in project.class_names.items()}
        assert set(value) == {"liver", "spleen"}
        assert set(np.unique(project.labels("s0_ct").data)) == {0, *value.values()}
        # The only organ of the other patient keeps its class.
        assert set(np.unique(project.labels("s1_ct").data)) == {0, value["spleen"]}
        assert len(project.done("s1_ct")) == 3
        assert not panel.left_out_box.isVisible()

    def test_several_files_of_a_scan_are_chosen_in_the_dialog(
        self, dock, panel, organs, qtbot, monkeypatch, tmp_path
    ):
        dock.session.create(tmp_path / "project")
        dock.session.add([organs])
        idle(dock, qtbot)
        choose_row(panel, qtbot, "s0_ct")
        choosing(monkeypatch, sorted((organs / "s0" / "segmentations").iterdir()))
        answer("All slices")
        click(qtbot, panel.list.labels)
        qtbot.waitUntil(lambda: dock.session.project.has_labels("s0_ct"))
        idle(dock, qtbot)
        assert set(dock.session.project.class_names.values()) == {"liver", "spleen"}
        assert panel.import_found.text() == "Import the labels of 1 scan…"


def test_what_is_doubtful_about_added_scans_stays_on_the_screen(dock, panel, qtbot, tmp_path):
    for number in range(2):

        def anonymise(ds, index):
            ds.PatientID = ds.PatientName = "ANONYMOUS"

        write_series(tmp_path / "export" / str(number), ramp() + number, edit=anonymise)
    dock.session.create(tmp_path / "project")
    dock.session.add([tmp_path / "export"])
    idle(dock, qtbot)
    assert len({entry.subject for entry in dock.session.project.record.scans}) == 2
    assert "1 note" in panel.left_out_toggle.text()
    click(qtbot, panel.left_out_toggle)
    texts = [panel.left_out.item(i).text() for i in range(panel.left_out.count())]
    assert any("each study" in text for text in texts)
