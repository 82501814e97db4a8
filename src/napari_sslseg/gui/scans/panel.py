"""Panel of step 1: a project and its scans."""

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
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
from napari_sslseg.gui.scans.example_project import make_example
from napari_sslseg.gui.scans.project_bar import ProjectBar
from napari_sslseg.gui.scans.scan_actions import ScanActions
from napari_sslseg.gui.scans.scan_list import ScanList, ask_done
from napari_sslseg.gui.scans.thumbnails import Thumbnails
from napari_sslseg.gui.scans.view_bar import ViewBar
from napari_sslseg.gui.scans.viewer_scans import ViewerScans
from napari_sslseg.gui.text import plural
from napari_sslseg.gui.viewer.planes.point_mouse import PointMouse
from napari_sslseg.gui.viewer.planes.three_planes import ThreePlanes
from napari_sslseg.gui.viewer.wheel import Wheel
from napari_sslseg.gui.viewer.windowing import Windowing

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

WELCOME = (
    "A project is a folder that keeps your labels and trained networks. Your scans stay where "
    "they are."
)
DROP_HERE = "Drop files or folders here, or use the buttons above: NIfTI, NRRD, MetaImage, DICOM."
DASHED = "QLabel { border: 2px dashed gray; border-radius: 8px; padding: 8px; }"


