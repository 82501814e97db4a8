"""The step in which a network learns from scans without labels."""

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.common.errors import ConfigError, SslsegError
from napari_sslseg.core.common.pictures import PretextPreview
from napari_sslseg.core.settings.pretext.registry import TASKS, make_task
from napari_sslseg.gui.model.latest import Latest
from napari_sslseg.gui.model.run_lines import RunLine, run_lines
from napari_sslseg.gui.pretrain.form import PretrainForm
from napari_sslseg.gui.pretrain.picture_strip import PictureStrip
from napari_sslseg.gui.pretrain.plan import PretrainPlan, sample_size_of, training_data_of
from napari_sslseg.gui.pretrain.preview_maker import (
    PreviewMaker,
    PreviewRequest,
    TrainingPicture,
    pixel_size,
)
from napari_sslseg.gui.pretrain.run_estimate import DeviceInfo, EstimateRequest, estimate_run
from napari_sslseg.gui.pretrain.tiles import Tile
from napari_sslseg.gui.widgets.eta import time_range
from napari_sslseg.gui.widgets.form_fields import set_number
from napari_sslseg.gui.widgets.run_box import RunBox
from napari_sslseg.gui.widgets.training_box import TrainingBox, run_name

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

DEBOUNCE_MILLISECONDS = 30
POLL_MILLISECONDS = 15
SLOW_SECONDS = 0.4
REMEMBERED = "pretrain"
COMPARES = "This method compares whole scans: its pictures come once the training runs."


