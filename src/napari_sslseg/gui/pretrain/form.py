"""What to learn from unlabelled scans, and how: the controls of it."""

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.settings.pretext.registry import TASKS, make_task
from napari_sslseg.core.settings.stages import PretrainSettings
from napari_sslseg.core.settings.training import Training
from napari_sslseg.gui.pretrain.plan import (
    LEFT_OUT,
    LENGTHS,
    NETWORKS,
    PretextChoice,
    PretrainPlan,
    TrainingData,
    pretext_choices,
)
from napari_sslseg.gui.widgets.foldable import Foldable
from napari_sslseg.gui.widgets.forms import SettingsForm
from napari_sslseg.gui.widgets.quiet import QuietComboBox, QuietSpinBox

PATCHES = (4, 8, 16, 32, 64)
MOST_STEPS = 10_000_000
PAPER = "As in the paper"
LENGTH_WORDS = {"quick": "Quick look", "usual": "Usual", "long": "Long"}


class PretrainForm(QWidget):
    """Controls for a :class:`~napari_sslseg.gui.pretrain.plan.PretrainPlan`.

    Attributes
    ----------
    changed : Signal
        Something was changed; :meth:`plan` tells what is chosen now.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.ground = TrainingData()
        self.pretext_choices = {choice.key: choice for choice in pretext_choices()}
        self._forms: dict[str, SettingsForm] = {}
        self._built: Any = None
        self._quiet = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.what = self._combo("what", "What to learn", LEFT_OUT)
        self._fill_what()
        self.about = QLabel()
        self.about.setObjectName("about")
        self.about.setWordWrap(True)
        layout.addWidget(self.what)
        layout.addWidget(self.about)
        layout.addLayout(self._make_rows())
        self.advanced = QWidget()
        self._column = QVBoxLayout(self.advanced)
        self._column.setContentsMargins(8, 0, 0, 0)
        self.fold = Foldable("&Advanced", self.advanced)
        self.fold.setObjectName("advanced")
        self.fold.toggled.connect(lambda shown: self._build())
        layout.addWidget(self.fold)
        self.device = self._combo("device", "Device", "Automatic takes the GPU if there is one.")
        self.device.addItem("automatic", "auto")
        self._connect()
        self._choose()

    def _make_rows(self) -> QFormLayout:
        rows = self.rows = QFormLayout()
        rows.setVerticalSpacing(4)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.length = self._combo(
            "length", "How long", "Longer is better, with less and less gain."
        )
        self.steps = self._spin("steps", 1, MOST_STEPS, "Steps; in each the network sees a batch.")
        self.steps.setSuffix(" steps")
        line = QHBoxLayout()
        line.addWidget(self.length, 5)
        line.addWidget(self.steps, 6)
        self.batch = self._spin("batch", 1, 4096, "Slices that the network sees in a step.")
        self.batch.setSuffix(" slices")
        self.patch = self._combo("patch", "Patch size", "Side of the patches in pixels.")
        self.network = self._combo("network", "Network", "How much the network can learn.")
        for text, part in (
            ("How &long", line),
            ("&Batch size", self.batch),
            ("&Patch size", self.patch),
            ("&Network", self.network),
        ):
            label = QLabel(text)
            label.setBuddy(self.length if part is line else part)  # type: ignore[arg-type]
            rows.addRow(label, part)
        return rows

    def _combo(self, name: str, title: str, hint: str) -> QuietComboBox:
        combo = QuietComboBox()
        combo.setObjectName(name)
        combo.setAccessibleName(title)
        combo.setToolTip(f"<p>{hint}</p>")
        return combo

    def _spin(self, name: str, low: int, high: int, hint: str) -> QuietSpinBox:
        spin = QuietSpinBox()
        spin.setObjectName(name)
        spin.setAccessibleName(hint)
        spin.setRange(low, high)
        spin.setGroupSeparatorShown(True)
        spin.setKeyboardTracking(False)
        spin.setToolTip(f"<p>{hint}</p>")
        return spin

    def _fill_what(self) -> None:
        papers = False
        for choice in self.pretext_choices.values():
            if choice.preset and not papers:
                self.what.insertSeparator(self.what.count())
                papers = True
            self.what.addItem(choice.label, choice.key)

    def _connect(self) -> None:
        self.what.currentIndexChanged.connect(lambda index: self._choose())
        self.length.currentIndexChanged.connect(lambda index: self._set_steps())
        self.steps.valueChanged.connect(lambda value: self._name_length())
        self.batch.valueChanged.connect(lambda value: self._tell())
        self.patch.currentIndexChanged.connect(lambda index: self._tell())
        self.network.currentIndexChanged.connect(lambda index: self._other_network())
        self.device.currentIndexChanged.connect(lambda index: self._tell())

    # What is chosen

    @property
    def choice(self) -> PretextChoice:
        """What to learn."""
        return self.pretext_choices[self.what.currentData()]

    def choose(self, key: str) -> None:
        """Choose what to learn, as a person does with the combo box."""
        self.what.setCurrentIndex(self.what.findData(key))

    def plan(self, patch_size: int | None = None) -> PretrainPlan | None:
        """What is chosen; None where an advanced setting is impossible.

        Parameters
        ----------
        patch_size : int, optional
            Side of the patches where it is left to us, and the method has patches.
        """
        if any(form.value() is None for form in self._forms.values()):
            return None
        choice, changed = self.choice, {n: form.changes() for n, form in self._forms.items()}
        training = dict(changed.get("training", {}))
        if not choice.preset or self.batch.value() != self._paper_batch:
            training["batch_size"] = self.batch.value()
        options = dict(changed.get("options", {}))
        side = self.patch.currentData() or patch_size
        if self.has_patches and side is not None:
            options["patch_size"] = side
        return PretrainPlan(
            choice=choice,
            steps=None if self.length.currentData() == PAPER else self.steps.value(),
            network=self.network.currentData(),
            training=training,
            options=options,
            preprocessing=changed.get("preprocessing", {}),
            stage=changed.get("stage", {}),
        )

    @property
    def has_patches(self) -> bool:
        """Whether the size of patches can be chosen."""
        return bool(self._patched)

    def set_automatic_patch(self, side: int | None) -> None:
        """Show which size of patches suits the scans."""
        if self.patch.count() and self.patch.itemData(0) is None and not self.choice.preset:
            self.patch.setItemText(0, "Automatic" + (f" ({side} pixels)" if side else ""))

    def set_devices(self, names: tuple[str, ...]) -> None:
        """Offer devices; ``auto`` is always the first."""
        for name in names:
            if self.device.findData(name) < 0:
                self.device.addItem(name.upper(), name)

    def set_ground(self, ground: TrainingData) -> None:
        """Take in what there is to learn from."""
        if ground != self.ground:
            self.ground = ground
            self._build()

    # What follows from it

    def _choose(self) -> None:
        """Offer the settings of the method."""
        choice = self.choice
        self._quiet = True
        self.about.setText(choice.about)
        self.what.setToolTip(f"<p><b>{choice.label}</b></p><p>{LEFT_OUT}</p>")
        self.length.clear()
        self.patch.clear()
        self.network.clear()
        preset = None
        if choice.preset:
            from napari_sslseg.core.settings.presets.registry import preset_named

            preset = preset_named(choice.key)
            training = preset.stages[0].settings.training
            words = f"{training.epochs} epochs" if training.epochs else f"{training.steps} steps"
            self.length.addItem(f"{PAPER} ({words})", PAPER)
            self.network.addItem(PAPER, None)
            self._paper_batch = training.batch_size
            self._patched = any(
                "patch_size" in TASKS[stage.task].model_fields for stage in preset.stages
            )
            side = next(
                (s.options["patch_size"] for s in preset.stages if "patch_size" in s.options), None
            )
            self.patch.addItem(f"{PAPER} ({side} pixels)", None)
        else:
            self._paper_batch = Training().batch_size
            self._patched = "patch_size" in TASKS[choice.key].model_fields
            self.patch.addItem("Automatic", None)
        for key, steps in LENGTHS.items():
            self.length.addItem(LENGTH_WORDS[key], steps)
        self.length.addItem("Other", 0)
        for side in PATCHES:
            self.patch.addItem(f"{side} pixels", side)
        for name, (title, hint) in NETWORKS.items():
            if preset is not None and name.endswith("3d"):
                continue
            self.network.addItem(title, name)
            self.network.setItemData(self.network.count() - 1, hint, 3)  # Its tooltip.
        self.batch.setValue(self._paper_batch)
        self.rows.setRowVisible(self.patch, self._patched)
        self.network.setCurrentIndex(0 if preset else self.network.findData("small"))
        self.length.setCurrentIndex(0 if preset else self.length.findData(LENGTHS["usual"]))
        self._quiet = False
        self._built = None
        self._set_steps()
        self._build()

    def _set_steps(self) -> None:
        steps = self.length.currentData()
        self.steps.setVisible(steps != PAPER)
        if isinstance(steps, int) and steps:
            self.steps.setValue(steps)
        self._tell()

    def _name_length(self) -> None:
        if self.length.currentData() not in (PAPER, self.steps.value()):
            found = self.length.findData(self.steps.value())
            self._quiet = True
            self.length.setCurrentIndex(found if found >= 0 else self.length.findData(0))
            self._quiet = False
        self._tell()

    def _other_network(self) -> None:
        self._build()
        self._tell()

    def _tell(self) -> None:
        if not self._quiet:
            self.changed.emit()

    # Advanced settings, made when they are looked at

    def _build(self) -> None:
        if self._quiet or (self.fold.content.isHidden() and not self._forms):
            return
        key = (self.choice.key, self.network.currentData(), self.ground.modalities)
        if key == self._built:
            return
        self._built = key
        self._forms.clear()
        self.device.setParent(None)
        while self._column.count():
            widget = self._column.takeAt(0).widget()  # type: ignore[union-attr]
            if widget is not None and widget is not self.device:
                widget.deleteLater()
        if self.fold.content.isHidden():
            self._built = None
            return
        self._heading("Device")
        self._column.addWidget(self.device)
        for name, (title, start, hidden) in self._parts().items():
            form = SettingsForm(start, hidden)
            if not form.fields:
                form.deleteLater()
                continue
            self._heading(title)
            form.setObjectName(f"form-{name}")
            form.changed.connect(self._tell)
            self._column.addWidget(form)
            self._forms[name] = form
        self._tell()

    def _heading(self, title: str) -> None:
        self._column.addWidget(QLabel(f"<b>{title}</b>"))

    def _parts(self) -> dict[str, tuple[str, Any, tuple[str, ...]]]:
        """Title, settings and fields that are not shown of each part."""
        bare = PretrainPlan(self.choice, None, self.network.currentData())
        modality = (self.ground.modalities or ("MR",))[0]
        dimensions = bare.network_settings().dimensions
        hidden = ("kind", "patch_size", "selection", "organ_slices")
        length = ("steps", "epochs", "batch_size")
        unused = ("clip_percentiles",) if modality == "CT" else ("windows",)
        shares = ["preset", "preprocessing", "network", "training"]
        shares += ["middle_share"] if dimensions == 3 else []
        training = Training(learning_rate=1e-3)
        parts: dict[str, tuple[str, Any, tuple[str, ...]]] = {}
        stage = PretrainSettings()
        if self.choice.preset:
            from napari_sslseg.core.settings.presets.registry import preset_named

            preset = preset_named(self.choice.key)
            stage = preset.stages[0].settings
            training = stage.training
            shares.append("validation_share")
            if len(preset.stages) == 1:
                parts["options"] = ("Method", preset.stages[0].make_task(), hidden)
        else:
            parts["options"] = ("Method", make_task(self.choice.key), hidden)
        parts["training"] = ("Training", training, length)
        if self.choice.preset or dimensions in TASKS[self.choice.key].dimensions:
            prepared = bare.prepared(modality, self.ground.plane, self.ground.spacing)
            parts["preprocessing"] = ("Scans", prepared, ("kind", "modality", "plane", *unused))
        parts["stage"] = ("Which slices", stage, tuple(shares))
        return parts
