"""Name of the open project, and buttons to create or open another one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QFontMetrics, QResizeEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.core.project.recent import recent_projects
from napari_sslseg.gui.text import plural
from napari_sslseg.gui.widgets.dialogs import ask_choice

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session

INSIDE = "Create a subfolder"
ITSELF = "Use this folder"
BESIDE, ELSEWHERE = "Create it there", "Another place…"
OWN_FOLDER = "few-shot project"
SHOWN_RECENT = 5
# Files are no projects, and the dialog must not ask whether to replace one.
ONLY_FOLDERS = QFileDialog.Option.ShowDirsOnly | QFileDialog.Option.DontConfirmOverwrite


class ProjectBar(QWidget):
    """Name of the project, and buttons to create one or open another.

    Parameters
    ----------
    session : Session
        Creates and opens projects.
    """

    def __init__(self, session: "Session") -> None:
        super().__init__()
        self.session = session
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        self.name = ElidedLabel()
        self.name.setObjectName("project-name")
        self.new = QPushButton("&New…")
        self.new.setObjectName("project-new")
        self.new.setAccessibleName("New project")
        self.new.setToolTip("Choose a place and type a name; the project is a folder there.")
        self.new.clicked.connect(self.ask_new)
        self.open = QPushButton("&Open")
        self.open.setObjectName("project-open")
        self.open.setAccessibleName("Open a project")
        self.open.setToolTip("Open a recent project, or choose the folder of another one.")
        self.menu = QMenu(self.open)
        self.menu.aboutToShow.connect(self._fill_menu)
        self.open.setMenu(self.menu)
        row.addWidget(self.name, 1)
        row.addWidget(self.new)
        row.addWidget(self.open)
        layout.addLayout(row)
        self.recent = QWidget()
        self.recent.setObjectName("recent-projects")
        self._recent_layout = QVBoxLayout(self.recent)
        self._recent_layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.recent)
        session.project_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the open project, or the recent projects."""
        project = self.session.project
        self.name.setText(project.folder.name if project else "No project is open")
        self.name.setToolTip(str(project.folder) if project else "")
        while (item := self._recent_layout.takeAt(0)) is not None:
            old = item.widget()
            if old is not None:
                old.deleteLater()
        folders = recent_projects()[:SHOWN_RECENT] if project is None else []
        if folders:
            self._recent_layout.addWidget(QLabel("Recent projects:"))
        for folder in folders:
            button = QPushButton(_folder_title(folder))
            button.setToolTip(str(folder))
            button.setObjectName(f"recent-{folder.name}")
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.clicked.connect(lambda _=False, folder=folder: self.session.open(folder))
            self._recent_layout.addWidget(button)
        self.recent.setVisible(bool(folders))

    def ask_new(self) -> None:
        """Ask for the place and name of a folder, and create a project there."""
        if not self.session.may_change_project():
            return
        name, _ = QFileDialog.getSaveFileName(
            self, "Place and name of the new project", OWN_FOLDER, options=ONLY_FOLDERS
        )
        if name:
            self.make(Path(name))

    def make(self, path: Path) -> None:
        """Create a project in a folder; asks first if the folder contains other files."""
        if not self.session.may_change_project():
            return
        if not (path / "project.json").exists() and _is_not_empty(path):
            own = free_path(path / OWN_FOLDER)
            answer = ask_choice(
                self,
                f"{path.name} contains other files. Create a subfolder for the project?",
                [INSIDE, ITSELF],
                more=f"Its name would be “{own.name}”. Your files do not change in either case.",
                name="ask-folder",
            )
            if answer is None:
                return
            path = own if answer == INSIDE else path
        self.session.create(path)

    def ask_beside(self, paths: Sequence[Path]) -> bool:
        """Ask whether to create a project beside files without one; whether there is one now."""
        if not self.session.may_change_project():
            return False
        first = paths[0]
        own = free_path(first.parent / OWN_FOLDER)
        scans = f"the scans in {first.name}" if first.is_dir() else plural(len(paths), "file")
        answer = ask_choice(
            self,
            f"There is no project yet. Create one for {scans}?",
            [BESIDE, ELSEWHERE],
            more=f"“{own.name}” in {own.parent} would keep your labels and trained networks. The "
            "scans stay where they are.",
            name="ask-beside",
        )
        if answer == BESIDE:
            self.session.create(own)
        elif answer == ELSEWHERE:
            self.ask_new()
        return self.session.project is not None

    def ask_open(self) -> None:
        """Ask for the folder of a project, and open it."""
        if not self.session.may_change_project():
            return
        folder = QFileDialog.getExistingDirectory(self, "Folder of the project")
        if folder:
            self.session.open(folder)

    def _fill_menu(self) -> None:
        self.menu.clear()
        for folder in recent_projects():
            action = self.menu.addAction(_folder_title(folder))
            action.setToolTip(str(folder))
            action.triggered.connect(lambda _=False, folder=folder: self.session.open(folder))
        self.menu.addSeparator()
        self.menu.addAction("Another folder…").triggered.connect(self.ask_open)
        if self.session.project is not None:
            close = self.menu.addAction("Close this project")
            close.setEnabled(self.session.training is None)
            close.triggered.connect(self.session.close)


class ElidedLabel(QLabel):
    """A line of text with "…" in the middle where it does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        font = self.font()
        font.setBold(True)
        self.setFont(font)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._text = ""

    def setText(self, text: str) -> None:  # noqa: N802
        self._text = text
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        metrics = QFontMetrics(self.font())
        shown = metrics.elidedText(self._text, Qt.TextElideMode.ElideMiddle, self.width())
        super().setText(shown)


def _folder_title(folder: Path) -> str:
    """Return name and parent of a folder; "&" is escaped, or it would be a shortcut."""
    return f"{folder.name}   ({folder.parent})".replace("&", "&&")


def _is_not_empty(folder: Path) -> bool:
    try:
        return any(not item.name.startswith(".") for item in folder.iterdir())
    except OSError:
        return False  # Creating the project reports the problem.


def free_path(path: Path) -> Path:
    """Return a path that does not exist: this one, or with a number after it."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name} {number}")
    return free
