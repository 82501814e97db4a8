"""Step 4: learn from the slices that are done, and watch it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import Event, PauseFlag, StopFlag
from napari_sslseg.gui.model.run_lines import run_lines
from napari_sslseg.gui.model.run_words import usable_runs
from napari_sslseg.gui.train.form import TrainForm
from napari_sslseg.gui.train.score_curves import ScoreCurves
from napari_sslseg.gui.train.training_choice import finetune_settings, refusal, split_words
from napari_sslseg.gui.viewer.live_prediction import LivePrediction
from napari_sslseg.gui.widgets.run_box import RunBox
from napari_sslseg.gui.widgets.training_box import TrainingBox, run_name

if TYPE_CHECKING:
    from napari_sslseg.gui.model.jobs import Job, Outcome
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

WAIT_MILLISECONDS = 150
THEN = "See in step 5 what it makes of your scans."


class TrainPanel(QWidget):
    """Fine-tuning: what it starts from and learns from, how it goes, and how to stop it."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self.live = LivePrediction(session, scene)
        self.live.look()
        self.form = TrainForm()
        self.material = QLabel()
        self.material.setObjectName("train-material")
        self.material.setWordWrap(True)
        self.box = TrainingBox(session, scene, "finetune", "&Start training", figure="", then=THEN)
        self.scores = ScoreCurves(session, scene)
        self.runs = RunBox("Trainings")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 6, 0)
        for part in (self.form, self.material, self.box, self.scores, self.runs):
            layout.addWidget(part)
        layout.addStretch(1)
        self._asked = 0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._ask_split)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        session = self.session
        for signal in (session.project_changed, session.runs_changed, session.jobs_changed):
            signal.connect(self.refresh)
        for signal in (
            session.project_changed, session.scans_changed, session.plane_changed,
            session.classes_changed,
        ):  # fmt: skip
            signal.connect(self._look_soon)
        session.done_changed.connect(lambda name: self._look_soon())
        self.form.changed.connect(self._look_soon)
        self.box.wanted.connect(self._begin)
        self.box.began.connect(self._began)
        self.box.scored.connect(self.scores.take)
        self.box.over.connect(self._look_soon)
        self.runs.go_on.connect(self._go_on)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Let the prediction in training be seen."""
        self.scene.bring("live")
        super().showEvent(event)

    def release(self) -> None:
        """Take from the viewer what was hung to it."""
        self.box.release()
        self.scores.release()

    @property
    def job(self) -> "Job | None":
        """The fine-tuning that runs, if one does."""
        return self.box.job

    def refresh(self) -> None:
        """Show which runs there are, and the form while none is at work."""
        runs, training = self.session.runs, self.session.training
        self.form.show_runs(usable_runs(runs, "pretrain"))
        self.runs.set_lines(run_lines(runs, "finetune", run_name(training)), free=training is None)
        self.form.setVisible(self.job is None)  # The curves need the room.

    def _begin(self) -> None:
        choice = self.form.choice()
        told = refusal(self.session, choice)
        project = self.session.project
        if told is None and project is not None:
            try:
                settings = finetune_settings(project, choice)
            except SslsegError as error:
                told = str(error)
        if told is not None or project is None:
            self.box.refuse(told or "")
            return
        init = project.folder / "runs" / choice.start if choice.start else "scratch"
        self.session.finetune(init, settings, validation_share=choice.share, device=choice.device)

    def _go_on(self, name: str) -> None:
        self.session.attempt(lambda: self.session.go_on(name))

    def _began(self) -> None:
        self.scores.clear()
        self.live.look()
        self.refresh()

    def _look_soon(self) -> None:
        self._timer.start(WAIT_MILLISECONDS)

    def _ask_split(self) -> None:
        """Find out in the background what would be learnt from; files are looked at."""
        project, choice = self.session.project, self.form.choice()
        told = refusal(self.session, replace(choice, start=""))
        if project is None or told is not None:
            if self.session.training is None:
                self.material.setText(told or "")
            return
        self._asked += 1
        number, words = self._asked, []

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            try:
                split = project.split_validation(choice.share, usable_only=True)
                words.append(split_words(project, split))
                if split.note:
                    words.append(split.note)
            except SslsegError as error:
                words.append(str(error))
            yield from ()

        def ended(outcome: "Outcome") -> None:
            if number == self._asked and self.session.project is project:
                self.material.setText(" ".join(words))

        self.session.run("look", "Looking at the labels", events, ended)
