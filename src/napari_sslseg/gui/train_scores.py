"""What a fine-tuning reaches on the patients kept out, by class: in words, and as curves."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.errors import CheckpointError
from napari_sslseg.core.events import Validation
from napari_sslseg.core.project_record import MOST_SLICES
from napari_sslseg.core.provenance import from_ranges
from napari_sslseg.core.runs import Run
from napari_sslseg.gui.plots import CurvePlot
from napari_sslseg.gui.training_choice import score_doubt

if TYPE_CHECKING:
    from napari_sslseg.gui.scene import Scene
    from napari_sslseg.gui.session import Session

HEIGHT = 130
TIP = "How much prediction and labels overlap on the patients kept out: 1 is perfect, 0 is nothing."


class TrainScores(QWidget):
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
        self.plot = CurvePlot("Dice", logarithmic=False, limits=(0, 1), height=HEIGHT)
        self.plot.setObjectName("train-dice")
        self.plot.setToolTip(f"<p>{TIP}</p>")
        layout.addWidget(self.words)
        layout.addWidget(self.plot)
        self._kept: tuple[int, int] | None = None
        self.plot.set_theme(scene.viewer.theme)
        scene.viewer.events.theme.connect(lambda event: self.plot.set_theme(event.value))
        session.classes_changed.connect(self._colour)
        self.hide()

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
        parts = []
        for value, score in dice.items():
            name = names.get(value, f"class {value}")
            self.plot.add(name, event.step, score, marked=True)
            parts.append(f"{escape(name)}&nbsp;<b>{score:.2f}</b>")
        doubt = f" ({score_doubt(*self._kept)})" if self._kept else ""
        self.words.setText(f"Dice on patients kept out: {', '.join(parts)}{doubt}")
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
        slices = sum(len(from_ranges(entry["validation"], MOST_SLICES)) for entry in scored)
        patients = {entry["subject"] for entry in scored}
    except (CheckpointError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return (slices, len(patients)) if slices else None
