"""Sortable table of scores; a click on a row shows the worst slice of the scan."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_sslseg.core.results.slice_scores import SLICE_RULE
from napari_sslseg.gui.inspect.score_rows import ORDER, UNBIASED, ScoreRow, slices_words
from napari_sslseg.gui.model.run_descriptions import USE_HINTS, USE_WORDS
from napari_sslseg.gui.widgets.name_delegate import PADDING, NameDelegate, widths

COLUMNS = ("Scan", "Structure", "Dice", "HD95", "Dice B", "Used", "Acc.", "ml")
SCAN_WIDTH, STRUCTURE_WIDTH = 70, 76
"""Least widths of a scan and a structure, below which names could not be told apart."""

HINTS = (
    "Click a row to see the worst slice of the scan; without done slices, the most uncertain one.",
    "The class.",
    f"Overlap of prediction and labels, 0 to 1. {SLICE_RULE}",
    f"95th percentile of the distance between outlines, in mm. {SLICE_RULE}",
    "Dice of the run to compare with.",
    "How the run used the scan; scores of scans used for training are too high.",
    "Accepted: done slices with an accepted prediction; their scores are too high.",
    "Volume of the structure in the prediction of the whole scan, in ml.",
)
OTHER, ACCEPTED = COLUMNS.index("Dice B"), COLUMNS.index("Acc.")
SCORES = range(2, 5)
NUMBERS = (*SCORES, COLUMNS.index("ml"))
ROW = Qt.ItemDataRole.UserRole


class ScoreTable(QTableWidget):
    """Scores by scan and structure.

    Attributes
    ----------
    chosen : Signal of ScoreRow
        A row was clicked, or Enter pressed on it.
    """

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self.setObjectName("inspect-scores")
        self.setAccessibleName("Scores by scan and structure")
        self.setHorizontalHeaderLabels(COLUMNS)
        for number, hint in enumerate(HINTS):
            title = self.horizontalHeaderItem(number)
            assert title is not None
            title.setToolTip(hint)
        self.verticalHeader().hide()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # Names often differ at their ends.
        for column in (0, 1):
            self.setItemDelegateForColumn(column, NameDelegate(self, partial(self._names, column)))
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Interactive)
        header.setMinimumSectionSize(30)
        self.setMinimumHeight(130)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.cellClicked.connect(lambda row, column: self._choose(row))
        self.cellActivated.connect(lambda row, column: self._choose(row))

    def show_rows(self, rows: Sequence[ScoreRow], *, compared: bool) -> None:
        """Show these rows; a chosen sort order stays."""
        header = self.horizontalHeader()
        column = header.sortIndicatorSection() if self.isSortingEnabled() else -1
        order = header.sortIndicatorOrder()
        self.setSortingEnabled(False)
        self.setRowCount(len(rows))
        for number, row in enumerate(rows):
            if self._shown(number) != row:  # Else each new prediction would fill all rows.
                self._fill_row(number, row)
        self.setColumnHidden(OTHER, not compared)
        self.setColumnHidden(3, compared)  # There is no room for both; it is in the tooltip.
        self.setColumnHidden(ACCEPTED, not any(row.accepted.count for row in rows))
        header.setSortIndicator(column, order)
        self.setSortingEnabled(True)
        self._fit_names()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Give the names of scans and structures the width that is left."""
        super().resizeEvent(event)
        self._fit_names()

    def _names(self, column: int) -> list[str]:
        items = (self.item(row, column) for row in range(self.rowCount()))
        return [item.text() for item in items if item is not None]

    def _fit_names(self) -> None:
        header = self.horizontalHeader()
        others = sum(header.sectionSize(number) for number in range(2, len(COLUMNS)))
        room = self.viewport().width() - others
        width = widths(self.font()).horizontalAdvance
        # A pixel is the line of the grid.
        whole = PADDING + 1 + max((width(name) for name in set(self._names(1))), default=0)
        spare = max(room - SCAN_WIDTH - STRUCTURE_WIDTH, 0)
        structure = min(max(whole, STRUCTURE_WIDTH), STRUCTURE_WIDTH + spare // 2)
        self.setColumnWidth(1, structure)
        self.setColumnWidth(0, max(SCAN_WIDTH, room - structure))

    def _fill_row(self, number: int, row: ScoreRow) -> None:
        hint = _hint(row)
        for column, (text, key) in enumerate(_cells(row)):
            item = _Item(text, key)
            item.setToolTip(hint)
            item.setData(ROW, row)
            if column in NUMBERS:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            if _is_biased(row, column):
                font = item.font()
                font.setItalic(True)
                item.setFont(font)
            self.setItem(number, column, item)

    def _shown(self, number: int) -> ScoreRow | None:
        item = self.item(number, 0)
        row: ScoreRow | None = None if item is None else item.data(ROW)
        return row

    def _choose(self, number: int) -> None:
        row = self._shown(number)
        if row is not None:
            self.chosen.emit(row)


class _Item(QTableWidgetItem):
    """Sorts by a key; a missing value comes first, because it needs attention."""

    def __init__(self, text: str, key: Any) -> None:
        super().__init__(text)
        self.key = key

    def __lt__(self, other: QTableWidgetItem) -> bool:
        theirs = getattr(other, "key", None)
        if self.key is None or theirs is None:
            return self.key is None and theirs is not None
        return bool(self.key < theirs)


def _cells(row: ScoreRow) -> tuple[tuple[str, Any], ...]:
    """Return text and sort key of each column."""
    mark = "*" if row.stale else ""
    other_mark = "*" if row.other_stale else ""
    return (
        (row.scan, row.scan.casefold()),
        (row.structure, row.structure.casefold()),
        (_number(row.dice, 2) + mark, row.dice),
        (_number(row.hd95, 1), row.hd95),
        (_number(row.other, 2) + other_mark, row.other),
        (USE_WORDS[row.use], ORDER.index(row.use)),
        (f"{row.accepted.count} of {row.slices}", row.accepted.count),
        (format_ml(row.ml), row.ml),
    )


def _hint(row: ScoreRow) -> str:
    """Return the tooltip of a row."""
    if not row.slices:
        return f"{row.scan}, {row.structure}. No slice is done, so there is no score."
    hint = f"{row.scan}, {row.structure}, {slices_words(row.slices, row.accepted)}"
    if row.accepted.count:
        hint += f" ({', '.join(row.accepted.runs)})"
    hint += f", HD95 {_number(row.hd95, 1)} mm. {USE_HINTS[row.use]}"
    if row.other_use is not None and row.other_use != row.use:
        hint += f" Run B: {USE_HINTS[row.other_use]}"
    if row.stale or row.other_stale:
        hint += " * Labels changed since; predict the scan again."
    return hint


def _is_biased(row: ScoreRow, column: int) -> bool:
    """Whether a cell contains or qualifies a score that is too high."""
    use = row.other_use or row.use if column == OTHER else row.use
    return use not in UNBIASED or bool(row.accepted.count and column in (*SCORES, ACCEPTED))


def format_ml(value: float | None) -> str:
    """Format a volume in ml with about three digits."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
