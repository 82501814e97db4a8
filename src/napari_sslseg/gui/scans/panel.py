"""First step: a project, and its scans."""

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.core.scans.formats.registry import dialog_filter
from napari_sslseg.gui.scans.project_bar import ProjectBar
from napari_sslseg.gui.scans.scan_actions import ScanActions
from napari_sslseg.gui.scans.scan_list import ScanList
from napari_sslseg.gui.scans.thumbnails import Thumbnails
from napari_sslseg.gui.scans.view_bar import ViewBar
from napari_sslseg.gui.scans.viewer_scans import ViewerScans
from napari_sslseg.gui.viewer.windowing import Windowing

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

WELCOME = (
    "A project keeps your scans, labels and trained networks together in a folder. The scans "
    "themselves stay where they are."
)
DROP_HERE = "Drop files or folders here, or use the buttons above: NIfTI, NRRD, MetaImage, DICOM."
DASHED = "QLabel { border: 2px dashed gray; border-radius: 8px; padding: 8px; }"


class ScansPanel(QWidget):
    """Makes and opens projects, adds scans, and lists them.

    Parameters
    ----------
    session : Session
        What is shown.
    scene : Scene
        Where a scan is shown.
    """

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.setObjectName("scans-panel")
        self.session, self.scene = session, scene
        self.work = ScanActions(session)
        self.thumbnails = Thumbnails(session)
        self.windowing = Windowing(scene)
        self.opened = ViewerScans(scene)
        self.setAcceptDrops(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.bar = ProjectBar(session)
        layout.addWidget(self.bar)
        layout.addLayout(self._make_adding())
        layout.addWidget(self._make_opened())
        layout.addWidget(self._make_left_out())
        self.hint = QLabel()
        self.hint.setObjectName("scans-hint")
        self.hint.setWordWrap(True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.hint.setMinimumHeight(120)
        layout.addWidget(self.hint, 1)
        self.list = ScanList(session, self.work, self.thumbnails)
        layout.addWidget(self.list, 1)
        self.view = ViewBar(session, self.work, self.windowing)
        layout.addWidget(self.view)
        session.project_changed.connect(self.refresh)
        session.scans_changed.connect(self.refresh)
        session.jobs_changed.connect(self.refresh)
        session.job_events.connect(self._hear)
        self.work.changed.connect(self._show_left_out)
        self.opened.changed.connect(self._show_opened)
        self.refresh()
        self._show_opened()
        self._show_left_out()

    def release(self) -> None:
        """Take from the viewer what was hung to it."""
        self.windowing.release()

    def _make_adding(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.add_files = QPushButton("&Add files…")
        self.add_files.setObjectName("add-files")
        self.add_files.setToolTip(
            "Add scan files. One file of a DICOM series stands for the whole series."
        )
        self.add_files.clicked.connect(self.ask_files)
        self.add_folder = QPushButton("Add fol&der…")
        self.add_folder.setObjectName("add-folder")
        self.add_folder.setToolTip(
            "Add all scans in a folder, and DICOM series in the folders below it."
        )
        self.add_folder.clicked.connect(self.ask_folder)
        self.stop = QPushButton("Stop addin&g")
        self.stop.setObjectName("add-stop")
        self.stop.setToolTip("Scans that were added stay.")
        self.stop.clicked.connect(self.stop_adding)
        for button in (self.add_files, self.add_folder, self.stop):
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            row.addWidget(button)
        return row

    def _make_opened(self) -> QWidget:
        self.opened_box = QFrame()
        row = QHBoxLayout(self.opened_box)
        row.setContentsMargins(0, 0, 0, 0)
        self.opened_text = QLabel()
        self.opened_text.setObjectName("opened-text")
        self.opened_text.setWordWrap(True)
        self.opened_add = QPushButton("Add to the &project")
        self.opened_add.setObjectName("opened-add")
        self.opened_add.clicked.connect(lambda: self.opened.add())
        row.addWidget(self.opened_text, 1)
        row.addWidget(self.opened_add)
        return self.opened_box

    def _make_left_out(self) -> QWidget:
        self.left_out_box = QFrame()
        layout = QVBoxLayout(self.left_out_box)
        layout.setContentsMargins(0, 0, 0, 0)
        self.left_out_toggle = QToolButton()
        self.left_out_toggle.setObjectName("left-out-toggle")
        self.left_out_toggle.setCheckable(True)
        self.left_out_toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self.left_out_toggle.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.left_out_toggle.toggled.connect(self._show_left_out)
        self.left_out = QListWidget()
        self.left_out.setObjectName("left-out")
        self.left_out.setAccessibleName("Files that were not added, and why")
        self.left_out.setWordWrap(True)
        self.left_out.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout.addWidget(self.left_out_toggle)
        layout.addWidget(self.left_out)
        return self.left_out_box

    def refresh(self) -> None:
        """Show what suits the project: a welcome, where to drop scans, or the scans."""
        project = self.session.project
        names = project.names if project is not None else ()
        adding = self.work.running("add")
        self.hint.setText(WELCOME if project is None else DROP_HERE)
        self.hint.setStyleSheet("" if project is None else DASHED)
        self.hint.setVisible(not names)
        self.list.setVisible(bool(names))
        self.view.setVisible(bool(names))
        for button in (self.add_files, self.add_folder):
            button.setVisible(project is not None and adding is None)
        self.opened_add.setEnabled(adding is None)
        self.stop.setVisible(adding is not None)
        self.stop.setEnabled(adding is not None and adding.status != "stopping")

    def ask_files(self) -> None:
        """Ask for scan files, and add them."""
        files, _ = QFileDialog.getOpenFileNames(self, "Scans to add", "", dialog_filter("Scans"))
        if files:
            self.session.add(files)

    def ask_folder(self) -> None:
        """Ask for a folder, and add the scans in it."""
        folder = QFileDialog.getExistingDirectory(self, "Folder of scans to add")
        if folder:
            self.session.add([folder])

    def stop_adding(self) -> None:
        """Stop after the scan that is read now."""
        job = self.work.running("add")
        if job is not None:
            job.stop()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        """Take files of this computer."""
        if _local_files(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        """Add what is dropped."""
        files = _local_files(event)
        if files:
            event.acceptProposedAction()
            self.session.add(files)

    def _hear(self, job: object, events: list[object]) -> None:
        """Let scans appear while others are read."""
        if job is self.work.running("add"):
            project = self.session.project
            if project is not None and len(project.names) != self.list.model.rowCount():
                self.session.scans_changed.emit()

    def _show_opened(self) -> None:
        count = len(self.opened.layers)
        self.opened_box.setVisible(count > 0)
        names = self.opened.layers[0].name if count == 1 else f"{count} scans in the viewer"
        self.opened_text.setText(f"{names} {'is' if count == 1 else 'are'} not in the project.")

    def _show_left_out(self) -> None:
        problems = self.work.left_out
        open_now = self.left_out_toggle.isChecked()
        count = len(problems)
        self.left_out_box.setVisible(count > 0)
        what = "1 file was" if count == 1 else f"{count} files were"
        self.left_out_toggle.setText(f"{'▾' if open_now else '▸'} {what} not added")
        self.left_out.setVisible(open_now)
        # Folders are long, and stand in the hint.
        sentences = [sentence.replace(str(path), path.name) for path, sentence in problems]
        if sentences != [self.left_out.item(i).text() for i in range(self.left_out.count())]:
            self.left_out.clear()
            self.left_out.addItems(sentences)
            for number, (path, _) in enumerate(problems):
                self.left_out.item(number).setToolTip(str(path))
        self.left_out.setFixedHeight(self.fontMetrics().lineSpacing() * min(3 * count + 1, 8))


def _local_files(event: QDropEvent) -> list[Path]:
    urls = event.mimeData().urls() if event.mimeData().hasUrls() else []
    return [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
