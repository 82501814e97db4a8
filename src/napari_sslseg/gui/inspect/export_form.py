"""Form to export labels, predictions and a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QWidget,
)

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import Event, Message
from napari_sslseg.core.scans.formats.registry import label_formats
from napari_sslseg.gui.inspect.export_job import Events, export, targets
from napari_sslseg.gui.inspect.report_job import report
from napari_sslseg.gui.model.jobs import Outcome, Problem, Tally
from napari_sslseg.gui.widgets.dialogs import ask_choice
from napari_sslseg.gui.widgets.no_wheel import NoWheelComboBox

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.prediction_layers import PredictionLayers

REPLACE = "Replace"


class ExportForm(QWidget):
    """Choose labels or predictions, scans and format; export them, or write a report."""

    def __init__(self, session: "Session", layers: "PredictionLayers", say: Any) -> None:
        super().__init__()
        self.session, self.layers, self._say = session, layers, say
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        self.what = _combo("export-what", "What", {"": "My labels", "run": "Predictions"})
        self.scans = _combo("export-scans", "Scans", {"this": "This scan", "all": "All scans"})
        self.format = _combo(
            "export-format", "Format", {k: f"{v} ({k})" for k, v in label_formats().items()}
        )
        self.format.setToolTip(
            "Most programs read NIfTI. A DICOM segmentation contains the names of the structures, "
            "and needs a DICOM scan."
        )
        form.addRow("W&hat", self.what)
        form.addRow("Scans", self.scans)
        form.addRow("Format", self.format)
        row = QHBoxLayout()
        self.export = QPushButton("&Export …")
        self.export.setObjectName("export-labels")
        self.export.setToolTip("Writes label maps into a folder. Scans are never overwritten.")
        self.report = QPushButton("Re&port …")
        self.report.setObjectName("export-report")
        self.report.setToolTip(
            "Writes scores and pictures of each scored scan as a web page; of both runs if two are "
            "compared."
        )
        row.addWidget(self.export)
        row.addWidget(self.report)
        form.addRow(row)
        self.export.clicked.connect(self._export)
        self.report.clicked.connect(self._report)

    def refresh(self) -> None:
        """Enable the buttons that apply."""
        self.report.setEnabled(bool(self.layers.first))
        self.export.setEnabled(self.session.project is not None)

    def _export(self) -> None:
        project = self.session.project
        if project is None:
            return
        run = self.layers.run if self.what.currentData() else ""
        if self.what.currentData() and not run:
            self._say("There is no run with predictions to export; train one first.")
            return
        all_scans = self.scans.currentData() == "all"
        names = list(project.names) if all_scans else [self.session.current]
        folder = QFileDialog.getExistingDirectory(self, "Export into this folder")
        if not folder:
            return
        try:
            files = targets(project, run, names, Path(folder), self.format.currentData())
        except SslsegError as error:
            self._say(str(error))
            return
        existing = [path for path in files.values() if path.exists()]
        if existing and not self._may_replace(existing):
            return
        self._start("Exporting", export(self.session, run, files))

    def _may_replace(self, existing: list[Path]) -> bool:
        count = len(existing)
        what = f"{existing[0].name} exists" if count == 1 else f"{count} of the files exist"
        question = f"{what} already in {existing[0].parent}. Replace?"
        return ask_choice(self, question, [REPLACE], name="ask-replace") == REPLACE

    def _report(self) -> None:
        run, other = self.layers.first, self.layers.second
        name, _ = QFileDialog.getSaveFileName(
            self, "Write the report to", f"{run}.html", "Web page (*.html)"
        )
        if name:
            path = Path(name)
            if path.suffix.lower() not in (".html", ".htm"):
                path = Path(f"{name}.html")
                # The dialog has asked about the name without the ending.
                if path.exists() and not self._may_replace([path]):
                    return
            self._start("Writing the report", report(self.session, run, path, other))

    def _start(self, title: str, events: Events | None) -> None:
        if events is None:
            return
        if any(job.kind == "export" for job in self.session.jobs):
            self.session.problem.emit(Problem("An export is already running; wait until it ends."))
            return
        if not self.session.is_saved("An export"):
            return
        self._said: list[str] = []
        job = self.session.run("export", title, events)
        job.new_events.connect(self._hear)
        job.ended.connect(self._ended)

    def _ended(self, outcome: Outcome) -> None:
        tally = outcome.result
        if isinstance(tally, Tally):
            self._say(" ".join([*self._said, tally.sentence]))
            self.session.note.emit(tally.sentence)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Message):
                self._said.append(event.text)
                self._say(event.text)
                self.session.note.emit(event.text)


def _combo(name: str, accessible: str, items: dict[str, str]) -> NoWheelComboBox:
    box = NoWheelComboBox()
    box.setObjectName(name)
    box.setAccessibleName(accessible)
    for key, text in items.items():
        box.addItem(text, key)
    return box
