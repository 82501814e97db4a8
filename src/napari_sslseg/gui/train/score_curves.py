"""What a fine-tuning reaches on the patients kept out: the Dice of each class, as curves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.events import Validation
from napari_sslseg.core.project.accepted_slices import MOST_SLICES
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.scans.slice_ranges import count_ranges
from napari_sslseg.gui.train.training_choice import score_doubt
from napari_sslseg.gui.widgets.plots import CurvePlot

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

HEIGHT = 130
TIP = "How much prediction and labels overlap on the patients kept out: 1 is perfect, 0 is nothing."


class ScoreCurves(QWidget):
    """Dice of each class on the patients kept out; hidden until there is one."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session = session
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.words = QLabel()
        self.words.setObjectName("train-scores")
        self.words.setWordWrap(True)
        self.words.setToolTip(f"<p>{TIP}</p>")
        self.plot = CurvePlot(
            "Dice", logarithmic=False, limits=(0, 1), height=HEIGHT, words="{:.2f}".format
        )
        self.plot.setObjectName("train-dice")
        self.plot.setToolTip(f"<p>{TIP}</p>")
        layout.addWidget(self.words)
        layout.addWidget(self.plot)
        self._kept: tuple[int, int] | None = None
        self._viewer = scene.viewer
        self.plot.set_theme(scene.viewer.theme)
        scene.viewer.events.theme.connect(self._other_theme)
        session.classes_changed.connect(self._colour)
        self.hide()

    def release(self) -> None:
        """Take from the viewer what was hung to it."""
        self._viewer.events.theme.disconnect(self._other_theme)

    def _other_theme(self, event: Any) -> None:
        self.plot.set_theme(event.value)

    def clear(self) -> None:
        """Forget the last training."""
        self._kept = None
        self.words.clear()
        self.plot.clear()
        self.hide()

    def take(self, event: Validation) -> None:
        """Show a validation of the training that runs."""
        project, job = self.session.project, self.session.training
        dice = class_dice(event.metrics)
        if project is None or not dice:
            return
        if self._kept is None and job is not None and job.folder is not None:
            self._kept = kept_out(job.folder)
        names = project.class_names
        for value, score in dice.items():
            self.plot.add(names.get(value, f"class {value}"), event.step, score, marked=True)
        self.plot.ask()
        doubt = f" ({score_doubt(*self._kept)})" if self._kept else ""
        self.words.setText(f"<b>Dice on patients kept out</b>{doubt}")
        self._colour()
        self.show()

    def _colour(self) -> None:
        project = self.session.project
        if project is not None:
            self.plot.paint({item.name: item.colour for item in project.classes})


def class_dice(metrics: Mapping[str, float]) -> dict[int, float]:
    """Dice by class from the figures of a validation."""
    found = {}
    for name, value in metrics.items():
        kind, _, number = name.partition("_")
        if kind == "dice" and number.isdigit():
            found[int(number)] = value
    return found


def kept_out(folder: Any) -> tuple[int, int] | None:
    """Numbers of slices and of patients that a run was scored on, as its record tells."""
    try:
        data = Run.open(folder).record.get("data") or []
        scored = [entry for entry in data if entry.get("role") == "validation"]
        slices = sum(count_ranges(entry["validation"], MOST_SLICES) for entry in scored)
        patients = {entry["subject"] for entry in scored}
    except (CheckpointError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return (slices, len(patients)) if slices else None
