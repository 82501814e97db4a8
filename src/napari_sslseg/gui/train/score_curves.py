"""Curves of the Dice of each class on the validation patients of a fine-tuning."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.events import Validation
from napari_sslseg.core.project.record import MOST_SLICES
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.scans.slices.ranges import count_ranges
from napari_sslseg.gui.train.training_choice import dice_reliability
from napari_sslseg.gui.widgets.curve_plot import CurvePlot

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

HEIGHT = 130
HINT = "Overlap of prediction and labels on the validation patients, from 0 (none) to 1 (perfect)."


class ScoreCurves(QWidget):
    """Dice of each class on the validation patients; hidden until there is a score."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session = session
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.words = QLabel()
        self.words.setObjectName("train-scores")
        self.words.setWordWrap(True)
        self.words.setToolTip(f"<p>{HINT}</p>")
        self.plot = CurvePlot(
            "Dice", logarithmic=False, limits=(0, 1), height=HEIGHT, formatter="{:.2f}".format
        )
        self.plot.setObjectName("train-dice")
        self.plot.setToolTip(f"<p>{HINT}</p>")
        layout.addWidget(self.words)
        layout.addWidget(self.plot)
        self._validation: tuple[int, int] | None = None
        self._viewer = scene.viewer
        self.plot.set_theme(scene.viewer.theme)
        scene.viewer.events.theme.connect(self._theme_changed)
        session.classes_changed.connect(self._colour)
        self.hide()

    def release(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.events.theme.disconnect(self._theme_changed)

    def _theme_changed(self, event: Any) -> None:
        self.plot.set_theme(event.value)

    def clear(self) -> None:
        """Remove the curves of the last training."""
        self._validation = None
        self.words.clear()
        self.plot.clear()
        self.hide()

    def add(self, event: Validation) -> None:
        """Add a validation of the running training."""
        project, job = self.session.project, self.session.training
        dice = class_dice(event.metrics)
        if project is None or not dice:
            return
        if self._validation is None and job is not None and job.folder is not None:
            self._validation = count_validation(job.folder)
        names = project.class_names
        for value, score in dice.items():
            if value in names:  # Else it was removed from the project.
                self.plot.add(names[value], event.step, score, marked=True)
        self.plot.request_redraw()
        counts = f" ({dice_reliability(*self._validation)})" if self._validation else ""
        self.words.setText(f"<b>Dice on validation patients</b>{counts}")
        self._colour()
        self.show()

    def _colour(self) -> None:
        project = self.session.project
        if project is not None:
            self.plot.paint({item.name: item.colour for item in project.classes})


def class_dice(metrics: Mapping[str, float]) -> dict[int, float]:
    """Return the Dice of each class from the metrics of a validation (``dice_1``, …)."""
    found = {}
    for name, value in metrics.items():
        metric, _, number = name.partition("_")
        if metric == "dice" and number.isdigit():
            found[int(number)] = value
    return found


def count_validation(folder: Path) -> tuple[int, int] | None:
    """Count the validation slices and patients in the record of a run; None if unknown."""
    try:
        data = Run.open(folder).record.get("data") or []
        entries = [entry for entry in data if entry.get("role") == "validation"]
        slices = sum(count_ranges(entry["validation"], MOST_SLICES) for entry in entries)
        patients = {entry["subject"] for entry in entries}
    except (CheckpointError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return (slices, len(patients)) if slices else None
