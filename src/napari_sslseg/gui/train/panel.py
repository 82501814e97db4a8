"""Panel of step 4: fine-tuning on the slices that are done."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import Event, PauseFlag, StopFlag
from napari_sslseg.gui.model.run_descriptions import usable_runs
from napari_sslseg.gui.model.run_lines import run_lines
from napari_sslseg.gui.runs.run_box import RunBox
from napari_sslseg.gui.runs.training_box import TrainingBox, run_name
from napari_sslseg.gui.train.form import TrainForm
from napari_sslseg.gui.train.label_coverage import DoneClasses, coverage_sentences
from napari_sslseg.gui.train.score_curves import ScoreCurves
from napari_sslseg.gui.train.training_choice import finetune_settings, refusal, split_sentence
from napari_sslseg.gui.viewer.live_prediction import LivePrediction

if TYPE_CHECKING:
    from napari_sslseg.gui.model.jobs import Job, Outcome
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

WAIT_MILLISECONDS = 150
NOISE = "The prediction of the slice on the screen is shown as soon as it is more than noise."
NEXT_STEP = "Look at its predictions in step 5."


class TrainPanel(QWidget):
    """Choose the start and settings of a fine-tuning, run it, and watch its curves."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self.live = LivePrediction(session, scene)
        self.live.look()
        self.form = TrainForm()
        self.material = QLabel()
        self.material.setObjectName("train-material")
        self.material.setWordWrap(True)
        self.noise = QLabel(NOISE)
        self.noise.setObjectName("train-noise")
        self.noise.setWordWrap(True)
        self.noise.hide()
        self.box = TrainingBox(
            session, scene, "finetune", "&Start training", figure="", then=NEXT_STEP
        )
        self.scores = ScoreCurves(session, scene)
        self.runs = RunBox("Training runs")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 6, 0)
        for part in (self.form, self.material, self.box, self.noise, self.scores, self.runs):
            layout.addWidget(part)
        layout.addStretch(1)
        self._split_requests = 0
        self._done_classes = DoneClasses()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._request_split)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        session = self.session
        session.project_changed.connect(self._forget)
        for signal in (session.project_changed, session.runs_changed, session.jobs_changed):
            signal.connect(self.refresh)
        for signal in (
            session.project_changed, session.scans_changed, session.plane_changed,
            session.classes_changed,
        ):  # fmt: skip
            signal.connect(self._update_split)
        session.done_changed.connect(lambda name: self._update_split())
        self.form.changed.connect(self._update_split)
        self.live.waiting_changed.connect(lambda: self.noise.setVisible(self.live.waiting))
        self.box.wanted.connect(self._start)
        self.box.began.connect(self._began)
        self.box.scored.connect(self.scores.add)
        self.box.over.connect(self._update_split)
        self.runs.resume_requested.connect(self._resume)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Show the prediction of the running training, and what was labelled since."""
        self.scene.bring("live")
        self._update_split()
        super().showEvent(event)

    def release(self) -> None:
        """Disconnect from the viewer."""
        self.box.release()
        self.scores.release()

    @property
    def job(self) -> "Job | None":
        """The running fine-tuning, if there is one."""
        return self.box.job

    def _forget(self) -> None:
        """Forget the choices and scores of another project."""
        self.form.reset()
        self.scores.clear()
        self.material.clear()

    def refresh(self) -> None:
        """Show the runs, and the form while no fine-tuning runs."""
        runs, training = self.session.runs, self.session.training
        self.form.show_runs(usable_runs(runs, "pretrain"))
        self.runs.set_lines(run_lines(runs, "finetune", run_name(training)), free=training is None)
        self.form.setVisible(self.job is None)  # The curves need the room.

    def _start(self) -> None:
        choice = self.form.choice()
        problem = refusal(self.session, choice)
        project = self.session.project
        if problem is None and project is not None:
            try:
                settings = finetune_settings(project, choice)
            except SslsegError as error:
                problem = str(error)
        if problem is not None or project is None:
            self.box.refuse(problem or "")
            return
        init = project.folder / "runs" / choice.start if choice.start else "scratch"
        self.session.finetune(init, settings, validation_share=choice.share, device=choice.device)

    def _resume(self, name: str) -> None:
        self.session.attempt(lambda: self.session.resume(name))

    def _began(self) -> None:
        self.scores.clear()
        self.live.look()
        self.refresh()

    def _update_split(self) -> None:
        self._timer.start(WAIT_MILLISECONDS)

    def _request_split(self) -> None:
        """Find the split into training and validation in the background: it reads files."""
        project, choice = self.session.project, self.form.choice()
        problem = refusal(self.session, replace(choice, start=""))
        if project is None or problem is not None:
            if self.job is None:  # The curves of a fine-tuning need the room.
                self.material.setText(problem or "")
            return
        self._split_requests += 1
        number, sentences = self._split_requests, []

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            try:
                split = project.split_validation(choice.share, usable_only=True)
                sentences.append(split_sentence(project, split))
                if split.note:
                    sentences.append(split.note)
                sentences.extend(coverage_sentences(project, split, self._done_classes))
            except SslsegError as error:
                sentences.append(str(error))
            yield from ()

        def ended(outcome: "Outcome") -> None:
            if number == self._split_requests and self.session.project is project:
                self.material.setText(" ".join(sentences))

        self.session.run("look", "Looking at the labels", events, ended)
