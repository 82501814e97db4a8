"""The dock widget: five steps from scans to predictions, and the next step to take.

Does not import PyTorch. A panel is made when it is first shown.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.gui.label.keys import HELP
from napari_sslseg.gui.model.jobs import Problem
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.napari_io.preferred_reader import PREFERRED, prefer_reader
from napari_sslseg.gui.problem_box import ProblemBox
from napari_sslseg.gui.shutdown import ShutdownHandler
from napari_sslseg.gui.viewer.held_keys import HeldKeys
from napari_sslseg.gui.viewer.napari_window import notify
from napari_sslseg.gui.viewer.pointer.layer_help import VIEW_HELP, LayerHelp
from napari_sslseg.gui.viewer.pointer.readout_label import ReadoutLabel
from napari_sslseg.gui.viewer.pointer.voxel_readout import VoxelReadout
from napari_sslseg.gui.viewer.scene import Scene
from napari_sslseg.gui.widgets.remark_box import RemarkBox

if TYPE_CHECKING:
    import napari

STEPS = ("Scans", "Pretrain", "Label", "Train", "Inspect")
TIPS = {
    "Scans": "Create or open a project, and add scans.",
    "Pretrain": "Train a network on your scans without labels. Needs scans.",
    "Label": "Label a few slices by hand. Needs scans.",
    "Train": "Train the network on the done slices. Needs a done slice.",
    "Inspect": "View, score, correct and export predictions. Needs a training.",
}
SHOWN_IN = {"pretrain": "Pretrain", "finetune": "Train", "predict": "Inspect", "export": "Inspect"}
"""Steps that show the progress of a kind of job themselves."""

SCAN_KEYS = {"PageUp": -1, "PageDown": 1}
"""Keys of the viewer that show the scan before and the next one."""

PUMP_MILLISECONDS = 40
LEAST_WIDTH, WIDEST = 376, 520
WINDOW_SHARE = 0.27
"""Width of the dock at first, as a share of the window, and its limits in pixels."""


class FewShotWidget(QWidget):
    """Few-shot segmentation in five steps.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer of the window.

    Attributes
    ----------
    released : Signal
        The widget was closed. Panels disconnect from the viewer.
    """

    released = Signal()

    def __init__(self, napari_viewer: "napari.Viewer") -> None:
        super().__init__()
        # Without the proxy that napari wraps around it: its layers do not equal those of lists.
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.session = Session()
        self.scene = Scene(self.session, self.viewer)
        self.readout = ReadoutLabel(VoxelReadout(self.scene))
        self.panels: dict[str, QWidget] = {}
        self._opened: set[str] = set()
        self.help = LayerHelp(self.scene, self._help_of)
        self._busy_job: Any = None
        self._problem_project: Any = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        # A narrower dock cuts off the names of the steps and the ends of forms.
        self.setMinimumWidth(LEAST_WIDTH)
        layout.addLayout(self._make_steps())
        self.stack = QStackedWidget()
        # Otherwise napari adds a stretch below, which takes half of the height.
        self.stack.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        layout.addWidget(self.stack, 1)
        layout.addWidget(self._make_status())
        for _ in STEPS:
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setFrameShape(QScrollArea.Shape.NoFrame)
            area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            self.stack.addWidget(area)
        self._connect()
        self.timer = QTimer(self)
        self.timer.timeout.connect(self.session.pump)
        self.timer.timeout.connect(self.scene.autosaver.tick)
        self.timer.start(PUMP_MILLISECONDS)
        self.shutdown = ShutdownHandler(self, self.session, self.scene)
        self.shutdown.started.connect(self.timer.stop)
        self.shutdown.finished.connect(self.released)
        self.show_step("Scans")
        self.refresh()
        for key, step in SCAN_KEYS.items():
            self.viewer.bind_key(
                key, lambda _, step=step: self.session.select_neighbour(step), overwrite=True
            )
        self.released.connect(self._unbind)
        self._held_keys = HeldKeys(self.viewer)
        self.released.connect(self._held_keys.release)
        self.released.connect(self.readout.release)
        if prefer_reader():
            self.session.note.emit(PREFERRED)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Show the value below the mouse in the window that the panel is in."""
        super().showEvent(event)
        self.readout.place(self)

    def sizeHint(self) -> QSize:  # noqa: N802
        """Size of the dock at first: in a wide window there is room for whole names."""
        share = round(WINDOW_SHARE * self.window().width())
        return QSize(min(max(share, LEAST_WIDTH), WIDEST), super().sizeHint().height())

    def _help_of(self, role: str) -> str:
        """Return which keys work on a layer; those of labels are bound by their panel."""
        return HELP if role == "labels" and "Label" in self.panels else VIEW_HELP

    def _unbind(self) -> None:
        for key in SCAN_KEYS:
            self.viewer.bind_key(key, None, overwrite=True)

    def _make_steps(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(2)
        self.steps = QButtonGroup(self)
        for number, name in enumerate(STEPS, start=1):
            button = QPushButton(f"{number} {name}")
            button.setObjectName(f"step-{name}")
            button.setCheckable(True)
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.setStyleSheet("QPushButton { padding: 4px 0px; }")
            button.setAccessibleName(f"Step {number}: {name}")
            button.setToolTip(TIPS[name])
            self.steps.addButton(button, number - 1)
            # As wide as its name with the mark that it gets later.
            row.addWidget(button, self.fontMetrics().horizontalAdvance(f"{number} {name} ✓"))
        self.steps.idClicked.connect(lambda number: self.show_step(STEPS[number]))
        return row

    def _make_status(self) -> QWidget:
        box = QWidget()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(0, 4, 0, 0)
        self.next = QLabel()
        self.next.setObjectName("next-step")
        self.next.setWordWrap(True)
        self.busy = QProgressBar()
        self.busy.setObjectName("busy")
        self.busy.setTextVisible(True)
        self.busy.hide()
        self.problem, self.remarks = ProblemBox(), RemarkBox()
        layout.addWidget(self.problem)
        layout.addWidget(self.remarks)
        layout.addWidget(self.busy)
        layout.addWidget(self.next)
        return box

    def _connect(self) -> None:
        session = self.session
        session.project_changed.connect(self._forget)
        for signal in (
            session.scans_changed,
            session.runs_changed,
            session.jobs_changed,
            session.classes_changed,
        ):
            signal.connect(self.refresh)
        session.done_changed.connect(lambda name: self.refresh())
        session.predictions.changed.connect(lambda run, scan: self.refresh())
        session.problem.connect(self._show_problem)
        session.note.connect(lambda text: notify(text, "info"))
        session.remark.connect(self._show_remark)
        session.project_changed.connect(self.remarks.clear)
        session.job_events.connect(self._receive)
        session.project_changed.connect(self._clear_project_problem)
        session.classes_changed.connect(self._clear_name_problem)
        self.scene.autosaver.changed.connect(self._clear_labels_problem)

    def show_step(self, name: str) -> None:
        """Show the panel of a step, and make it if it was never shown."""
        number = STEPS.index(name)
        self.steps.button(number).setChecked(True)
        if name not in self.panels:
            module = import_module(f"napari_sslseg.gui.{name.lower()}.panel")
            make: Callable[..., QWidget] = getattr(module, f"{name}Panel")
            self.panels[name] = make(self.session, self.scene)
            area = self.stack.widget(number)
            assert isinstance(area, QScrollArea)
            area.setWidget(self.panels[name])
            self.help.follow()
            release = getattr(self.panels[name], "release", None)
            if release is not None:
                self.released.connect(release)
        self.stack.setCurrentIndex(number)
        self._opened.add(name)
        self._show_busy()

    def _forget(self) -> None:
        """Forget which steps were open in another project, and its problem."""
        self._opened.clear()
        self._busy_job = None
        # What happened while a project was closed, such as labels that were lost, stays.
        if self._problem_project not in (None, self.session.project):
            self.problem.clear()
        self.refresh()

    def refresh(self) -> None:
        """Update the marks of the steps and the next step."""
        counts = self.session.summary()
        ready = {
            "Scans": True,
            "Pretrain": counts["scans"] > 0,
            "Label": counts["scans"] > 0,
            "Train": counts["done"] > 0,
            "Inspect": counts["finetuned"] > 0,
        }
        marks = {
            "Scans": counts["scans"] > 0,
            "Pretrain": counts["pretrained"] > 0,
            "Label": counts["done"] > 0,
            "Train": counts["finetuned"] > 0,
            "Inspect": False,
        }
        for number, name in enumerate(STEPS):
            button = self.steps.button(number)
            button.setText(f"{number + 1} {name}" + (" ✓" if marks[name] else ""))
            # A step stays open in its project, even if its last slice or run is gone.
            button.setEnabled(ready[name] or name in self._opened or button.isChecked())
        self.next.setText(f"<b>Next:</b> {self.session.next_step()}")
        self._show_busy()

    def _show_busy(self) -> None:
        """Show the progress of a job, unless the current step shows it itself."""
        job = self._busy_job
        step = STEPS[self.stack.currentIndex()]
        self.busy.setVisible(job is not None and job.active and SHOWN_IN.get(job.kind, "") != step)

    def _receive(self, job: Any, events: list[Any]) -> None:
        from napari_sslseg.core.common.events import Progress, Step

        for event in reversed(events):
            if isinstance(event, Progress | Step):
                done = event.done if isinstance(event, Progress) else event.step
                self.busy.setRange(0, event.total)
                self.busy.setValue(done)
                stage = event.stage if isinstance(event, Progress) else job.title
                self.busy.setFormat(f"{stage}: %v of %m")
                self._busy_job = job
                self._show_busy()
                return

    def _show_problem(self, problem: Problem) -> None:
        self._problem_project = None if self.session.leaving else self.session.project
        self.problem.show_problem(problem)
        if not self.problem.isVisible():  # The dock is behind another one, for example.
            notify(problem.sentence, "error")

    def _show_remark(self, text: str) -> None:
        self.remarks.add(text)
        if not self.remarks.isVisible():
            notify(text, "info")

    def _clear_project_problem(self) -> None:
        """Remove the problem that there is no project."""
        if self.session.project is not None:
            self.problem.clear("no project")

    def _clear_name_problem(self) -> None:
        """Remove the problem that a structure has a name already once the structures change."""
        self.problem.clear("taken name")

    def _clear_labels_problem(self) -> None:
        """Remove the problem that labels are not saved once they are saved."""
        if self.scene.autosaver.status == "saved":
            self.problem.clear("unsaved labels")
