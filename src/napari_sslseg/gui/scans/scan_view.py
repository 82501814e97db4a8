"""The table that shows scans: its columns, its keys, and names that fit their column."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import (
    QItemSelectionModel,
    QSize,
    QSortFilterProxyModel,
    Qt,
)
from qtpy.QtGui import QKeyEvent, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QTableView,
)

from napari_sslseg.gui.scans.scan_table import (
    COLUMNS,
    NAME_ROLE,
    PATIENT,
    PROBLEM,
    SCAN,
    SORT_ROLE,
    THUMBNAIL,
    USE,
    USES,
)
from napari_sslseg.gui.widgets.name_delegate import PADDING, NameDelegate, widths

if TYPE_CHECKING:
    from napari_sslseg.gui.scans.scan_table import ScanTable

LEAST_ROWS = 3


class ScanView(QTableView):
    """A sorted table of scans. Enter shows a scan, Delete removes it, and F2 edits its patient.

    Parameters
    ----------
    model : ScanTable
        The scans.
    show, remove : callable
        Called for the selected scans.
    """

    def __init__(
        self, model: "ScanTable", show: Callable[[], None], remove: Callable[[], None]
    ) -> None:
        super().__init__()
        self._scans = model
        self._whole_names = 0
        self._keys = {
            Qt.Key.Key_F2: self._edit_patient,
            Qt.Key.Key_Return: show,
            Qt.Key.Key_Enter: show,
            Qt.Key.Key_Delete: remove,
        }
        self.proxy = QSortFilterProxyModel(self)
        self.proxy.setSourceModel(model)
        self.proxy.setSortRole(SORT_ROLE)
        self.setObjectName("scan-table")
        self.setAccessibleName("Scans of the project")
        self.setModel(self.proxy)
        self.setSortingEnabled(True)
        self.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        # Only the patient can be edited.
        triggers = QAbstractItemView.EditTrigger
        self.setEditTriggers(triggers.DoubleClicked | triggers.EditKeyPressed)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setItemDelegateForColumn(
            SCAN, NameDelegate(self, lambda: [entry.name for entry in model.entries], THUMBNAIL)
        )
        self.setShowGrid(False)
        self.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        rows = self.verticalHeader()
        rows.hide()
        rows.setDefaultSectionSize(THUMBNAIL + 6)
        self.horizontalHeader().setHighlightSections(False)
        self.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        self.setMinimumHeight(LEAST_ROWS * (THUMBNAIL + 6))
        self.doubleClicked.connect(lambda index: None if index.column() == PATIENT else show())
        model.rowsInserted.connect(self._fit_columns)
        model.modelReset.connect(self._fit_columns)
        self._fit_columns()

    @property
    def chosen(self) -> list[str]:
        """Names of the selected scans, in the order of the table."""
        rows = self.selectionModel().selectedRows()
        return [str(index.data(NAME_ROLE)) for index in sorted(rows, key=lambda i: i.row())]

    def choose(self, name: str) -> None:
        """Select the row of a scan, if it is there."""
        row = self._scans.row_of(name)
        if row is not None:
            index = self.proxy.mapFromSource(self._scans.index(row, SCAN))
            flags = QItemSelectionModel.SelectionFlag
            how = flags.ClearAndSelect | flags.Rows
            self.selectionModel().setCurrentIndex(index, how)
            self.scrollTo(index)

    def _edit_patient(self) -> None:
        index = self.currentIndex().siblingAtColumn(PATIENT)
        if index.isValid():
            self.edit(index)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        do = self._keys.get(Qt.Key(event.key()))
        # The editor of a patient passes Enter on, which must not show the scan.
        if do is None or self.state() == QAbstractItemView.State.EditingState:
            super().keyPressEvent(event)
        else:
            do()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._widen_names()

    def _fit_columns(self) -> None:
        """Fit the widths of the columns to their texts."""
        if not self._scans.rowCount():
            return
        self.horizontalHeader().setResizeContentsPrecision(20)
        self.resizeColumnsToContents()
        letters = self.fontMetrics()
        names = widths(self.font())
        longest = max(names.horizontalAdvance(entry.name) for entry in self._scans.entries)
        self._whole_names = THUMBNAIL + PADDING + longest
        widest = letters.averageCharWidth() * 16
        self.setColumnWidth(PATIENT, min(self.columnWidth(PATIENT), widest))
        # The longest text of these columns may appear later.
        for column, text in ((USE, USES["test"]), (PROBLEM, "Unreadable")):
            self.setColumnWidth(column, letters.horizontalAdvance(text) + 16)
        self._widen_names()

    def _widen_names(self) -> None:
        """Give the names the width that the other columns leave, but at least 24 characters."""
        others = sum(self.columnWidth(c) for c in range(len(COLUMNS)) if c != SCAN)
        least = THUMBNAIL + self.fontMetrics().averageCharWidth() * 24
        room = max(self.viewport().width() - others, least)
        self.setColumnWidth(SCAN, min(self._whole_names, room))
