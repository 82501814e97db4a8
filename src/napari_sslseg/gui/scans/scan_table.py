"""Table model of the scans of a project; rows are read from the project record when shown."""

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt
from qtpy.QtGui import QFont, QIcon, QImage, QPainter, QPixmap

if TYPE_CHECKING:
    from napari_sslseg.core.project.record import ScanEntry
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.scans.scan_actions import ScanActions
    from napari_sslseg.gui.scans.thumbnails import Thumbnails

COLUMNS = ("Scan", "Patient", "Done", "Use", "Problem", "Kind", "Size", "Spacing (mm)")
SCAN, PATIENT, DONE, USE, PROBLEM, KIND, SHAPE, SPACING = range(len(COLUMNS))
TIPS = (
    "Name of the scan. Double-click a row, or press Enter, to see the scan.",
    "Guessed from the names of the files, or known from the DICOM header. Double-click or press F2 "
    "to correct it. No patient is in training and test.",
    "Number of slices that are labelled and marked as done.",
    "Train: used for training. Held out: never used for training, only for testing.",
    "Whether the file is missing, changed or unreadable.",
    "MR or CT; guessed from the values of the scan unless its file names it. Right-click a row to "
    "correct it.",
    "Number of axial slices, rows and columns.",
    "Distance of axial slices, and height and width of a pixel, in mm.",
)
USES = {"train": "Train", "test": "Held out"}
THUMBNAIL = 40

SORT_ROLE = Qt.ItemDataRole.UserRole
NAME_ROLE = Qt.ItemDataRole.UserRole + 1

Index = QModelIndex | QPersistentModelIndex


