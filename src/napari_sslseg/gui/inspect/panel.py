"""Panel of step 5: predictions of a run, their scores, corrections and export."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.core.common.events import Event, Progress
from napari_sslseg.gui.inspect.correction_buttons import CorrectionButtons
from napari_sslseg.gui.inspect.display_switches import DisplaySwitches
from napari_sslseg.gui.inspect.export_form import ExportForm
from napari_sslseg.gui.inspect.score_rows import ScoreRow, score_sheet
from napari_sslseg.gui.inspect.score_table import ScoreTable
from napari_sslseg.gui.model.predictions import record_state
from napari_sslseg.gui.model.run_descriptions import (
    long_description,
    short_description,
    usable_runs,
)
from napari_sslseg.gui.viewer.prediction_layers import PredictionLayers
from napari_sslseg.gui.widgets.foldable import Foldable
from napari_sslseg.gui.widgets.no_wheel import NoWheelComboBox

if TYPE_CHECKING:
    from napari_sslseg.core.runs.listing import RunSummary
    from napari_sslseg.gui.model.jobs import Job, Outcome
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene


NO_RUN = "There is no trained network yet; train one in step 4."
STOPPED = "Stopped; finished predictions are kept."
PREDICTED = "Predicted. Click a row below to see the worst slice of that scan."
REPLACED = "{run} was trained again by another program; its old predictions are not shown any more."
WATCH_MILLISECONDS = 2_000
NO_SCORES = "Predicted."


class InspectPanel(QWidget):
    """Show, score, compare, accept and export predictions of fine-tuning runs."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self.layers = PredictionLayers(session, scene)
        self._go_to: tuple[str, int] | None = None
        self._wanted: Job | None = None
        self._again: set[str] = set()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addLayout(self._make_runs())
        layout.addLayout(self._make_buttons())
        self.message = QLabel()
        self.message.setObjectName("inspect-message")
        self.message.setWordWrap(True)
        self.show_box = DisplaySwitches(scene, self.layers)
        self.correct = CorrectionButtons(session, scene, self.layers, self.message, self.look_at)
        self.table = ScoreTable()
        self.verdict = QLabel()
        self.verdict.setObjectName("inspect-verdict")
        self.verdict.setWordWrap(True)
        self.export = ExportForm(session, self.layers, self.message.setText)
        for widget in (self.show_box, self.correct, self.message):
            layout.addWidget(widget)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.verdict)
        folded = Foldable("E&xport and report", self.export)
        folded.button.setObjectName("inspect-export")
        layout.addWidget(folded)
        self._states: dict[str, tuple[int, int]] = {}
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._watch_runs)
        self._connect()
        self.refresh()

    def _make_runs(self) -> QFormLayout:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        self.run = _run_combo("inspect-run", "Run whose predictions are shown")
        self.other = _run_combo("inspect-other", "Run to compare it with")
        form.addRow("&Run", self.run)
        form.addRow("&Compare", self.other)
        return form

    def _make_buttons(self) -> QVBoxLayout:
        rows, row = QVBoxLayout(), QHBoxLayout()
        self.this = _button("inspect-this", "Predict &this scan", self._predict_this)
        self.all = _button("inspect-all", "Predict a&ll scans", self._predict_all)
        self.stop = _button("inspect-stop", "St&op", self._stop)
        for button in (self.this, self.all, self.stop):
            row.addWidget(button)
        self.bar = QProgressBar()
        self.bar.setObjectName("inspect-progress")
        self.bar.setAccessibleName("Slices predicted")
        self.bar.hide()
        rows.addLayout(row)
        rows.addWidget(self.bar)
        return rows

    def _connect(self) -> None:
        session = self.session
        self.run.currentIndexChanged.connect(self._runs_chosen)
        self.other.currentIndexChanged.connect(self._runs_chosen)
        session.project_changed.connect(self._forget)
        session.runs_changed.connect(self.refresh)
        session.jobs_changed.connect(self._offer)
        session.predictions.changed.connect(lambda run, scan: self._show_scores())
        session.classes_changed.connect(self._show_scores)
        session.done_changed.connect(self._score_again)
        self.scene.autosaver.changed.connect(self._labels_saved)
        session.job_events.connect(self._hear)
        session.job_ended.connect(self._ended)
        self.scene.changed.connect(self._scan_shown)
        self.correct.marks.changed.connect(self._show_scores)
        self.show_box.chosen.connect(self.correct.refresh)
        self.table.chosen.connect(self._look_at_row)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Show the predictions of finished runs."""
        self._watch_runs()
        self._timer.start(WATCH_MILLISECONDS)
        self.scene.bring("prediction")
        self.layers.show_maps(True)
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """Hide maps, which would cover what one labels in another step."""
        self._timer.stop()
        if not event.spontaneous():
            self.layers.show_maps(False)
        super().hideEvent(event)

    def _watch_runs(self) -> None:
        """Notice runs that are trained again by another program, such as the command line."""
        if self.session.project is None or any(job.kind == "look" for job in self.session.jobs):
            return
        before, self._states = self._states, self._find_states()
        predicted = self.session.predictions.runs
        changed = [n for n, state in self._states.items() if before.get(n, state) != state]
        for name in changed:
            self.session.predictions.forget(name)
            if name in predicted:
                self.message.setText(REPLACED.format(run=name))
        if changed:
            self.session.look_for_runs()

    def _find_states(self) -> dict[str, tuple[int, int]]:
        """Find the states of all runs that this window does not train."""
        project, training = self.session.project, self.session.training
        if project is None:
            return {}
        own = "" if training is None or training.folder is None else training.folder.name
        found = {r.name: record_state(project, r.name) for r in self.session.runs if r.name != own}
        return {name: state for name, state in found.items() if any(state)}

    def release(self) -> None:
        """Disconnect from the viewer."""
        self._timer.stop()
        self.correct.release()

    @property
    def job(self) -> "Job | None":
        """The running prediction job, if there is one."""
        return next((job for job in self.session.jobs if job.kind == "predict"), None)

    def refresh(self) -> None:
        """List the runs; a new run is selected unless another prediction is being viewed."""
        runs = usable_runs(self.session.runs, "finetune")
        self._states = self._find_states() | self._states  # Runs that are new in the list.
        before = self.run.currentData()
        known = {self.run.itemData(number) for number in range(self.run.count())}
        self.run.blockSignals(True)
        self.run.clear()
        for run in runs:
            _add_run(self.run, run)
        new = [run.name for run in runs if run.name not in known and known]
        viewing = self.isVisible() and self.layers.predicted() is not None
        if new and viewing:
            self.message.setText(f"{new[0]} is ready; select it above to see its predictions.")
            new = []
        self.run.setCurrentIndex(max(self.run.findData(new[0] if new else before), 0))
        self.run.blockSignals(False)
        if not runs:
            self.message.setText(NO_RUN)
        elif self.message.text() == NO_RUN:  # The runs of a project are listed after it opened.
            self.message.clear()
        self._runs_chosen()

    def _forget(self) -> None:
        """Forget what belongs to another project."""
        self._go_to = self._wanted = None
        self._states = {}
        self._again.clear()
        self.bar.hide()
        self.correct.forget()
        self.message.clear()
        self.refresh()

    def _offer_others(self) -> None:
        """List the runs to compare with, which are all but the run that is shown."""
        chosen = self.other.currentData()
        self.other.blockSignals(True)
        self.other.clear()
        self.other.addItem("nothing", "")
        for run in usable_runs(self.session.runs, "finetune"):
            if run.name != self.run.currentData():
                _add_run(self.other, run)
        self.other.setCurrentIndex(max(self.other.findData(chosen), 0))
        self.other.blockSignals(False)

    def _runs_chosen(self) -> None:
        self._offer_others()
        self.layers.first = self.run.currentData() or ""
        self.layers.second = self.other.currentData() or ""
        self.run.setToolTip(self.run.itemData(self.run.currentIndex(), 3) or "")
        self.show_box.offer_two(bool(self.layers.second))
        self.layers.refresh()
        self._show_scores()

    def _runs(self) -> list[str]:
        return [run for run in (self.layers.first, self.layers.second) if run]

    def _offer(self) -> None:
        ready = bool(self.layers.first) and self.job is None
        self.this.setEnabled(ready and bool(self.session.current))
        self.all.setEnabled(ready)
        self.stop.setEnabled(self.job is not None and self.job.status != "stopping")
        self.correct.refresh()
        self.export.refresh()

    def _predict_this(self) -> None:
        self._predict([self.session.current])

    def _predict_all(self) -> None:
        project = self.session.project
        if project is not None:
            # The current scan first, then scans with done slices, because these have scores.
            first = self.session.current
            scans = sorted(project.record.scans, key=lambda s: (s.name != first, not s.done))
            self._predict([scan.name for scan in scans])

    def _predict(self, names: list[str]) -> None:
        self._wanted = self.session.predictions.make(self._runs(), names)
        if self._wanted is None:
            self.message.setText("These runs have already predicted it.")
            return
        self.message.clear()
        self.bar.setRange(0, 0)
        self.bar.show()

    def _stop(self) -> None:
        if self.job is not None:
            self.job.stop()
            self.message.setText("Stopping; finished predictions are kept.")

    def _hear(self, job: "Job", events: list[Event]) -> None:
        for event in events:
            if self._is_shown(job) and isinstance(event, Progress):
                self.bar.setRange(0, event.total)
                self.bar.setValue(event.done)
                self.bar.setFormat(f"{event.stage}: %v of %m")
                self.bar.show()

    def _ended(self, job: "Job", outcome: "Outcome") -> None:
        if job.kind == "predict":
            again, self._again = self._again, set()
            for name in again:
                self._score_again(name)
        if not self._is_shown(job):
            return
        self.bar.hide()
        if outcome.problem is not None:
            self.message.setText(outcome.problem.sentence)
        elif job.kind == "predict":
            self.message.setText(self._predicted(outcome))

    def _is_shown(self, job: "Job") -> bool:
        """Whether the user started the job here; updates of scores show no progress."""
        return job.kind == "export" or job is self._wanted

    def _predicted(self, outcome: "Outcome") -> str:
        tally = outcome.result
        if outcome.stopped:
            return f"{STOPPED} {tally.sentence}"
        if tally.failures:
            return tally.problem.sentence
        return PREDICTED if self._has_scores else NO_SCORES

    def _show_scores(self) -> None:
        sheet = score_sheet(self.session.predictions, self.layers.first, self.layers.second)
        self._has_scores = any(row.worst is not None for row in sheet.rows)
        self.table.show_rows(sheet.rows, compared=bool(self.layers.second))
        self.verdict.setText(sheet.verdict)
        self._offer()

    def _score_again(self, name: str) -> None:
        """Score a scan again after its done slices changed, if it needs no new prediction."""
        runs = [run for run in self._runs() if self.session.predictions.get(run, name) is not None]
        if runs and self.job is not None:
            self._again.add(name)  # The running job has already read the labels.
        elif runs:
            self.session.predictions.make(runs, [name])

    def _labels_saved(self) -> None:
        """Score the current scan again after its labels were saved."""
        scan, predictions = self.session.current, self.session.predictions
        if self.scene.autosaver.status != "saved" or not scan:
            return
        scored = [run for run in self._runs() if predictions.scores(run, scan) is not None]
        if any(not predictions.is_up_to_date(run, scan) for run in scored):
            self._score_again(scan)
            self._show_scores()

    def _look_at_row(self, row: ScoreRow) -> None:
        if row.worst is not None:
            self.look_at(row.scan, row.worst)

    def look_at(self, scan: str, index: int) -> None:
        """Show a slice, also of another scan."""
        if scan == self.session.current:
            self.scene.go_to(index)
        else:
            self._go_to = (scan, index)
            self.session.select(scan)

    def _scan_shown(self) -> None:
        scan = self.session.current
        wanted, self._go_to = self._go_to, None
        if wanted is not None and wanted[0] == scan:
            self.scene.go_to(wanted[1])
        predictions = self.session.predictions
        # Predicted earlier, but dropped from memory.
        dropped = [
            run
            for run in self._runs()
            if predictions.get(run, scan) is None and predictions.scores(run, scan) is not None
        ]
        if dropped and self.job is None:
            predictions.make(dropped, [scan])
        self._offer()


def _add_run(box: NoWheelComboBox, run: "RunSummary") -> None:
    box.addItem(short_description(run), run.name)
    box.setItemData(box.count() - 1, long_description(run), 3)  # Its tooltip.


def _run_combo(name: str, accessible: str) -> NoWheelComboBox:
    box = NoWheelComboBox()
    box.setObjectName(name)
    box.setAccessibleName(accessible)
    return box


def _button(name: str, text: str, pressed: object) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    button.clicked.connect(pressed)
    return button
