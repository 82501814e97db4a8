"""Columns of the tables in a real window: names differ, and nothing else is cut off."""

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import QRect
from qtpy.QtGui import QFont, QFontMetrics
from qtpy.QtWidgets import QStyleOptionViewItem

from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.inspect.score_rows import ScoreRow
from napari_sslseg.gui.inspect.score_table import ScoreTable
from napari_sslseg.gui.scans.scan_table import DONE, PATIENT, SCAN, USE
from napari_sslseg.gui.widget import FewShotWidget

NAMES = [f"UKE-2024_MRT-Abdomen_Pat{number:04d}_t1_vibe_tra_bh" for number in range(4)]


@pytest.fixture
def dock(viewer, qtbot, tmp_path, monkeypatch):
    """The window with scans that have long names, one of them held out."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    paths = []
    for seed, name in enumerate(NAMES):
        values = np.random.default_rng(seed).normal(300, 60, (8, 8, 6)).astype(np.int16)
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), paths[-1])
    with Project.create(tmp_path / "project") as project:
        project.add_scans(paths)
        for number, name in enumerate(NAMES):
            project.set_subject(name, f"2024-UKE-ABDOMEN-{number:05d}")
        project.set_role(NAMES[0], "test")
    widget = FewShotWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Few-shot segmentation", area="right")
    assert widget.session.open(tmp_path / "project")
    widget.session.select(NAMES[0])
    qtbot.waitUntil(lambda: widget.session.current == NAMES[0])
    yield widget
    qtbot.waitUntil(lambda: not widget.session.jobs)
    widget.session.close()


def drawn(table, row, column):
    """The text that a table draws in a cell."""
    index = table.model().index(row, column)
    option = QStyleOptionViewItem()
    option.rect = QRect(table.visualRect(index))
    option.font = table.font()
    delegate = table.itemDelegateForColumn(column) or table.itemDelegate()
    delegate.initStyleOption(option, index)
    return option.text


def test_scans_patients_and_uses_are_seen_without_scrolling(dock, qtbot):
    table = dock.panels["Scans"].list.table
    for column in (SCAN, PATIENT, DONE, USE):
        end = table.columnViewportPosition(column) + table.columnWidth(column)
        assert end <= table.viewport().width()
    bold = QFont(table.font())
    bold.setBold(True)  # The scan that is shown is held out.
    assert QFontMetrics(bold).horizontalAdvance("Held out") + 8 <= table.columnWidth(USE)
    for column in (SCAN, PATIENT):
        assert len({drawn(table, row, column) for row in range(len(NAMES))}) == len(NAMES)
    # In a wide dock all is whole.
    table.resize(1400, table.height())
    assert [drawn(table, row, SCAN) for row in range(len(NAMES))] == NAMES
    assert drawn(table, 1, PATIENT) == "2024-UKE-ABDOMEN-00001"


def test_names_of_structures_get_the_room_that_is_left(qtbot):
    table = ScoreTable()
    qtbot.addWidget(table)
    rows = [
        ScoreRow(name, "unseen", structure, 0.8, 3.0, None, slices=2, worst=1, stale=False)
        for name in NAMES
        for structure in ("left kidney with cysts", "left kidney with tumour")
    ]
    table.resize(360, 300)
    table.show()
    table.show_rows(rows, compared=False)
    assert len({drawn(table, row, 1) for row in range(2)}) == 2
    table.resize(1200, 300)
    assert [drawn(table, row, 1) for row in range(2)] == [row.structure for row in rows[:2]]
    assert drawn(table, 0, 0) in NAMES
