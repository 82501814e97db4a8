"""Panel of step 2: pretraining on scans without labels."""

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.common.errors import ConfigError, SslsegError
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.runs.time_left import time_range
from napari_sslseg.core.settings.pretext.registry import TASKS, make_task
from napari_sslseg.gui.model.latest_request import LatestRequestWorker
from napari_sslseg.gui.model.run_lines import RunLine, run_lines
from napari_sslseg.gui.pretrain.form import OTHER_LENGTH, PretrainForm
from napari_sslseg.gui.pretrain.picture_strip import PictureStrip
from napari_sslseg.gui.pretrain.plan import PretrainPlan
from napari_sslseg.gui.pretrain.preview_maker import (
    PreviewMaker,
    PreviewRequest,
    TrainingPicture,
    pixel_size,
)
from napari_sslseg.gui.pretrain.run_estimate import DeviceInfo, EstimateRequest, estimate_run
from napari_sslseg.gui.pretrain.tiles import Tile
from napari_sslseg.gui.pretrain.training_data import (
    describe_pixels,
    training_data_of,
    training_sample_size,
)
from napari_sslseg.gui.runs.run_box import RunBox
from napari_sslseg.gui.runs.training_box import TrainingBox, run_name
from napari_sslseg.gui.widgets.form_fields import set_number

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

DEBOUNCE_MILLISECONDS = 30
POLL_MILLISECONDS = 15
SLOW_SECONDS = 0.4
MEMORY_KEY = "pretrain"
"""Under which the project remembers the last choices."""

NO_PREVIEW = "This method compares whole scans: its pictures appear once the training runs."