class ScanTable(QAbstractTableModel):
    """Rows in the order of the project; a proxy sorts them.

    Parameters
    ----------
    session : Session
        Session whose project is shown.
    actions : ScanActions
        Holds the problems of scans.
    thumbnails : Thumbnails
        Makes pictures of the visible rows.
    """

    def __init__(
        self, session: "Session", actions: "ScanActions", thumbnails: "Thumbnails"
    ) -> None:
        super().__init__()
        self.session, self.scan_actions, self.thumbnails = session, actions, thumbnails
        self.entries: list[ScanEntry] = []
        self._rows: dict[str, int] = {}
        self._icons: dict[str, QIcon] = {}
        session.project_changed.connect(self._reset)
        session.done_changed.connect(self._update)
        session.scans_changed.connect(self._update)
        session.selected.connect(self._repaint)
        actions.changed.connect(self._repaint)
        thumbnails.made.connect(self._show_picture)
        self._reset()

    def row_of(self, name: str) -> int | None:
        """Return the row of a scan."""
        return self._rows.get(name)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: N802, B008
        return 0 if parent.isValid() else len(self.entries)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: N802, B008
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(  # noqa: N802
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        return TIPS[section] if role == Qt.ItemDataRole.ToolTipRole else None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        entry, column = self.entries[index.row()], index.column()
        if role == NAME_ROLE:
            return entry.name
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(entry, column)
        if role == Qt.ItemDataRole.EditRole and column == PATIENT:
            return entry.subject
        if role == SORT_ROLE:
            return self._sort_key(entry, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(entry, column)
        if role == Qt.ItemDataRole.DecorationRole and column == SCAN:
            return self._picture(entry.name)
        if role == Qt.ItemDataRole.TextAlignmentRole and column == DONE:
            return Qt.AlignmentFlag.AlignCenter
        if role == Qt.ItemDataRole.FontRole and entry.name == self.session.current:
            font = QFont()
            font.setBold(True)
            return font
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        plain = super().flags(index)
        editable = index.isValid() and index.column() == PATIENT
        return plain | Qt.ItemFlag.ItemIsEditable if editable else plain

    def setData(  # noqa: N802
        self, index: Index, value: Any, role: int = Qt.ItemDataRole.EditRole
    ) -> bool:
        """Set the patient of a scan."""
        entry, patient = self.entries[index.row()], str(value).strip()
        if role != Qt.ItemDataRole.EditRole or index.column() != PATIENT:
            return False
        # An empty text is taken for a slip.
        if patient and patient != entry.subject:
            self.session.set_patient([entry.name], patient)
        return True

    def _text(self, entry: "ScanEntry", column: int) -> str:
        match column:
            case 0:
                return entry.name
            case 1:
                return entry.subject
            case 2:
                return str(entry.done_count) if entry.done else "–"
            case 3:
                return USES[entry.role]
            case 4:
                return self.kind_of_problem(entry.name)
            case 5:
                return entry.modality
            case 6:
                return " × ".join(map(str, entry.shape))
        spacing = self.spacing(entry)
        return " × ".join(f"{value:.3g}" for value in spacing) if spacing else "…"

    def kind_of_problem(self, name: str) -> str:
        """Return the problem of a scan in one word; empty if there is none."""
        sentence = self.scan_actions.problems.get(name)
        if sentence is None:
            return ""
        known = {"is missing": "Missing", "was changed": "Changed", "labels": "No labels"}
        return next((word for part, word in known.items() if part in sentence), "Unreadable")

    def spacing(self, entry: "ScanEntry") -> tuple[float, float, float] | None:
        """Return the voxel size in mm; projects of early versions do not store it."""
        return entry.spacing or self.thumbnails.spacings.get(entry.name)

    def _sort_key(self, entry: "ScanEntry", column: int) -> Any:
        if column == DONE:
            return entry.done_count
        if column == SHAPE:
            first, second, third = entry.shape
            return first * second * third
        if column == SPACING:
            first_mm, second_mm, third_mm = self.spacing(entry) or (0.0, 0.0, 0.0)
            return first_mm * second_mm * third_mm
        return self._text(entry, column).casefold()

    def _tip(self, entry: "ScanEntry", column: int) -> str:
        problem = self.scan_actions.problems.get(entry.name)
        if problem is not None and column in (SCAN, PROBLEM):
            return problem
        if column == PATIENT:
            return f"{entry.subject}\n{TIPS[column]}"
        return entry.absolute if column == SCAN else TIPS[column]

    def _picture(self, name: str) -> QIcon:
        found = self._icons.get(name)
        if found is not None:
            return found
        picture = self.thumbnails.get(name)
        pixmap = QPixmap(THUMBNAIL, THUMBNAIL)
        pixmap.fill(Qt.GlobalColor.black)
        if picture is None:
            return _icon(pixmap)
        rows, columns = picture.shape
        image = QImage(picture.data, columns, rows, columns, QImage.Format.Format_Grayscale8)
        scaled = image.copy().scaled(
            THUMBNAIL,
            THUMBNAIL,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        painter = QPainter(pixmap)
        painter.drawImage(
            (THUMBNAIL - scaled.width()) // 2, (THUMBNAIL - scaled.height()) // 2, scaled
        )
        painter.end()
        self._icons[name] = _icon(pixmap)
        return self._icons[name]

    def _scans(self) -> "list[ScanEntry]":
        """Scans of the project now. A job may add others at any time, so read this once."""
        project = self.session.project
        return list(project.record.scans) if project is not None else []

    def _reset(self) -> None:
        self.beginResetModel()
        self._icons.clear()
        self._take(self._scans())
        self.endResetModel()

    def _take(self, entries: "list[ScanEntry]") -> None:
        self.entries = entries
        self._rows = {entry.name: row for row, entry in enumerate(entries)}

    def _update(self) -> None:
        """Remove and append rows, so that the selection stays where possible."""
        now = self._scans()
        kept = {entry.name for entry in now}
        for row in reversed(range(len(self.entries))):
            if self.entries[row].name not in kept:
                self.beginRemoveRows(QModelIndex(), row, row)
                self._icons.pop(self.entries.pop(row).name, None)
                self.endRemoveRows()
        before = len(self.entries)
        if [entry.name for entry in now[:before]] != [entry.name for entry in self.entries]:
            self._reset()
            return
        if len(now) > before:
            self.beginInsertRows(QModelIndex(), before, len(now) - 1)
            self._take(now)
            self.endInsertRows()
        self._take(now)
        self._repaint()

    def _repaint(self) -> None:
        if self.entries:
            last = self.index(len(self.entries) - 1, len(COLUMNS) - 1)
            self.dataChanged.emit(self.index(0, 0), last)

    def _show_picture(self, name: str) -> None:
        self._icons.pop(name, None)
        row = self.row_of(name)
        if row is not None:
            self.dataChanged.emit(self.index(row, SCAN), self.index(row, SPACING))


def _icon(pixmap: QPixmap) -> QIcon:
    """Make an icon that looks the same in a selected row, without a tint."""
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)
    return icon
