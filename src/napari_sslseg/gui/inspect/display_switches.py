"""Switches for the layers over the scan."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.core.common.text import join_names
from napari_sslseg.gui.viewer.prediction_layers import (
    COLOURS,
    DIFFERENCE_WORDS,
    ERROR_WORDS,
    PredictionLayers,
    Shown,
)
from napari_sslseg.gui.viewer.scene import show_layer

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene


def _legend(words: Sequence[str]) -> str:
    return ", ".join(
        f'<span style="color:{colour}">■</span> {word}'
        for colour, word in zip(COLOURS, words, strict=True)
    )


LEGEND = _legend(ERROR_WORDS)
OVERLAY = "O&verlay", "The prediction, in the colours of the structures."
SWITCHES = {
    "contour": ("O&utline", "Outlines instead of filled areas."),
    "uncertainty": ("Uncertaint&y", "Bright where the network is uncertain."),
    "errors": ("&Errors", f"Differences from your labels, on done slices: {LEGEND}."),
}
CHOICES: dict[Shown, tuple[str, str]] = {
    "first": ("Run A", "The prediction of the run above."),
    "second": ("Run B", "The prediction of the run to compare with."),
    "difference": ("Difference", "Where the two predictions differ."),
}


class DisplaySwitches(QWidget):
    """Check boxes for layers, and buttons to choose one of two runs.

    Attributes
    ----------
    chosen : Signal
        Another run, or the difference, is shown.
    """

    chosen = Signal()

    def __init__(self, scene: "Scene", layers: PredictionLayers) -> None:
        super().__init__()
        self.scene, self.layers = scene, layers
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        grid = QGridLayout()
        self.boxes: dict[str, QCheckBox] = {}
        self._make_overlay(grid)
        for number, (key, (text, hint)) in enumerate(SWITCHES.items(), start=1):
            box = self._box(key, text, hint, getattr(layers, key))
            box.toggled.connect(lambda on, key=key: self._switch(key, on))
            grid.addWidget(box, number // 3, number % 3)
        mine = self._box("mine", "&My labels", "Your labels, above all other layers.", True)
        mine.toggled.connect(self._show_mine)
        grid.addWidget(mine, 1, 1)
        layout.addLayout(grid)
        self.legend = QLabel(f"On done slices: {LEGEND}")
        self.legend.setObjectName("errors-legend")
        self.legend.setWordWrap(True)
        self.legend.setVisible(layers.errors)
        layout.addWidget(self.legend)
        self.difference = QLabel()
        self.difference.setObjectName("difference-legend")
        self.difference.setWordWrap(True)
        self.difference.hide()
        self.choices = QWidget()
        row = QHBoxLayout(self.choices)
        row.setContentsMargins(0, 0, 0, 0)
        self.group = QButtonGroup(self)
        for number, key in enumerate(get_args(Shown)):
            text, hint = CHOICES[key]
            button = QRadioButton(text)
            button.setObjectName(f"show-{key}")
            button.setToolTip(hint)
            button.setChecked(number == 0)
            self.group.addButton(button, number)
            row.addWidget(button)
        self.group.idClicked.connect(self._choose)
        layout.addWidget(self.choices)
        layout.addWidget(self.difference)
        self.choices.hide()
        scene.changed.connect(lambda: self._show_mine(self.boxes["mine"].isChecked()))
        scene.changed.connect(self._explain)
        scene.session.predictions.changed.connect(lambda run, scan: self._explain())

    def _make_overlay(self, grid: QGridLayout) -> None:
        """Step 3 has the same switch."""
        overlay = self._box("overlay", *OVERLAY, self.scene.predictions_shown)
        overlay.toggled.connect(self.scene.show_predictions)
        self.scene.front_changed.connect(lambda: overlay.setChecked(self.scene.predictions_shown))
        grid.addWidget(overlay, 0, 0)

    def offer_two(self, two: bool) -> None:
        """Show or hide the buttons that choose one of two runs."""
        self.choices.setVisible(two)
        if not two:
            self.group.button(0).setChecked(True)
            self.layers.shown = "first"
        self._explain()

    def _box(self, key: str, text: str, hint: str, on: bool) -> QCheckBox:
        box = self.boxes[key] = QCheckBox(text)
        box.setObjectName(f"show-{key}")
        box.setToolTip(hint)
        box.setChecked(on)
        return box

    def _switch(self, key: str, on: bool) -> None:
        setattr(self.layers, key, on)
        if key == "errors":
            self.legend.setVisible(on)
        self.layers.refresh()

    def _choose(self, number: int) -> None:
        self.layers.shown = get_args(Shown)[number]
        self.layers.refresh()
        self._explain()
        self.chosen.emit()

    def _explain(self) -> None:
        """Explain the colours of a difference, or why nothing is shown."""
        missing = self.layers.missing if self.layers.second else []
        legend = _legend(DIFFERENCE_WORDS) if self.layers.compares else ""
        if missing:
            have = "has" if len(missing) == 1 else "have"
            legend = f"{join_names(missing)} {have} not predicted this scan, so nothing is shown."
        self.difference.setText(legend)
        self.difference.setVisible(bool(legend))

    def _show_mine(self, on: bool) -> None:
        if self.scene.labels is not None:
            show_layer(self.scene.labels, on)