class ScansPanel(QWidget):
    """Creates and opens projects, adds scans, and lists them.

    Parameters
    ----------
    session : Session
        Session whose project is shown.
    scene : Scene
        Layers of the current scan.
    """

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.setObjectName("scans-panel")
        self.session, self.scene = session, scene
        self.scan_actions = ScanActions(session)
        self.thumbnails = Thumbnails(session)
        self.windowing = Windowing(scene)
        self.wheel = Wheel(scene)
        self.planes, self.point_mouse = ThreePlanes(scene), PointMouse(scene)
        self.viewer_scans = ViewerScans(scene)
        self.setAcceptDrops(True)
        self._lay_out()
        self._connect()
        self.refresh()
        self._show_viewer_scans()
        self._show_left_out()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.bar = ProjectBar(self.session)
        layout.addWidget(self.bar)
        layout.addLayout(self._make_add_buttons())
        layout.addWidget(self._make_viewer_scans())
        layout.addWidget(self._make_left_out())
        self.hint = QLabel()
        self.hint.setObjectName("scans-hint")
        self.hint.setWordWrap(True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.hint.setMinimumHeight(120)
        layout.addWidget(self.hint, 1)
        self.example = QPushButton("&Try it with example patients")
        self.example.setObjectName("example-project")
        self.example.setToolTip(
            "Makes a project of six procedural MR patients, with structures to label."
        )
        self.example.clicked.connect(lambda: make_example(self.session))
        layout.addWidget(self.example)
        self.list = ScanList(self.session, self.scan_actions, self.thumbnails)
        layout.addWidget(self.list, 1)
        self.view = ViewBar(self.session, self.scan_actions, self.windowing, self.wheel)
        self.view.offer_planes(self.planes)
        layout.addWidget(self.view)

    def _connect(self) -> None:
        session = self.session
        session.project_changed.connect(self.refresh)
        session.scans_changed.connect(self.refresh)
        session.scans_changed.connect(self._show_left_out)
        session.jobs_changed.connect(self.refresh)
        session.job_events.connect(self._hear)
        self.scan_actions.changed.connect(self._show_left_out)
        self.viewer_scans.changed.connect(self._show_viewer_scans)

    def release(self) -> None:
        """Disconnect from the viewer."""
        self.windowing.release()
        self.wheel.release()
        self.point_mouse.release()
        self.planes.release()

    def _make_add_buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.add_files = QPushButton("&Add files…")
        self.add_files.setObjectName("add-files")
        self.add_files.setToolTip(
            "Add scan files. One file of a DICOM series adds the whole series."
        )
        self.add_files.clicked.connect(self.ask_files)
        self.add_folder = QPushButton("Add fol&der…")
        self.add_folder.setObjectName("add-folder")
        self.add_folder.setToolTip("Add all scans in a folder, and DICOM series in its subfolders.")
        self.add_folder.clicked.connect(self.ask_folder)
        self.stop = QPushButton("Stop addin&g")
        self.stop.setObjectName("add-stop")
        self.stop.setToolTip("Scans that are already added stay in the project.")
        self.stop.clicked.connect(self.stop_adding)
        for button in (self.add_files, self.add_folder, self.stop):
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            row.addWidget(button)
        return row

    def _make_viewer_scans(self) -> QWidget:
        self.opened_box = QFrame()
        row = QHBoxLayout(self.opened_box)
        row.setContentsMargins(0, 0, 0, 0)
        self.opened_text = QLabel()
        self.opened_text.setObjectName("opened-text")
        self.opened_text.setWordWrap(True)
        self.opened_add = QPushButton("Add to the &project")
        self.opened_add.setObjectName("opened-add")
        self.opened_add.clicked.connect(self._add_opened)
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
        self.import_found = QPushButton()
        self.import_found.setObjectName("import-found")
        self.import_found.setToolTip(
            "Import the label files that belong to these scans by their names. Several files of a "
            "scan are one structure each."
        )
        self.import_found.clicked.connect(self.ask_import_found)
        layout.addWidget(self.left_out_toggle)
        layout.addWidget(self.import_found)
        layout.addWidget(self.left_out)
        return self.left_out_box

    def refresh(self) -> None:
        """Show a welcome, a place to drop scans, or the list of scans."""
        project = self.session.project
        names = project.names if project is not None else ()
        adding = self.scan_actions.running("add")
        self.hint.setText(WELCOME if project is None else DROP_HERE)
        self.hint.setStyleSheet("" if project is None else DASHED)
        self.hint.setVisible(not names)
        self.example.setVisible(project is None)
        self.example.setEnabled(self.scan_actions.running("example") is None)
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

    def ask_import_found(self) -> None:
        """Ask which slices of the labels beside the scans are done, and import them."""
        done = ask_done(self, len(self.scan_actions.found_labels))
        if done is not None:
            self.scan_actions.import_found(done)

    def stop_adding(self) -> None:
        """Stop after the current scan."""
        job = self.scan_actions.running("add")
        if job is not None:
            job.stop()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        """Accept local files."""
        if _local_files(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        """Add the dropped files."""
        files = _local_files(event)
        if files:
            event.acceptProposedAction()
            # After the event, since a question would block the program that files come from.
            QTimer.singleShot(0, lambda: self.add(files))

    def add(self, files: list[Path]) -> None:
        """Add files to the project; without one, asks where to create it."""
        if self._has_project(files):
            self.session.add(files)

    def _hear(self, job: object, events: list[object]) -> None:
        """Show new scans while others are still being read."""
        if job is self.scan_actions.running("add"):
            project = self.session.project
            if project is not None and len(project.names) != self.list.model.rowCount():
                self.session.scans_changed.emit()

    def _add_opened(self) -> None:
        if self._has_project(self.viewer_scans.paths):
            self.viewer_scans.add()

    def _has_project(self, files: list[Path]) -> bool:
        """Whether there is a project, perhaps one that the user creates now for these files."""
        return self.session.project is not None or self.bar.ask_beside(files)

    def _show_viewer_scans(self) -> None:
        count = len(self.viewer_scans.layers)
        self.opened_box.setVisible(count > 0)
        names = self.viewer_scans.layers[0].name if count == 1 else f"{count} scans in the viewer"
        which = "a project" if self.session.project is None else "the project"
        self.opened_text.setText(f"{names} {'is' if count == 1 else 'are'} not in {which}.")
        self.opened_add.setText(f"Add to {which}{'…' if self.session.project is None else ''}")

    def _show_left_out(self) -> None:
        problems, notes = self.scan_actions.left_out, self.scan_actions.notes
        expanded = self.left_out_toggle.isChecked()
        count = len(problems) + len(notes)
        self.left_out_box.setVisible(count > 0)
        found = len(self.scan_actions.found_labels)
        self.import_found.setVisible(found > 0)
        self.import_found.setText(f"Import the labels of {plural(found, 'scan')}…")
        left = len(problems)
        parts = [f"{plural(left, 'file')} {'was' if left == 1 else 'were'} not added"] * bool(left)
        parts += [plural(len(notes), "note")] * bool(notes)
        self.left_out_toggle.setText(f"{'▾' if expanded else '▸'} {', '.join(parts)}")
        self.left_out.setVisible(expanded)
        # The tooltip contains the full path.
        sentences = [sentence.replace(str(path), path.name) for path, sentence in problems]
        sentences += notes
        if sentences != [self.left_out.item(i).text() for i in range(self.left_out.count())]:
            self.left_out.clear()
            self.left_out.addItems(sentences)
            for number, (path, _) in enumerate(problems):
                self.left_out.item(number).setToolTip(str(path))
        self.left_out.setFixedHeight(self.fontMetrics().lineSpacing() * min(3 * count + 1, 8))


def _local_files(event: QDropEvent) -> list[Path]:
    urls = event.mimeData().urls() if event.mimeData().hasUrls() else []
    return [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
