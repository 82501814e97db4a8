"""Controls and progress of a training: start, pause, stop; state, curve and messages."""

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from napari_sslseg.core.common.events import (
    Event,
    Message,
    Milestone,
    Preview,
    Progress,
    Status,
    Step,
    Validation,
)
from napari_sslseg.core.runs.time_left import TimeLeft, duration
from napari_sslseg.gui.model.jobs import Job, Outcome
from napari_sslseg.gui.text import format_number
from napari_sslseg.gui.viewer.napari_window import pause_activity_spinner
from napari_sslseg.gui.widgets.curve_plot import CurvePlot
from napari_sslseg.gui.widgets.foldable import Foldable

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

MESSAGES_HEIGHT = 110


class TrainingBox(QWidget):
    """Shows and controls the trainings of one kind.

    Parameters
    ----------
    session : Session
        Runs the jobs.
    scene : Scene
        Its viewer gives the theme.
    kind : str
        ``pretrain`` or ``finetune``.
    start : str
        Text of the start button.
    figure : str
        Validation metric that is drawn with the loss.
    then : str
        Sentence to show when a training has finished.

    Attributes
    ----------
    wanted : Signal
        The start button was pressed.
    pictured : Signal of object
        The picture of a Preview event.
    scored : Signal of Validation
        A validation was computed.
    began, over : Signal
        A training of this kind started or ended.
    """

    wanted = Signal()
    pictured = Signal(object)
    scored = Signal(object)
    began = Signal()
    over = Signal()

    def __init__(
        self,
        session: "Session",
        scene: "Scene",
        kind: str,
        start: str,
        figure: str = "loss",
        then: str = "",
    ) -> None:
        super().__init__()
        self.session, self.kind, self.figure, self._then = session, kind, figure, then
        self.eta = TimeLeft()
        self._job: Job | None = None
        self._problem: str | None = None
        self._bar: Any = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        row = QHBoxLayout()
        self.start = self._button("start", start, "Start a new training")
        self.pause = self._button("pause", "Pa&use", "Save and wait after the current step")
        self.stop = self._button("stop", "St&op", "Save and stop after the current step")
        for button, stretch in ((self.start, 2), (self.pause, 1), (self.stop, 1)):
            row.addWidget(button, stretch)
        layout.addLayout(row)
        self.state = QLabel()
        self.state.setObjectName("state")
        self.state.setWordWrap(True)
        self.state.hide()
        layout.addWidget(self.state)
        self.plot = CurvePlot()
        self.plot.setObjectName("curve")
        self.plot.hide()
        layout.addWidget(self.plot)
        self.log = QPlainTextEdit()
        self.log.setObjectName("messages")
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(500)
        self.log.setFixedHeight(MESSAGES_HEIGHT)
        self.log.setTabChangesFocus(True)
        self.messages = Foldable("&Messages", self.log)
        self.messages.hide()
        layout.addWidget(self.messages)
        self._message_count = 0
        self._milestones: list[Milestone] = []
        self.start.clicked.connect(self.wanted)
        self.pause.clicked.connect(self._pause)
        self.stop.clicked.connect(self._stop)
        session.jobs_changed.connect(self.refresh)
        session.job_events.connect(self._receive)
        session.job_ended.connect(self._end)
        session.project_changed.connect(self._forget)
        self._viewer = scene.viewer
        self.plot.set_theme(scene.viewer.theme)
        scene.viewer.events.theme.connect(self._set_theme)
        self.refresh()

    def _button(self, name: str, text: str, hint: str) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        button.setToolTip(hint)
        button.setAccessibleDescription(hint)
        return button

    @property
    def job(self) -> Job | None:
        """The running training of this kind, or None."""
        found = self.session.training
        return found if found is not None and found.kind == self.kind else None

    @property
    def finished(self) -> str:
        """Name of the run of the last training; empty if there was none."""
        return run_name(self._job)

    def set_ready(self, problem: str | None) -> None:
        """Enable the start button, or disable it with a problem as the reason."""
        self._problem = problem
        self.refresh()

    def refuse(self, sentence: str) -> None:
        """Show why a requested training cannot start."""
        self._say(sentence, bad=True)

    def refresh(self) -> None:
        """Update the buttons and the state."""
        job = self.job
        if job is not None and job is not self._job:
            self._begin(job)
        busy = self.session.training is not None
        self.start.setVisible(job is None)
        self.start.setEnabled(not busy and self._problem is None)
        other = "Another training is running; stop it first." if busy else None
        self.start.setToolTip(self._problem or other or "Start a new training")
        self.pause.setVisible(job is not None)
        self.stop.setVisible(job is not None)
        if job is None:
            return
        waiting = job.pausing and job.status == "running"
        self.pause.setText("Res&ume" if job.pausing else "Pa&use")
        self.pause.setEnabled(job.status != "stopping")
        self.stop.setEnabled(job.status != "stopping")
        if job.status == "stopping":
            self._say("Stopping after this step…")
        elif job.status == "paused" and job.pausing:
            self.eta.reset()
            self._say(
                f"Paused at step {self.eta.step:,} of {self.eta.total:,}; everything is saved."
            )
        elif waiting:
            self._say("Pausing after this step…")

    def release(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.events.theme.disconnect(self._set_theme)

    def _set_theme(self, event: Any) -> None:
        self.plot.set_theme(event.value)

    def _pause(self) -> None:
        if self.job is not None:
            if self.job.pausing:
                self.job.resume()
                self._say("Resuming…")
            else:
                self.job.pause()
            self.refresh()

    def _stop(self) -> None:
        if self.job is not None:
            self.job.stop()
            self.refresh()

    def _begin(self, job: Job) -> None:
        self._job, self.eta = job, TimeLeft()
        self._clear_curve()
        self.messages.show()
        self._say(f"{job.title}…")
        self.began.emit()

    def _forget(self) -> None:
        """Forget the last training: it is of another project."""
        self._job, self.eta = None, TimeLeft()
        self._clear_curve()
        self.plot.hide()
        self.messages.hide()
        self._say("")
        self.refresh()

    def _clear_curve(self) -> None:
        self._message_count = 0
        self._milestones.clear()
        self.plot.clear()
        self.log.clear()
        self.messages.set_title("&Messages")

    def _receive(self, job: Job, events: list[Event]) -> None:
        if job is not self._job:
            return
        text = ""
        for event in events:
            match event:
                case Step():
                    if event.step < self.eta.step:
                        self.plot.clear()  # The next stage started.
                    self.eta.update(event)
                    # A milestone arrives before the first step of its stage, so it belongs here.
                    for milestone in self._milestones:
                        self.plot.mark(milestone.step, milestone.name)
                    self._milestones.clear()
                    self.plot.add("Loss", event.step, event.loss)
                    text = self._progress_text(event.images_per_second)
                case Validation():
                    value = event.metrics.get(self.figure)
                    if value is not None:
                        self.plot.add("Validation", event.step, value, marked=True)
                    self.scored.emit(event)
                case Progress():
                    text = f"{event.stage}: {event.done:,} of {event.total:,}"
                case Message():
                    self._note(event.text)
                    if isinstance(event, Milestone):
                        self._milestones.append(event)
                case Preview():
                    self.pictured.emit(event.picture)
                case Status():
                    self.eta.reset()
        if text and job.status == "running" and not job.pausing:
            self._say(text)
        elif job.status == "paused":
            self.refresh()  # The status is known before the last step.
        if self.eta.total:
            self.plot.show()
            self.plot.request_redraw()
            self._show_progress(job)  # Last, since napari draws the window there.

    def _progress_text(self, speed: float) -> str:
        text = f"Step {self.eta.step:,} of {self.eta.total:,}"
        remaining = self.eta.remaining
        if remaining is None:
            return f"{text}, measuring speed…"
        return f"{text}, {duration(remaining)} left, {format_number(speed)} images/s"

    def _show_progress(self, job: Job) -> None:
        """Show the progress in the activity dock of napari, too."""
        from napari.utils import progress

        if self._bar is not None and self._bar.total != self.eta.total:
            self._bar.close()
            self._bar = None
        if self._bar is None:
            self._bar = progress(total=self.eta.total, desc=job.title)
            pause_activity_spinner()
        self._bar.update(self.eta.step - self._bar.n)

    def _note(self, text: str) -> None:
        self.log.appendPlainText(text)
        self._message_count += 1
        self.messages.set_title(f"&Messages ({self._message_count})")

    def _end(self, job: Job, outcome: Outcome) -> None:
        if job is not self._job:
            return
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        name = run_name(job)
        if outcome.problem is not None:
            self._note(outcome.problem.sentence)
            self._say(f"{name} failed: {outcome.problem.sentence}", bad=True)
            if not self.eta.step:
                self.plot.hide()
        elif outcome.stopped:
            at = f" at step {self.eta.step:,} of {self.eta.total:,}" if self.eta.total else ""
            self._say(f"{name} was stopped{at}; you can resume it.")
        else:
            self._say(f"{name} is finished. {self._then}".strip())
        self.refresh()
        self.over.emit()

    def _say(self, text: str, bad: bool = False) -> None:
        self.state.setText(text)
        # A colour that is readable on dark and light themes.
        self.state.setStyleSheet("color: #e0564a; font-weight: bold;" if bad else "")
        self.state.setVisible(bool(text))


def run_name(job: Job | None) -> str:
    """Return the name of the run folder of a training; empty for None."""
    return job.folder.name if job is not None and job.folder is not None else ""
