"""The table that shows scans: its columns, its keys, and names that fit their column."""

from collections.abc import Callable, Iterable
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
    DONE,
    KIND,
    NAME_ROLE,
    PATIENT,
    PROBLEM,
    SCAN,
    SHAPE,
    SORT_ROLE,
    SPACING,
    THUMBNAIL,
    USE,
    USES,
)
from napari_sslseg.gui.widgets.name_delegate import PADDING, NameDelegate, widths

if TYPE_CHECKING:
    from napari_sslseg.gui.scans.scan_table import ScanTable

LEAST_ROWS = 3
LEAST_LETTERS = 10
"""Width of a name, in letters, below which names could not be told apart."""

OF_WORK, OF_FILE = (DONE, USE, PROBLEM), (KIND, SHAPE, SPACING)
"""Columns that change with the work, and those that are fixed by the file of a scan."""


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
        self._whole = (0, 0)  # Widths of the columns Scan and Patient that show all names whole.
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
        self.setItemDelegateForColumn(
            PATIENT, NameDelegate(self, lambda: [entry.subject for entry in model.entries])
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
        model.modelReset.connect(self.fit_columns)
        self.fit_columns()

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

    def show_problems(self, shown: bool) -> None:
        """Show the column of problems, or hide it."""
        if shown == self.isColumnHidden(PROBLEM):
            self.setColumnHidden(PROBLEM, not shown)
            self._widen_names()

    def fit_columns(self) -> None:
        """Fit the widths of the columns to their texts."""
        if not self._scans.rowCount():
            return
        self.horizontalHeader().setResizeContentsPrecision(20)
        self.resizeColumnsToContents()
        # Any row may be that of the scan that is shown, which is bold.
        width = widths(self.font()).horizontalAdvance
        names = max(width(entry.name) for entry in self._scans.entries)
        patients = max(width(entry.subject) for entry in self._scans.entries)
        self._whole = THUMBNAIL + PADDING + names, PADDING + max(patients, width(COLUMNS[PATIENT]))
        # The longest text of these columns may appear later.
        for column, text in ((USE, USES["test"]), (PROBLEM, "Unreadable")):
            self.setColumnWidth(column, width(text) + PADDING)
        for column in OF_FILE:
            self.setColumnWidth(column, self.columnWidth(column) * 11 // 10)
        self._widen_names()

    def _widen_names(self) -> None:
        """Give scans and patients the width that the other columns leave.

        The names are whole if all columns fit then. Else they are shortened, so that the columns
        that change with the work need no scrolling.
        """

        def taken(columns: Iterable[int]) -> int:
            return sum(self.columnWidth(c) for c in columns if not self.isColumnHidden(c))

        scan, patient = self._whole
        room = self.viewport().width() - taken(OF_WORK)
        if scan + patient > room - taken(OF_FILE):
            letter = self.fontMetrics().averageCharWidth()
            shown = max(letter * LEAST_LETTERS, (room - THUMBNAIL) * 2 // 5)
            patient = min(patient, max(shown, room - scan))
            scan = min(scan, max(THUMBNAIL + letter * LEAST_LETTERS, room - patient))
        self.setColumnWidth(SCAN, scan)
        self.setColumnWidth(PATIENT, patient)
