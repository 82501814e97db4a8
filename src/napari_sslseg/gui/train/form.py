"""What is asked before a training: where it starts, how, and how long."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.core.settings.networks import NETWORK_WIDTHS
from napari_sslseg.core.settings.preprocessing import MOST_NEIGHBOURS
from napari_sslseg.gui.model.run_words import long_words, short_words
from napari_sslseg.gui.train.training_choice import LENGTHS, STRATEGIES, TRANSFERS, TrainingChoice
from napari_sslseg.gui.widgets.foldable import Foldable
from napari_sslseg.gui.widgets.quiet import QuietComboBox, QuietDoubleSpinBox, QuietSpinBox

if TYPE_CHECKING:
    from napari_sslseg.core.runs.listing import RunSummary

SCRATCH = "From scratch, without pretraining"
LENGTH_WORDS = {"quick": "Quick look", "usual": "Usual", "long": "Long"}
LOSSES = {
    "dice-ce": ("Overlap and every pixel", "Dice plus cross entropy."),
    "dice": ("Overlap", "Dice over the batch."),
    "dice-per-sample": ("Overlap of each slice", "Dice of each slice."),
    "dice-multilabel": ("Overlap, each structure by itself", "Dice of all classes."),
    "bce-to-dice": ("Every pixel first, then overlap", "From cross entropy towards Dice."),
}
DEVICES = {
    "auto": ("The fastest there is", "The graphics card if it can be used, else the processor."),
    "cpu": ("Processor", "Slower, but always there."),
    "cuda": ("Graphics card", "Of NVIDIA."),
}
UNLABELLED = (
    "<p>Slices that are not done, also of scans without any label, teach as well: what the network "
    "is sure of there, it has to see again after changes. Takes about twice as long.</p>"
)
PIECES = (
    "<p>Such as lesions. Small loose pieces that the network finds in unlabelled slices count "
    "then; else they are taken for mistakes, and not learnt from.</p>"
)
NEIGHBOURS = (
    "<p>Slices on each side that the network sees beside each. By itself it sees one where slices "
    "lie near each other, and none where they do not.</p>"
)
NETWORKS = {"tiny": "Tiny (for a try)", "small": "Small", "paper": "Large (needs a graphics card)"}


class TrainForm(QWidget):
    """The questions, with answers that suit most.

    Attributes
    ----------
    changed : Signal
        An answer has changed.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        form = _form()
        self.start = _combo("train-start", "What the training starts from", [])
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.about.setObjectName("train-about")
        steps = [(f"{LENGTH_WORDS[k]} ({n:,} steps)", k, "") for k, n in LENGTHS.items()]
        self.length = _combo("train-length", "How long it trains", steps)
        self.length.setCurrentIndex(1)
        self.strategy = _combo("train-strategy", "How gently it trains", _asked(STRATEGIES))
        self.transfer = _combo("train-transfer", "What it takes over", _asked(TRANSFERS))
        title = QLabel("Start &from")
        title.setBuddy(self.start)
        for part in (title, self.start, self.about):  # Names of runs need the whole width.
            form.addRow(part)
        form.addRow("How &long", self.length)
        self.unlabelled = QCheckBox("Learn from &unlabelled slices too")
        self.unlabelled.setObjectName("train-unlabelled")
        self.unlabelled.setChecked(TrainingChoice().unlabelled)
        self.unlabelled.setToolTip(UNLABELLED)
        form.addRow(self.unlabelled)
        layout.addLayout(form)
        self.advanced = Foldable("&Advanced", self._make_advanced())
        self.advanced.button.setObjectName("train-advanced")
        layout.addWidget(self.advanced)
        self._runs: dict[str, RunSummary] = {}
        self.start.currentIndexChanged.connect(self._start_changed)
        self.unlabelled.toggled.connect(self.pieces.setEnabled)
        self.share.valueChanged.connect(lambda _: self.changed.emit())
        self.steps.valueChanged.connect(lambda steps: self.length.setEnabled(not steps))
        self._start_changed()

    def _make_advanced(self) -> QWidget:
        box = QWidget()
        form = self._rows = _form(box)
        usual = TrainingChoice()
        self.steps = _spin("train-steps", 0, 1_000_000, 0)
        self.steps.setSpecialValueText("as chosen above")
        self.steps.setToolTip("Batches of slices to learn from, in place of the choice above.")
        self.batch = _spin("train-batch", 1, 512, usual.batch_size)
        self.batch.setToolTip("Slices that are looked at in one step; more need more memory.")
        self.rate = QuietDoubleSpinBox()
        self.rate.setObjectName("train-rate")
        self.rate.setDecimals(5)
        self.rate.setRange(0.00001, 1)
        self.rate.setSingleStep(0.0001)
        self.rate.setValue(usual.learning_rate)
        self.rate.setToolTip("Size of the first steps (learning rate).")
        self.network = _combo(
            "train-network", "Size of the network", [(t, k, "") for k, t in NETWORKS.items()]
        )
        self.network.setCurrentIndex(list(NETWORK_WIDTHS).index(usual.network))
        self.neighbours = _spin("train-neighbours", -1, MOST_NEIGHBOURS, -1)
        self.neighbours.setSpecialValueText("by their distance")
        self.neighbours.setToolTip(NEIGHBOURS)
        self.loss = _combo("train-loss", "What it learns to make small", _asked(LOSSES))
        self.pieces = QCheckBox("Structures in many p&ieces")
        self.pieces.setObjectName("train-pieces")
        self.pieces.setToolTip(PIECES)
        self.share = _spin("train-share", 0, 50, round(100 * usual.share))
        self.share.setSuffix(" % of patients")
        self.share.setToolTip("Not learnt from; the Dice on them says how good the training is.")
        self.device = _combo("train-device", "Where it computes", _asked(DEVICES))
        self.seed = _spin("train-seed", 0, 2**31 - 1, usual.seed)
        self.seed.setToolTip("The same number gives the same training.")
        for name, field in (
            ("Take over", self.transfer), ("How", self.strategy),
            ("Steps", self.steps), ("Keep out", self.share), ("Slices per step", self.batch),
            ("Learning rate", self.rate), ("Loss", self.loss), ("Network", self.network),
            ("Neighbouring slices", self.neighbours),
            ("Computes on", self.device), ("Seed", self.seed),
        ):  # fmt: skip
            form.addRow(name, field)
        form.addRow(self.pieces)
        return box

    def show_runs(self, runs: Sequence["RunSummary"]) -> None:
        """Offer pretraining runs, the first of them chosen unless one is chosen already."""
        before = self.start.currentData() if self.start.count() else None
        if before is not None and [r.name for r in runs] == list(self._runs):
            return
        known, self._runs = set(self._runs), {run.name: run for run in runs}
        self.start.blockSignals(True)
        self.start.clear()
        for run in runs:
            self.start.addItem(short_words(run), run.name)
        self.start.addItem(SCRATCH, "")
        new = [name for name in self._runs if name not in known]
        chosen = self.start.findData(before) if before is not None and not new else 0
        self.start.setCurrentIndex(max(chosen, 0))
        self.start.blockSignals(False)
        self._start_changed()

    def choice(self) -> TrainingChoice:
        """The answers."""
        return TrainingChoice(
            start=self.start.currentData() or "",
            length=self.length.currentData(),
            strategy=self.strategy.currentData(),
            transfer=self.transfer.currentData(),
            steps=self.steps.value() or None,
            batch_size=self.batch.value(),
            learning_rate=self.rate.value(),
            loss=self.loss.currentData(),
            network=self.network.currentData(),
            unlabelled=self.unlabelled.isChecked(),
            many_pieces=self.pieces.isChecked(),
            neighbours=self.neighbours.value() if self.neighbours.value() >= 0 else None,
            share=self.share.value() / 100,
            device=self.device.currentData(),
            seed=self.seed.value(),
        )

    def _start_changed(self) -> None:
        run = self._runs.get(self.start.currentData() or "")
        for taken in (self.transfer, self.strategy):
            self._rows.setRowVisible(taken, run is not None)
        # Those of a pretraining are taken over as they are.
        for own in (self.network, self.neighbours):
            self._rows.setRowVisible(own, run is None)
        scratch = "Knows nothing before. A pretraining (step 2) can be tried beside it."
        self.about.setText(scratch if run is None else long_words(run))
        self.changed.emit()


def _asked(words: Any) -> Iterable[tuple[str, str, str]]:
    return [(title, key, hint) for key, (title, hint) in words.items()]


def _combo(name: str, accessible: str, items: Iterable[tuple[str, str, str]]) -> QuietComboBox:
    box = QuietComboBox()
    box.setObjectName(name)
    box.setAccessibleName(accessible)
    for number, (title, key, hint) in enumerate(items):
        box.addItem(title, key)
        if hint:
            box.setItemData(number, hint, 3)  # Qt.ItemDataRole.ToolTipRole

    def hint_of(number: int) -> None:
        box.setToolTip(box.itemData(number, 3) or box.itemText(number))

    box.currentIndexChanged.connect(hint_of)
    if box.count():
        hint_of(0)
    return box


def _spin(name: str, low: int, high: int, value: int) -> QuietSpinBox:
    box = QuietSpinBox()
    box.setObjectName(name)
    box.setRange(low, high)
    box.setValue(value)
    return box


def _form(box: QWidget | None = None) -> QFormLayout:
    form = QFormLayout(box) if box is not None else QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form
