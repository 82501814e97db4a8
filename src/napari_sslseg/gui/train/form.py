"""Form for a fine-tuning: start, length and advanced settings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.settings.preprocessing import MOST_NEIGHBOURS
from napari_sslseg.core.settings.stages import LossKind, Strategy, Transfer
from napari_sslseg.core.settings.training import Training, default_batch_size
from napari_sslseg.gui.model.run_choices import (
    LENGTH_TITLES,
    LENGTHS,
    kind_dimensions,
    network_items,
)
from napari_sslseg.gui.model.run_descriptions import long_description, short_description
from napari_sslseg.gui.train.training_choice import STRATEGY_TEXTS, TRANSFER_TEXTS, TrainingChoice
from napari_sslseg.gui.widgets.foldable import Foldable
from napari_sslseg.gui.widgets.forms import bounds
from napari_sslseg.gui.widgets.inputs import combo_box, literal_items, spin_box
from napari_sslseg.gui.widgets.no_wheel import NoWheelDoubleSpinBox

if TYPE_CHECKING:
    from napari_sslseg.core.runs.listing import RunSummary

SCRATCH = "From scratch, without pretraining"
ABOUT_SCRATCH = "Starts with random weights. A pretraining in step 2 may give a better result."
BROUGHT = "Network and size of pixels are those of the pretraining."
LOSS_TEXTS: dict[LossKind, tuple[str, str]] = {
    "dice-ce": ("Dice and cross entropy", "Dice over the batch plus cross entropy; the default."),
    "dice": ("Dice", "Dice over the batch."),
    "dice-per-sample": ("Dice of each slice", "Dice of each slice, averaged."),
    "dice-multilabel": ("Dice of each structure", "Dice of all classes."),
    "bce-to-dice": ("Cross entropy, then Dice", "From cross entropy towards Dice."),
}
DEVICES = (
    ("Automatic", "auto", "The GPU if there is one, otherwise the CPU."),
    ("CPU", "cpu", "Slower, but always available."),
    ("GPU (CUDA)", "cuda", "A graphics card of NVIDIA."),
)
PIXELS = (
    (
        "As needed",
        "planned",
        "As large as the structures allow: slices of large scans are sampled more coarsely, so "
        "that each step is faster.",
    ),
    ("Those of the scans", "keep", "The finest borders; a step takes longer on large scans."),
)
UNLABELLED_HINT = (
    "<p>Slices that are not done are used as well, also those of scans without labels: where the "
    "network is confident, it has to find the same after random changes of the slice. Takes about "
    "twice as long.</p>"
)
PIECES_HINT = (
    "<p>For structures such as lesions: small separate pieces that the network finds in unlabelled "
    "slices are used. Otherwise they are taken for errors and ignored.</p>"
)
NEIGHBOURS_HINT = (
    "<p>Number of slices on each side that the network sees together with each slice. Automatic: 1 "
    "where slices are close to each other, otherwise 0.</p>"
)
AUTOMATIC_NEIGHBOURS = -1


class TrainForm(QWidget):
    """Controls for a :class:`~napari_sslseg.gui.train.training_choice.TrainingChoice`.

    Attributes
    ----------
    changed : Signal
        A choice changed that affects the split into training and validation.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, RunSummary] = {}
        self._default_batch = Training().batch_size
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._make_main())
        self.advanced = Foldable("&Advanced", self._make_advanced())
        self.advanced.button.setObjectName("train-advanced")
        layout.addWidget(self.advanced)
        self.start.currentIndexChanged.connect(self._start_changed)
        self.unlabelled.toggled.connect(self.pieces.setEnabled)
        self.share.valueChanged.connect(lambda _: self.changed.emit())
        self.steps.valueChanged.connect(lambda steps: self.length.setEnabled(not steps))
        self.reset()

    def _make_main(self) -> QFormLayout:
        form = _form()
        self.start = combo_box("train-start", "Start from")
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.about.setObjectName("train-about")
        lengths = LENGTHS["finetune"]
        self.length = combo_box(
            "train-length",
            "Length",
            [(f"{LENGTH_TITLES[key]} ({n:,} steps)", key, "") for key, n in lengths.items()],
        )
        title = QLabel("Start &from")
        title.setBuddy(self.start)
        for part in (title, self.start, self.about):  # Names of runs need the whole width.
            form.addRow(part)
        form.addRow("&Length", self.length)
        self.unlabelled = QCheckBox("Use &unlabelled slices too")
        self.unlabelled.setObjectName("train-unlabelled")
        self.unlabelled.setToolTip(UNLABELLED_HINT)
        form.addRow(self.unlabelled)
        return form

    def _make_advanced(self) -> QWidget:
        box = QWidget()
        form = self._rows = _form(box)
        self._make_transfer()
        self._make_loop()
        self._make_network()
        for name, field in (
            ("Transfer", self.transfer), ("Strategy", self.strategy),
            ("Steps", self.steps), ("Validation", self.share), ("Batch size", self.batch),
            ("Learning rate", self.rate), ("Loss", self.loss), ("Network", self.network),
            ("Pixels", self.pixels), ("Neighbouring slices", self.neighbours),
            ("Device", self.device), ("Seed", self.seed),
        ):  # fmt: skip
            form.addRow(name, field)
        form.addRow(self.pieces)
        return box

    def _make_transfer(self) -> None:
        """Make the controls that only a start from a pretraining has."""
        self.transfer = combo_box(
            "train-transfer", "Transfer", literal_items(Transfer, TRANSFER_TEXTS)
        )
        self.strategy = combo_box(
            "train-strategy", "Strategy", literal_items(Strategy, STRATEGY_TEXTS)
        )

    def _make_loop(self) -> None:
        """Make the controls of the training loop."""
        self.steps = spin_box("train-steps", 0, 1_000_000)
        self.steps.setSpecialValueText("as chosen above")
        self.steps.setToolTip("Number of steps, instead of the length above.")
        largest = bounds(Training.model_fields["batch_size"])[1]
        assert largest is not None
        self.batch = spin_box("train-batch", 1, int(largest))
        self.batch.setToolTip("Slices per step; larger batches need more memory.")
        self.rate = NoWheelDoubleSpinBox()
        self.rate.setObjectName("train-rate")
        self.rate.setDecimals(5)
        self.rate.setRange(0.00001, 1)
        self.rate.setSingleStep(0.0001)
        self.rate.setToolTip("Learning rate after the warm-up.")
        self.loss = combo_box("train-loss", "Loss", literal_items(LossKind, LOSS_TEXTS))
        self.share = spin_box("train-share", 0, 50)
        self.share.setSuffix(" % of patients")
        self.share.setToolTip("Not used for training; their Dice shows how good the network is.")
        self.device = combo_box("train-device", "Device", DEVICES)
        self.seed = spin_box("train-seed", 0, 2**31 - 1)
        self.seed.setToolTip("The same seed gives the same training.")

    def _make_network(self) -> None:
        """Make the controls of network and samples."""
        self.network = combo_box("train-network", "Network", network_items(2))
        self.pixels = combo_box("train-pixels", "Pixels", PIXELS)
        self.neighbours = spin_box("train-neighbours", AUTOMATIC_NEIGHBOURS, MOST_NEIGHBOURS)
        self.neighbours.setSpecialValueText("automatic")
        self.neighbours.setToolTip(NEIGHBOURS_HINT)
        self.pieces = QCheckBox("Structures in many p&ieces")
        self.pieces.setObjectName("train-pieces")
        self.pieces.setToolTip(PIECES_HINT)

    def reset(self) -> None:
        """Choose the defaults, as for another project."""
        default = TrainingChoice()
        for box, value in (
            (self.length, default.length), (self.strategy, default.strategy),
            (self.transfer, default.transfer), (self.loss, default.loss),
            (self.network, default.network), (self.device, default.device),
            (self.pixels, default.spacing),
        ):  # fmt: skip
            box.setCurrentIndex(box.findData(value))
        self.start.setCurrentIndex(0 if self.start.count() else -1)
        self.steps.setValue(default.steps or 0)
        self.batch.setValue(self._default_batch)
        self.rate.setValue(default.learning_rate)
        self.unlabelled.setChecked(default.unlabelled)
        self.pieces.setChecked(default.many_pieces)
        self.neighbours.setValue(AUTOMATIC_NEIGHBOURS)
        self.share.setValue(round(100 * default.share))
        self.seed.setValue(default.seed)
        self._start_changed()

    def show_runs(self, runs: Sequence["RunSummary"]) -> None:
        """Offer pretraining runs; a new run is chosen, otherwise the choice stays."""
        before = self.start.currentData() if self.start.count() else None
        if before is not None and [r.name for r in runs] == list(self._runs):
            return
        known, self._runs = set(self._runs), {run.name: run for run in runs}
        self.start.blockSignals(True)
        self.start.clear()
        for run in runs:
            self.start.addItem(short_description(run), run.name)
        self.start.addItem(SCRATCH, "")
        new = [name for name in self._runs if name not in known]
        chosen = self.start.findData(before) if before is not None and not new else 0
        self.start.setCurrentIndex(max(chosen, 0))
        self.start.blockSignals(False)
        self._start_changed()

    def choice(self) -> TrainingChoice:
        """Return the current choices."""
        batch, neighbours = self.batch.value(), self.neighbours.value()
        return TrainingChoice(
            start=self.start.currentData() or "",
            length=self.length.currentData(),
            strategy=self.strategy.currentData(),
            transfer=self.transfer.currentData(),
            steps=self.steps.value() or None,
            batch_size=None if batch == self._default_batch else batch,
            learning_rate=self.rate.value(),
            loss=self.loss.currentData(),
            network=self.network.currentData(),
            unlabelled=self.unlabelled.isChecked(),
            many_pieces=self.pieces.isChecked(),
            spacing=self.pixels.currentData(),
            neighbours=None if neighbours == AUTOMATIC_NEIGHBOURS else neighbours,
            share=self.share.value() / 100,
            device=self.device.currentData(),
            seed=self.seed.value(),
        )

    def _start_changed(self) -> None:
        run = self._runs.get(self.start.currentData() or "")
        own: tuple[QWidget, ...] = (self.network, self.pixels, self.neighbours)
        for row in (self.transfer, self.strategy):
            self._rows.setRowVisible(row, run is not None)
        # A pretraining brings its own network and preprocessing.
        for part in own:
            self._rows.setRowVisible(part, run is None)
        self._show_default_batch(run)
        about = ABOUT_SCRATCH if run is None else f"{long_description(run)} {BROUGHT}"
        self.about.setText(about)
        self.changed.emit()

    def _show_default_batch(self, run: "RunSummary | None") -> None:
        """Show the default batch size of the network, unless another one was chosen."""
        chosen = self.batch.value() != self._default_batch
        dimensions = 2 if run is None else kind_dimensions(run.network)
        self._default_batch = default_batch_size(dimensions)
        if not chosen:
            self.batch.setValue(self._default_batch)


def _form(box: QWidget | None = None) -> QFormLayout:
    form = QFormLayout(box) if box is not None else QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form