class PretrainPanel(QWidget):
    """Choose what to learn, see what it does to the current slice, train, and see how it goes."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self._run: RunLine | None = None
        self._latest = ""
        self._plan: PretrainPlan | None = None
        self._pixel = (1.0, 1.0)
        self.machine: DeviceInfo | None = None
        self._each: tuple[float, float] | None = None
        self.pictures: Latest[PreviewRequest | TrainingPicture, list[Tile]] = Latest(PreviewMaker())
        self.looks: Latest[EstimateRequest, tuple[DeviceInfo, Any]] = Latest(estimate_run)
        self._lay_out()
        self._soon = self._timer(DEBOUNCE_MILLISECONDS, self._apply, single=True)
        self._look = self._timer(DEBOUNCE_MILLISECONDS, self._ask, single=True)
        self._asked = 0.0
        self._poll = self._timer(POLL_MILLISECONDS, self._take, single=False)
        self._connect()
        self._recall()
        self._refresh()

    def _lay_out(self) -> None:
        self.form = PretrainForm()
        self.box = TrainingBox(self.session, self.scene, "pretrain", "&Start pretraining")
        self.runs = RunBox("Pretrainings")
        self.preflight, self.heading, self.note = QLabel(), QLabel(), QLabel()
        self.strip = PictureStrip()
        self.strip.setObjectName("pictures")
        for name in ("preflight", "heading", "note"):
            label: QLabel = getattr(self, name)
            label.setObjectName(f"pretrain-{name}")
            label.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 6, 0)
        for part in (
            self.form, self.preflight, self.box, self.heading, self.strip, self.note, self.runs,
        ):  # fmt: skip
            layout.addWidget(part)
        layout.addStretch(1)

    def _timer(self, milliseconds: int, then: Any, *, single: bool) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(milliseconds)
        timer.setSingleShot(single)
        timer.timeout.connect(then)
        return timer

    def _connect(self) -> None:
        session, scene = self.session, self.scene
        session.project_changed.connect(self._other_project)
        session.scans_changed.connect(self._refresh)
        session.plane_changed.connect(self._refresh)
        session.runs_changed.connect(self._runs_read)
        scene.changed.connect(self._move)
        scene.moved.connect(self._move)
        self.form.changed.connect(self._edited)
        self.box.wanted.connect(self._start)
        self.box.began.connect(self._began)
        self.box.over.connect(self._over)
        self.box.pictured.connect(self._see)
        self.runs.picked.connect(self._pick)
        self.runs.go_on.connect(self._go_on)

    def release(self) -> None:
        """Take from the viewer what was hung to it."""
        self.box.release()

    # The project

    def _other_project(self) -> None:
        self._run, self._latest = None, ""
        self.strip.show_tiles([])
        self._recall()
        self._refresh()

    def _recall(self) -> None:
        project = self.session.project
        kept = project.recall(REMEMBERED, {}) if project is not None else {}
        if kept.get("what") in list(self.form.pretext_choices):
            self.form.choose(kept["what"])
            index = self.form.network.findData(kept.get("network"))
            self.form.network.setCurrentIndex(max(index, 0))
            if isinstance(kept.get("steps"), int):
                self.form.length.setCurrentIndex(self.form.length.findData(0))
                set_number(self.form.steps, kept["steps"])
            if isinstance(kept.get("batch"), int):
                set_number(self.form.batch, kept["batch"])

    def _refresh(self) -> None:
        self.form.set_ground(training_data_of(self.session.project))
        self._list_runs()
        self._soon.start()

    def _list_runs(self) -> None:
        job = self.session.training
        lines = run_lines(self.session.runs, "pretrain", run_name(job))
        self.runs.set_lines(lines, free=job is None)

    def _runs_read(self) -> None:
        """Show what the training that has just ended makes of the slice."""
        self._list_runs()
        latest, self._latest = self._latest, ""
        if latest and self.box.job is None:
            self._run = next((line for line in self.runs.lines if line.name == latest), None)
            self._soon.start()

    # What is chosen

    def _edited(self) -> None:
        self._run = None
        self._soon.start()

    def _make_plan(self) -> PretrainPlan | None:
        """What is chosen, with patches that suit the scans."""
        plan, project = self.form.plan(), self.session.project
        ground = self.form.ground
        if plan is None or project is None or not ground.modalities or plan.choice.preset:
            return plan
        kind = TASKS[plan.task_name()]
        settings = plan.prepared(ground.modalities[0], ground.plane, ground.spacing)
        size = sample_size_of(project, settings)
        if not self.form.has_patches or plan.network_settings().dimensions not in kind.dimensions:
            return plan
        stride = getattr(plan.network_settings(), "stride", None)
        side = getattr(make_task(plan.choice.key, size, stride=stride), "patch_size", None)
        self.form.set_automatic_patch(side)
        return self.form.plan(side)

    def _apply(self) -> None:
        """Say what would be trained, and show what it does to the slice."""
        self._plan, problem = None, None
        try:
            self._plan = self._make_plan()
        except (SslsegError, ValueError) as error:
            problem = str(error)
        plan, ground = self._plan, self.form.ground
        if plan is None:
            problem = problem or "Something under Advanced is not possible yet; see the ⚠ there."
        else:
            problem = plan.problem(ground)
        self.box.set_ready(problem)
        self._tell(problem)
        if plan is None or problem is not None:
            return
        network = plan.network_settings()
        batch = int(plan.training.get("batch_size", self.form.batch.value()))
        self.looks.ask(
            EstimateRequest(
                self.form.device.currentData(),
                self._steps(plan),
                plan.task_name(),
                network,
                batch,
                self.session.project,
            )
        )
        self._ask()

    def _steps(self, plan: PretrainPlan) -> int:
        if plan.steps is not None:
            return plan.steps
        stages = plan.preset(self.form.ground.plane).stages
        total = 0
        for stage in stages:
            slices = self.form.ground.slices * stage.settings.middle_share
            training = stage.settings.training
            per_epoch = -(-slices // training.batch_size)
            total += int(training.epochs * per_epoch) if training.epochs else training.steps
        return total

    def _tell(self, problem: str | None) -> None:
        """Preflight: what it learns from, on what it runs, and how long that takes."""
        ground, plan = self.form.ground, self._plan
        machine = self.machine.words if self.machine else "Looking for a GPU…"
        self.preflight.setVisible(self.box.job is None)  # The pictures need the room.
        if self.box.job is not None:
            return
        if problem is not None or plan is None:
            self.preflight.setText(f"⚠ {problem}")
            return
        steps = self._steps(plan)
        long = "the time is known after the first steps"
        if self._each is not None:
            long = f"{time_range(steps * self._each[0], steps * self._each[1])}, by earlier runs"
        length = f"{'At most ' if plan.steps is None else ''}{steps:,} steps: {long}."
        self.preflight.setText("\n".join((f"Learns from {ground.words}.", length, machine)))

    # Pictures

    def _move(self, index: int = 0) -> None:
        volume, watch = self.session.volume, self.session.watch
        if watch is not None:
            if volume is None or self.scene.image is None:
                watch.look_away()
            else:
                watch.look_at(volume, self.scene.slice)
        self._look.start()

    def _ask(self) -> None:
        """Ask for pictures of the slice, unless a training sends them."""
        volume, plan = self.session.volume, self._plan
        ground = self.form.ground
        self._poll.start()
        if volume is None or plan is None or self.box.job is not None:
            return
        self._asked = time.monotonic()
        prepared = plan.prepared(volume.modality, ground.plane, ground.spacing)
        self._pixel = pixel_size(volume, prepared)
        run = self._run.folder if self._run is not None and self._run.usable else None
        self.pictures.ask(
            PreviewRequest(
                volume,
                self.scene.slice,
                plan.task_name(),
                plan.task_options(ground.plane),
                prepared,
                plan.network_settings(),
                run,
            )
        )

    def _see(self, picture: object) -> None:
        if isinstance(picture, PretextPreview):
            self.pictures.ask(TrainingPicture(picture, self._pixel))
            self._poll.start()

    def _take(self) -> None:
        """Show what was made meanwhile."""
        looked = self.looks.take()
        if looked is not None and looked.result is not None:
            self.machine, self._each = looked.result
            self.form.set_devices(self.machine.devices)
            if self._plan is not None:
                self._tell(self._plan.problem(self.form.ground))
        answer = self.pictures.take()
        if answer is not None:
            asked = answer.request
            if answer.problem is not None:
                self._reject(answer.problem.sentence, answer.error)
            elif isinstance(asked, TrainingPicture) or self.box.job is None:
                self._show(answer.result or [], asked)
        if not self.pictures.busy and not self.looks.busy:
            self._poll.stop()
        elif self.pictures.busy and time.monotonic() - self._asked > SLOW_SECONDS:
            self.heading.setText("<b>Making the pictures…</b>")

    def _show(self, made: list[Tile], asked: PreviewRequest | TrainingPicture) -> None:
        self.strip.show_tiles(made)
        name = self._run.name if self._run is not None else ""
        if isinstance(asked, TrainingPicture):
            text = "What the network makes of it so far"
        elif asked.run is not None:
            text = f"What {name} makes of this slice"
        else:
            text = "What the network will see of this slice"
        self.heading.setText(f"<b>{text}</b>" if made else "")
        self.note.setText("" if made else COMPARES)
        self.note.setVisible(not made)

    def _reject(self, sentence: str, error: Exception | None) -> None:
        """Say why there is no picture; what is impossible here is so in the training, too."""
        self.strip.show_tiles([])
        self.heading.clear()
        self.note.setText(f"⚠ {sentence}")
        self.note.show()
        if isinstance(error, ConfigError) and self.box.job is None:
            self.box.set_ready(sentence)

    # Trainings

    def _start(self) -> None:
        self._soon.stop()
        self._apply()
        plan, ground, session = self._plan, self.form.ground, self.session
        if plan is None or plan.problem(ground) is not None or session.project is None:
            return
        project, device = session.project, self.form.device.currentData()
        kept = {
            "what": plan.choice.key, "network": plan.network, "steps": plan.steps,
            "batch": self.form.batch.value(),
        }  # fmt: skip
        session.attempt(lambda: project.remember(REMEMBERED, kept))
        self._watch()
        if plan.choice.preset:
            session.attempt(lambda: session.pretrain_preset(plan.preset(ground.plane), device))
        else:
            settings = plan.settings(ground.modalities[0], ground.plane, ground.spacing)
            session.attempt(lambda: session.pretrain(plan.task(None), settings, device))

    def _go_on(self, name: str) -> None:
        self._watch()
        self.session.attempt(lambda: self.session.go_on(name))

    def _watch(self) -> None:
        if self.session.watch is None:
            from napari_sslseg.core.training.watch import Watch

            self.session.watch = Watch()
        self._move()

    def _began(self) -> None:
        self._run = None
        self.form.hide()
        self._tell(None)
        self._list_runs()

    def _over(self) -> None:
        self.form.show()
        self._latest = self.box.finished
        self._list_runs()
        self._soon.start()

    def _pick(self, line: RunLine | None) -> None:
        if self.box.job is None:
            self._run = line
            self._soon.start()
