"""Start, pause and stop a training, and see how it goes: state, curve, messages."""

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
from napari_sslseg.gui.model.jobs import Job, Outcome
from napari_sslseg.gui.model.words import short
from napari_sslseg.gui.viewer.window import hold_spinner
from napari_sslseg.gui.widgets.eta import Eta, duration
from napari_sslseg.gui.widgets.foldable import Foldable
from napari_sslseg.gui.widgets.plots import CurvePlot

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

MESSAGES_HEIGHT = 110


class TrainingBox(QWidget):
    """Runs the trainings of one kind.

    Parameters
    ----------
    session, scene
        Whose jobs; whose theme.
    kind : str
        ``pretrain`` or ``finetune``.
    start : str
        What the button says that begins one.
    figure : str
        Figure of the validation that is drawn beside the loss.
    then : str
        What is said to do once one has finished.

    Attributes
    ----------
    wanted : Signal
        Somebody pressed the button that begins a training.
    pictured : Signal of object
        A picture of a Preview event.
    scored : Signal of Validation
        Figures of a validation.
    began, over : Signal
        A training of the kind began, or ended.
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
        self.eta = Eta()
        self._job: Job | None = None
        self._problem: str | None = None
        self._bar: Any = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        row = QHBoxLayout()
        self.start = self._button("start", start, "Begin a new training")
        self.pause = self._button("pause", "Pa&use", "Wait after the current step, and save")
        self.stop = self._button("stop", "St&op", "Save and end after the current step")
        for button, share in ((self.start, 2), (self.pause, 1), (self.stop, 1)):
            row.addWidget(button, share)
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
        self._said = 0
        self._milestones: list[Milestone] = []
        self.start.clicked.connect(self.wanted)
        self.pause.clicked.connect(self._pause)
        self.stop.clicked.connect(self._stop)
        session.jobs_changed.connect(self.refresh)
        session.told.connect(self._hear)
        session.ended.connect(self._end)
        self._viewer = scene.viewer
        self.plot.set_theme(scene.viewer.theme)
        scene.viewer.events.theme.connect(self._other_theme)
        self.refresh()

    def _button(self, name: str, text: str, hint: str) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        button.setToolTip(hint)
        button.setAccessibleDescription(hint)
        return button

    @property
    def job(self) -> Job | None:
        """The training of this kind that runs, if one does."""
        found = self.session.training
        return found if found is not None and found.kind == self.kind else None

    @property
    def finished(self) -> str:
        """Name of the run of the last training, empty if there was none."""
        return run_name(self._job)

    def set_ready(self, problem: str | None) -> None:
        """Let a training begin, or say why none can."""
        self._problem = problem
        self.refresh()

    def refuse(self, sentence: str) -> None:
        """Say why a training that was wanted cannot begin."""
        self._say(sentence, bad=True)

    def refresh(self) -> None:
        """Show what can be done now."""
        job = self.job
        if job is not None and job is not self._job:
            self._begin(job)
        busy = self.session.training is not None
        self.start.setVisible(job is None)
        self.start.setEnabled(not busy and self._problem is None)
        other = "Another training runs; stop it first." if busy else None
        self.start.setToolTip(self._problem or other or "Begin a new training")
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
            self.eta.hold()
            self._say(f"Paused at step {self.eta.step:,} of {self.eta.total:,}; all is saved.")
        elif waiting:
            self._say("Pausing after this step…")

    def release(self) -> None:
        """Take from the viewer what was hung to it."""
        self._viewer.events.theme.disconnect(self._other_theme)

    def _other_theme(self, event: Any) -> None:
        self.plot.set_theme(event.value)

    def _pause(self) -> None:
        if self.job is not None:
            if self.job.pausing:
                self.job.resume()
                self._say("Going on…")
            else:
                self.job.pause()
            self.refresh()

    def _stop(self) -> None:
        if self.job is not None:
            self.job.stop()
            self.refresh()

    def _begin(self, job: Job) -> None:
        self._job, self._said = job, 0
        self._milestones.clear()
        self.eta = Eta()
        self.plot.clear()
        self.log.clear()
        self.messages.set_title("&Messages")
        self.messages.show()
        self._say(f"{job.title}…")
        self.began.emit()

    def _hear(self, job: Job, events: list[Event]) -> None:
        if job is not self._job:
            return
        text = ""
        for event in events:
            match event:
                case Step():
                    if event.step < self.eta.step:
                        self.plot.clear()  # The next stage.
                    self.eta.tell(event.step, event.total)
                    # Told before the first step of its stage, so it is not of the curve before.
                    for milestone in self._milestones:
                        self.plot.mark(milestone.step, milestone.name)
                    self._milestones.clear()
                    self.plot.add("Loss", event.step, event.loss)
                    text = self._how_far(event.images_per_second)
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
                    self.eta.hold()
        if text and job.status == "running" and not job.pausing:
            self._say(text)
        if self.eta.total:
            self.plot.show()
            self.plot.ask()
            self._show_progress(job)  # Last, since napari draws the window there.

    def _how_far(self, speed: float) -> str:
        text = f"Step {self.eta.step:,} of {self.eta.total:,}"
        left = self.eta.left
        if left is None:
            return f"{text}, measuring speed…"
        return f"{text}, {duration(left)} left, {short(speed)} images/s"

    def _show_progress(self, job: Job) -> None:
        """Tell the activity dock of napari, too."""
        from napari.utils import progress

        if self._bar is not None and self._bar.total != self.eta.total:
            self._bar.close()
            self._bar = None
        if self._bar is None:
            self._bar = progress(total=self.eta.total, desc=job.title)
            hold_spinner()
        self._bar.update(self.eta.step - self._bar.n)

    def _note(self, text: str) -> None:
        self.log.appendPlainText(text)
        self._said += 1
        self.messages.set_title(f"&Messages ({self._said})")

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
            self._say(f"{name} was stopped{at}; you can go on with it.")
        else:
            self._say(f"{name} is finished. {self._then}".strip())
        self.refresh()
        self.over.emit()

    def _say(self, text: str, bad: bool = False) -> None:
        self.state.setText(text)
        # A colour that is read on dark and on light.
        self.state.setStyleSheet("color: #e0564a; font-weight: bold;" if bad else "")
        self.state.setVisible(bool(text))


def run_name(job: Job | None) -> str:
    """Name of the run folder of a training; empty for none."""
    return job.folder.name if job is not None and job.folder is not None else ""