class PretrainPanel(QWidget):
    """Choose a method, preview it on the current slice, train, and watch the training."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self._run: RunLine | None = None
        self._latest = ""
        self._plan: PretrainPlan | None = None
        self._pixel = (1.0, 1.0)
        self.device_info: DeviceInfo | None = None
        self._step_seconds: tuple[float, float] | None = None
        self.previews: LatestRequestWorker[PreviewRequest | TrainingPicture, list[Tile]] = (
            LatestRequestWorker(PreviewMaker())
        )
        self.estimates: LatestRequestWorker[EstimateRequest, tuple[DeviceInfo, Any]] = (
            LatestRequestWorker(estimate_run)
        )
        self._lay_out()
        self._apply_timer = self._make_timer(DEBOUNCE_MILLISECONDS, self._apply, single=True)
        self._preview_timer = self._make_timer(
            DEBOUNCE_MILLISECONDS, self._request_preview, single=True
        )
        self._poll_timer = self._make_timer(POLL_MILLISECONDS, self._poll, single=False)
        self._requested = 0.0
        self._connect()
        self._recall()
        self._refresh()

    def _lay_out(self) -> None:
        self.form = PretrainForm()
        self.box = TrainingBox(self.session, self.scene, "pretrain", "&Start pretraining")
        self.runs = RunBox("Pretraining runs")
        self.estimate, self.heading, self.note = QLabel(), QLabel(), QLabel()
        self.strip = PictureStrip()
        self.strip.setObjectName("pictures")
        for name in ("estimate", "heading", "note"):
            label: QLabel = getattr(self, name)
            label.setObjectName(f"pretrain-{name}")
            label.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 6, 0)
        for part in (
            self.form, self.estimate, self.box, self.heading, self.strip, self.note, self.runs,
        ):  # fmt: skip
            layout.addWidget(part)
        layout.addStretch(1)

    def _make_timer(self, milliseconds: int, then: Any, *, single: bool) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(milliseconds)
        timer.setSingleShot(single)
        timer.timeout.connect(then)
        return timer

    def _connect(self) -> None:
        session, scene = self.session, self.scene
        session.project_changed.connect(self._project_changed)
        session.scans_changed.connect(self._refresh)
        session.plane_changed.connect(self._refresh)
        session.runs_changed.connect(self._runs_changed)
        scene.changed.connect(self._slice_changed)
        scene.moved.connect(self._slice_changed)
        self.form.changed.connect(self._form_changed)
        self.box.wanted.connect(self._start)
        self.box.began.connect(self._began)
        self.box.over.connect(self._over)
        self.box.pictured.connect(self._show_training_picture)
        self.runs.picked.connect(self._pick_run)
        self.runs.resume_requested.connect(self._resume)

    def release(self) -> None:
        """Disconnect from the viewer."""
        self.box.release()

    # Project

    def _project_changed(self) -> None:
        self._run, self._latest, self._step_seconds = None, "", None
        self.strip.show_tiles([])
        for label in (self.heading, self.note, self.estimate):
            label.clear()
        self.form.reset()
        self._recall()
        self._refresh()

    def _recall(self) -> None:
        """Restore the choices that the project remembers, as far as they are possible."""
        project, form = self.session.project, self.form
        memory = project.recall(MEMORY_KEY, {}) if project is not None else {}
        if not isinstance(memory, dict) or memory.get("what") not in list(form.methods):
            return
        form.choose(memory["what"])
        form.network.setCurrentIndex(max(form.network.findData(memory.get("network")), 0))
        if isinstance(memory.get("steps"), int):
            form.length.setCurrentIndex(form.length.findData(OTHER_LENGTH))
            set_number(form.steps, memory["steps"])
        if isinstance(memory.get("batch"), int):
            set_number(form.batch, memory["batch"])

    def _remember(self, plan: PretrainPlan) -> None:
        choices = {
            "what": plan.method.key, "network": plan.network, "steps": plan.steps,
            "batch": plan.training.get("batch_size"),
        }  # fmt: skip
        self.session.remember(MEMORY_KEY, choices)

    def _refresh(self) -> None:
        self.form.set_data(training_data_of(self.session.project))
        self._list_runs()
        self._apply_timer.start()

    def _list_runs(self) -> None:
        job = self.session.training
        lines = run_lines(self.session.runs, "pretrain", run_name(job))
        self.runs.set_lines(lines, free=job is None)

    def _runs_changed(self) -> None:
        """Show what the run that has just ended restores of the slice."""
        self._list_runs()
        latest, self._latest = self._latest, ""
        if latest and self.box.job is None:
            self._run = next((line for line in self.runs.lines if line.name == latest), None)
            self._apply_timer.start()

    # Choices

    def _form_changed(self) -> None:
        self._run = None
        self._apply_timer.start()

    def _make_plan(self) -> PretrainPlan | None:
        """Read the form; an automatic patch size is the one that core chooses for the scans."""
        plan, project, data = self.form.plan(), self.session.project, self.form.data
        if plan is None or project is None or not data.modalities or plan.method.preset:
            return plan
        network, kind = plan.network_settings(), TASKS[plan.task_name()]
        settings = plan.prepared(data.modalities[0], data.plane, data.spacing)
        if not self.form.has_patches or network.dimensions not in kind.dimensions:
            return plan
        size = training_sample_size(project, settings)
        task = make_task(plan.method.key, size, stride=getattr(network, "stride", None))
        side = getattr(task, "patch_size", None)
        self.form.set_automatic_patch(side)
        return self.form.plan(side)

    def _apply(self) -> None:
        """Check the choices, and request an estimate and a preview."""
        self._plan, problem = None, None
        try:
            self._plan = self._make_plan()
        except (SslsegError, ValueError) as error:
            problem = str(error)
        plan, data = self._plan, self.form.data
        if plan is None:
            problem = problem or "A setting under Advanced is not possible; see the ⚠ there."
        else:
            problem = plan.problem(data)
        self.box.set_ready(problem)
        self._show_estimate(problem)
        if plan is None or problem is not None:
            return
        self.estimates.ask(
            EstimateRequest(
                self.form.device.currentData(),
                plan.task_name(),
                plan.network_settings(),
                self.form.batch.value(),
                self.session.project,
            )
        )
        self._request_preview()

    def _steps(self, plan: PretrainPlan) -> int:
        """Return the number of steps, of a preset in all stages together."""
        if plan.steps is not None:
            return plan.steps
        total = 0
        for stage in plan.preset(self.form.data.plane).stages:
            training = stage.settings.training
            slices = self.form.data.slices * stage.settings.middle_share
            steps_per_epoch = -(-slices // training.batch_size)
            total += int(training.epochs * steps_per_epoch) if training.epochs else training.steps
        return total

    def _show_estimate(self, problem: str | None) -> None:
        """Show training data, number of steps, time and device, or the problem."""
        plan = self._plan
        self.estimate.setVisible(self.box.job is None)  # The pictures need the room.
        if self.box.job is not None:
            return
        if problem is not None or plan is None:
            self.estimate.setText(f"⚠ {problem}")
            return
        steps = self._steps(plan)
        duration = "the time is known after the first steps"
        if self._step_seconds is not None:
            low, high = self._step_seconds
            duration = f"{time_range(steps * low, steps * high)}, judging by earlier runs"
        length = f"{'At most ' if plan.steps is None else ''}{steps:,} steps: {duration}."
        device = self.device_info.description if self.device_info else "Looking for a GPU…"
        data = self.form.data
        lines = [f"Trains on {data.description}.", length, device]
        if self.session.project is not None and data.modalities:
            prepared = plan.prepared(data.modalities[0], data.plane, data.spacing)
            lines.insert(1, describe_pixels(self.session.project, prepared))
        self.estimate.setText("\n".join(filter(None, lines)))

    # Pictures

    def _slice_changed(self, index: int = 0) -> None:
        volume, watch = self.session.volume, self.session.watch
        if watch is not None:
            if volume is None or self.scene.image is None:
                watch.look_away()
            else:
                watch.look_at(volume, self.scene.slice)
        self._preview_timer.start()

    def _request_preview(self) -> None:
        """Request pictures of the current slice, unless a training sends them."""
        volume, plan, data = self.session.volume, self._plan, self.form.data
        self._poll_timer.start()
        if volume is None or plan is None or self.box.job is not None:
            return
        self._requested = time.monotonic()
        prepared = plan.prepared(volume.modality, data.plane, data.spacing)
        self._pixel = pixel_size(volume, prepared)
        run = self._run.folder if self._run is not None and self._run.usable else None
        self.previews.ask(
            PreviewRequest(
                volume,
                self.scene.slice,
                plan.task_name(),
                plan.task_options(data.plane),
                prepared,
                plan.network_settings(),
                run,
            )
        )

    def _show_training_picture(self, picture: object) -> None:
        if isinstance(picture, PretextPreview):
            self.previews.ask(TrainingPicture(picture, self._pixel))
            self._poll_timer.start()

    def _poll(self) -> None:
        """Show estimates and previews that are ready."""
        estimate = self.estimates.take()
        if estimate is not None and estimate.result is not None:
            self.device_info, self._step_seconds = estimate.result
            if estimate.request.project is not self.session.project:
                self._step_seconds = None  # The speed of runs of another project.
            self.form.set_devices(self.device_info.devices)
            if self._plan is not None:
                self._show_estimate(self._plan.problem(self.form.data))
        preview = self.previews.take()
        if preview is not None:
            request = preview.request
            if preview.problem is not None:
                self._show_preview_problem(preview.problem.sentence, preview.error)
            elif self._is_wanted(request):
                self._show_preview(preview.result or [], request)
        if not self.previews.busy and not self.estimates.busy:
            self._poll_timer.stop()
        elif self.previews.busy and time.monotonic() - self._requested > SLOW_SECONDS:
            self.heading.setText("<b>Making the pictures…</b>")

    def _is_wanted(self, request: PreviewRequest | TrainingPicture) -> bool:
        """Whether a picture is of the running training, or of the scan that is shown."""
        if isinstance(request, TrainingPicture):
            return True
        return self.box.job is None and request.volume is self.session.volume

    def _show_preview(self, tiles: list[Tile], request: PreviewRequest | TrainingPicture) -> None:
        self.strip.show_tiles(tiles)
        if isinstance(request, TrainingPicture):
            text = "Output of the network so far"
        elif request.run is not None:
            name = self._run.name if self._run is not None else ""
            text = f"Output of {name} for this slice"
        else:
            text = "Input of the network for this slice"
        self.heading.setText(f"<b>{text}</b>" if tiles else "")
        self.note.setText("" if tiles else NO_PREVIEW)
        self.note.setVisible(not tiles)

    def _show_preview_problem(self, sentence: str, error: Exception | None) -> None:
        """Say why there is no preview; a setting that is impossible here cannot be trained."""
        self.strip.show_tiles([])
        self.heading.clear()
        self.note.setText(f"⚠ {sentence}")
        self.note.show()
        if isinstance(error, ConfigError) and self.box.job is None:
            self.box.set_ready(sentence)

    # Training

    def _start(self) -> None:
        self._apply_timer.stop()
        self._apply()
        plan, data, session = self._plan, self.form.data, self.session
        if plan is None or plan.problem(data) is not None or session.project is None:
            return
        device = self.form.device.currentData()
        self._remember(plan)
        self._start_watching()
        if plan.method.preset:
            session.attempt(lambda: session.pretrain_preset(plan.preset(data.plane), device))
        else:
            settings = plan.settings(data.modalities[0], data.plane, data.spacing)
            session.attempt(lambda: session.pretrain(plan.task(None), settings, device))

    def _resume(self, name: str) -> None:
        self._start_watching()
        self.session.attempt(lambda: self.session.resume(name))

    def _start_watching(self) -> None:
        """Have the training send pictures of the current slice."""
        if self.session.watch is None:
            from napari_sslseg.core.training.watch import Watch

            self.session.watch = Watch()
        self._slice_changed()

    def _began(self) -> None:
        self._run = None
        self.form.hide()
        self._show_estimate(None)
        self._list_runs()

    def _over(self) -> None:
        self.form.show()
        self._latest = self.box.finished
        self._list_runs()
        self._apply_timer.start()

    def _pick_run(self, line: RunLine | None) -> None:
        if self.box.job is None:
            self._run = line
            self._apply_timer.start()
