"""The list of the scans of a project, and what is done with those that are chosen in it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QItemSelectionModel, QPoint, QSize, QSortFilterProxyModel, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QGridLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.core.scans.formats.registry import dialog_filter
from napari_sslseg.gui.scans.scan_table import (
    NAME_ROLE,
    PROBLEM,
    SCAN,
    SORT_ROLE,
    THUMBNAIL,
    USE,
    USES,
    ScanTable,
)
from napari_sslseg.gui.widgets.dialogs import ask_choice
from napari_sslseg.gui.widgets.no_wheel import NoWheelComboBox

if TYPE_CHECKING:
    from napari_sslseg.core.project.labels import DoneSlices
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.scans.scan_actions import ScanActions
    from napari_sslseg.gui.scans.thumbnails import Thumbnails

NARROWEST_ROWS = 3
DONE_ANSWERS: dict[str, "DoneSlices"] = {
    "Those with labels": "with labels",
    "All slices": "all",
    "None": "none",
}
REMOVE = "Remove"


class ScanList(QWidget):
    """A table, and below it what can be done with the rows that are chosen.

    Parameters
    ----------
    session : Session
        What is shown.
    work : ScanActions
        What is done.
    thumbnails : Thumbnails
        Pictures of the scans.
    """

    def __init__(self, session: "Session", work: "ScanActions", thumbnails: "Thumbnails") -> None:
        super().__init__()
        self.session, self.work, self.thumbnails = session, work, thumbnails
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.model = ScanTable(session, work, thumbnails)
        self.proxy = QSortFilterProxyModel(self)
        self.proxy.setSourceModel(self.model)
        self.proxy.setSortRole(SORT_ROLE)
        layout.addWidget(self._make_table(), 1)
        self.detail = QLabel()
        self.detail.setObjectName("scan-detail")
        self.detail.setWordWrap(True)
        self.detail.setTextFormat(Qt.TextFormat.PlainText)
        self.detail.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(self.detail)
        layout.addLayout(self._make_actions())
        self.table.selectionModel().selectionChanged.connect(self.refresh)
        self.model.rowsInserted.connect(self._fit)
        self.model.modelReset.connect(self._fit)
        session.scans_changed.connect(self.refresh)
        session.done_changed.connect(self._follow)
        session.project_changed.connect(self.refresh)
        session.selected.connect(self._show_current)
        work.changed.connect(self.refresh)
        self._fit()
        self.refresh()

    def _make_table(self) -> QTableView:
        self.table = table = _Table(self.show_scan, self.ask_remove)
        table.setObjectName("scan-table")
        table.setAccessibleName("Scans of the project")
        table.setModel(self.proxy)
        table.setSortingEnabled(True)
        table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        table.setTabKeyNavigation(False)
        table.setWordWrap(False)
        table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        table.setShowGrid(False)
        table.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        rows = table.verticalHeader()
        rows.hide()
        rows.setDefaultSectionSize(THUMBNAIL + 6)
        table.horizontalHeader().setHighlightSections(False)
        table.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        table.setMinimumHeight(NARROWEST_ROWS * (THUMBNAIL + 6))
        table.doubleClicked.connect(lambda _: self.show_scan())
        table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        table.customContextMenuRequested.connect(self._show_menu)
        return table

    def _make_actions(self) -> QGridLayout:
        grid = QGridLayout()
        self.show_button = self._button("&Show", "scan-show", self.show_scan)
        self.show_button.setToolTip("Show this scan (double-click, or Enter).")
        self.find_button = self._button("Find i&t…", "scan-find", self.ask_find)
        self.find_button.setToolTip("Say where the file of this scan is now.")
        self.use = NoWheelComboBox()
        self.use.setObjectName("scan-use")
        self.use.setAccessibleName("What the scan is used for")
        self.use.addItems(list(USES.values()))
        self.use.setToolTip(
            "Train: the network learns from this patient. Held out: it never sees this patient, "
            "so that it can be tested on them. All scans of a patient change together."
        )
        self.use.activated.connect(lambda number: self.set_use(list(USES)[number]))
        self.labels = self._button("&Import labels…", "scan-import", self.ask_labels)
        self.labels.setToolTip("Take labels of this scan from a file of another program.")
        self.remove = self._button("&Remove…", "scan-remove", self.ask_remove)
        self.remove.setToolTip("Take scans out of the project. No file of yours is deleted.")
        used = QLabel("&Use")
        used.setBuddy(self.use)
        used.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        # What is lost can be found, what is there can be shown.
        grid.addWidget(self.show_button, 0, 0)
        grid.addWidget(self.find_button, 0, 0)
        grid.addWidget(used, 0, 1)
        grid.addWidget(self.use, 0, 2)
        grid.addWidget(self.labels, 1, 0)
        grid.addWidget(self.remove, 1, 1, 1, 2)
        for column, share in enumerate((3, 0, 3)):
            grid.setColumnStretch(column, share)
        return grid

    def _button(self, text: str, name: str, do: Callable[[], None]) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda: do())
        return button

    @property
    def chosen(self) -> list[str]:
        """Names of the scans that are chosen, as they stand in the list."""
        rows = self.table.selectionModel().selectedRows()
        return [str(index.data(NAME_ROLE)) for index in sorted(rows, key=lambda i: i.row())]

    def refresh(self) -> None:
        """Say what is chosen, and what can be done with it."""
        project, chosen = self.session.project, self.chosen
        problems = self.work.problems
        one = chosen[0] if len(chosen) == 1 else None
        self.table.setColumnHidden(PROBLEM, not problems)
        away = one is not None and self._is_lost(one)
        self.show_button.setEnabled(one is not None and one not in problems)
        self.show_button.setVisible(not away)
        self.labels.setEnabled(one is not None and one not in problems)
        self.find_button.setVisible(away)
        self.use.setEnabled(bool(chosen))
        self.remove.setEnabled(bool(chosen))
        if project is None or not project.names:
            self.detail.setText("")
            return
        chosen = [name for name in chosen if name in project.names]
        if chosen:
            roles = {project.entry(name).role for name in chosen}
            self.use.setCurrentIndex(list(USES).index(roles.pop()) if len(roles) == 1 else -1)
        if one is not None and chosen:
            self.detail.setText(problems.get(one) or self._described(one))
        elif chosen:
            self.detail.setText(f"{len(chosen)} scans are chosen.")
        else:
            lost = f" {len(problems)} cannot be used now; see there." if problems else ""
            count = len(project.names)
            self.detail.setText(f"{count} scan{'' if count == 1 else 's'}.{lost}")

    def _is_lost(self, name: str) -> bool:
        return name in self.work.problems and self.model.kind_of_problem(name) != "No labels"

    def _described(self, name: str) -> str:
        assert self.session.project is not None
        entry = self.session.project.entry(name)
        parts = [entry.name]
        if entry.subject != entry.name:
            parts.append(f"patient {entry.subject}")
        parts.append(f"{entry.modality}, {' × '.join(map(str, entry.shape))}")
        spacing = self.model.spacing(entry)
        if spacing is not None:
            parts.append(" × ".join(f"{value:.3g}" for value in spacing) + " mm")
        count = entry.done_count
        parts.append(f"{count or 'no'} slice{'' if count == 1 else 's'} done")
        return " · ".join(parts)

    def show_scan(self) -> None:
        """Show the scan that is chosen."""
        if len(self.chosen) == 1:
            self.session.select(self.chosen[0])

    def set_use(self, role: str) -> None:
        """Train on the scans that are chosen, or hold them out."""
        project = self.session.project
        for name in self.chosen:
            # Those of a patient who came before have it by now.
            if project is not None and project.entry(name).role != role:
                self.session.set_role(name, role)

    def ask_find(self) -> None:
        """Ask where a scan is now."""
        project, chosen = self.session.project, self.chosen
        if project is None or len(chosen) != 1:
            return
        entry = project.entry(chosen[0])
        old = Path(entry.absolute)
        start = str(next((place for place in old.parents if place.is_dir()), project.folder))
        if entry.files:
            place = QFileDialog.getExistingDirectory(self, f"Folder of {entry.name}", start)
        else:
            place, _ = QFileDialog.getOpenFileName(self, f"File of {entry.name}", start)
        if place:
            self.work.find(entry.name, place)

    def ask_labels(self) -> None:
        """Ask for a file of labels, and which of their slices are done."""
        chosen = self.chosen
        if len(chosen) != 1:
            return
        name = chosen[0]
        path, _ = QFileDialog.getOpenFileName(
            self, f"Labels of {name}", "", dialog_filter("Label maps")
        )
        if not path:
            return
        answer = ask_choice(
            self,
            "Which slices of these labels are done?",
            list(DONE_ANSWERS),
            more="The network learns from slices that are done, and whatever is not labelled there "
            "it learns as background. Labels that the scan has now are put aside.",
            name="ask-done",
        )
        if answer is not None:
            self.work.import_labels(name, path, DONE_ANSWERS[answer])

    def ask_remove(self) -> None:
        """Ask whether to take the scans that are chosen out of the project."""
        chosen = self.chosen
        if not chosen:
            return
        what = chosen[0] if len(chosen) == 1 else f"{len(chosen)} scans"
        if ask_choice(
            self,
            f"Remove {what} from the project?",
            [REMOVE],
            more="The files of the scans stay where they are, and labels are kept aside in the "
            "project.",
            name="ask-remove",
        ):
            self.work.remove(chosen)

    def _show_menu(self, place: QPoint) -> None:
        if not self.chosen:
            return
        menu = QMenu(self)
        for button in (self.show_button, self.find_button, self.labels, self.remove):
            if not button.isHidden():
                action = menu.addAction(button.text())
                action.setEnabled(button.isEnabled())
                action.triggered.connect(button.click)
        menu.addSeparator()
        for role, text in USES.items():
            menu.addAction(text).triggered.connect(lambda _=False, role=role: self.set_use(role))
        menu.addSeparator()
        menu.addAction("Check all scans again").triggered.connect(self.work.check)
        menu.exec(self.table.viewport().mapToGlobal(place))
        menu.deleteLater()

    def _show_current(self, name: str) -> None:
        """Choose the row of the scan that is shown."""
        row = self.model.row_of(name) if name else None
        if row is not None:
            index = self.proxy.mapFromSource(self.model.index(row, SCAN))
            flags = QItemSelectionModel.SelectionFlag
            how = flags.ClearAndSelect | flags.Rows
            self.table.selectionModel().setCurrentIndex(index, how)
            self.table.scrollTo(index)
        self.refresh()

    def _follow(self, name: str) -> None:
        self.refresh()

    def _fit(self) -> None:
        """Give the columns the width of what they hold, once there is anything."""
        if not self.model.rowCount():
            return
        self.table.horizontalHeader().setResizeContentsPrecision(20)
        self.table.resizeColumnsToContents()
        letters = self.fontMetrics()
        longest = THUMBNAIL + letters.averageCharWidth() * 24
        self.table.setColumnWidth(SCAN, min(self.table.columnWidth(SCAN), longest))
        # Of these the longest text may come later.
        for column, text in ((USE, USES["test"]), (PROBLEM, "Unreadable")):
            self.table.setColumnWidth(column, letters.horizontalAdvance(text) + 16)


class _Table(QTableView):
    """A table whose rows are shown by Enter and removed by Delete."""

    def __init__(self, show: Callable[[], None], remove: Callable[[], None]) -> None:
        super().__init__()
        self._keys = {
            Qt.Key.Key_Return: show,
            Qt.Key.Key_Enter: show,
            Qt.Key.Key_Delete: remove,
        }

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        do = self._keys.get(Qt.Key(event.key()))
        if do is None:
            super().keyPressEvent(event)
        else:
            do()
