"""Form for a pretraining: method, length, network and advanced settings."""

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_sslseg.core.settings.networks import DEFAULT_NETWORK
from napari_sslseg.core.settings.patch_size import PATCH_SIDES
from napari_sslseg.core.settings.pretext.registry import TASKS, make_task
from napari_sslseg.core.settings.stages import PretrainSettings
from napari_sslseg.core.settings.training import MOST_STEPS, Training
from napari_sslseg.gui.model.run_choices import LENGTH_TITLES, LENGTHS, network_items
from napari_sslseg.gui.pretrain.methods import NOT_OFFERED_HINT, PretrainMethod, pretrain_methods
from napari_sslseg.gui.pretrain.plan import PretrainPlan
from napari_sslseg.gui.pretrain.training_data import TrainingData
from napari_sslseg.gui.widgets.foldable import Foldable
from napari_sslseg.gui.widgets.forms import SettingsForm, bounds
from napari_sslseg.gui.widgets.inputs import add_item, spin_box
from napari_sslseg.gui.widgets.no_wheel import NoWheelComboBox, NoWheelSpinBox

if TYPE_CHECKING:
    from napari_sslseg.core.settings.presets.preset import Preset

PATCHES = (4, *PATCH_SIDES)
"""Sides of patches in pixels; 4 is for scans with small slices."""

PAPER = "As in the paper"
OTHER_LENGTH = 0

_HIDDEN_OPTIONS = ("kind", "patch_size", "selection", "organ_slices")
_HIDDEN_TRAINING = ("steps", "epochs", "batch_size")

Part = tuple[str, Any, tuple[str, ...]]
"""Title, settings and hidden fields of a part of the advanced settings."""


class PretrainForm(QWidget):
    """Controls for a :class:`~napari_sslseg.gui.pretrain.plan.PretrainPlan`.

    Attributes
    ----------
    changed : Signal
        A setting changed; :meth:`plan` returns the current ones.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.data = TrainingData()
        self.methods = {method.key: method for method in pretrain_methods()}
        self._forms: dict[str, SettingsForm] = {}
        self._built: Any = None
        self._quiet = False
        self._default_batch = Training().batch_size
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self._add_method(layout)
        layout.addLayout(self._make_rows())
        self._add_advanced(layout)
        self._connect()
        self._method_changed()

    def _add_method(self, layout: QVBoxLayout) -> None:
        self.what = _combo("what", "Pretraining method", NOT_OFFERED_HINT)
        separated = False
        for method in self.methods.values():
            if method.preset and not separated:
                self.what.insertSeparator(self.what.count())
                separated = True
            self.what.addItem(method.label, method.key)
        self.about = QLabel()
        self.about.setObjectName("about")
        self.about.setWordWrap(True)
        layout.addWidget(self.what)
        layout.addWidget(self.about)

    def _make_rows(self) -> QFormLayout:
        rows = self.rows = QFormLayout()
        rows.setVerticalSpacing(4)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.length = _combo(
            "length", "Length", "Longer training is better, but the gain becomes smaller."
        )
        self.steps = _spin("steps", MOST_STEPS, "Number of steps; each step is one batch.")
        self.steps.setSuffix(" steps")
        line = QHBoxLayout()
        line.addWidget(self.length, 5)
        line.addWidget(self.steps, 6)
        largest = bounds(Training.model_fields["batch_size"])[1]
        assert largest is not None
        self.batch = _spin("batch", int(largest), "Slices, or crops of volumes, per step.")
        self.patch = _combo("patch", "Patch size", "Side of the patches in pixels.")
        self.network = _combo("network", "Network", "Larger networks can learn more.")
        for text, part, buddy in (
            ("&Length", line, self.length),
            ("&Batch size", self.batch, self.batch),
            ("&Patch size", self.patch, self.patch),
            ("&Network", self.network, self.network),
        ):
            label = QLabel(text)
            label.setBuddy(buddy)
            rows.addRow(label, part)
        return rows

    def _add_advanced(self, layout: QVBoxLayout) -> None:
        self.advanced = QWidget()
        self._column = QVBoxLayout(self.advanced)
        self._column.setContentsMargins(8, 0, 0, 0)
        self.fold = Foldable("&Advanced", self.advanced)
        self.fold.setObjectName("advanced")
        self.fold.toggled.connect(lambda shown: self._build())
        layout.addWidget(self.fold)
        self.device = _combo("device", "Device", "Automatic takes the GPU if there is one.")
        self.device.addItem("automatic", "auto")

    def _connect(self) -> None:
        self.what.currentIndexChanged.connect(lambda index: self._method_changed())
        self.length.currentIndexChanged.connect(lambda index: self._length_changed())
        self.steps.valueChanged.connect(lambda value: self._steps_changed())
        self.batch.valueChanged.connect(lambda value: self._notify())
        self.patch.currentIndexChanged.connect(lambda index: self._notify())
        self.network.currentIndexChanged.connect(lambda index: self._network_changed())
        self.device.currentIndexChanged.connect(lambda index: self._notify())

    # Current settings

    @property
    def method(self) -> PretrainMethod:
        """The chosen method."""
        return self.methods[self.what.currentData()]

    def choose(self, key: str) -> None:
        """Choose a method, as a person does with the combo box."""
        self.what.setCurrentIndex(self.what.findData(key))

    def reset(self) -> None:
        """Choose the defaults, as for another project."""
        self.what.setCurrentIndex(0)
        self.device.setCurrentIndex(0)
        self._method_changed()  # Also if it is the same method.

    def plan(self, patch_size: int | None = None) -> PretrainPlan | None:
        """Return the current settings; None if an advanced setting is impossible.

        Parameters
        ----------
        patch_size : int, optional
            Side of the patches for "Automatic", where the method has patches.
        """
        if any(form.value() is None for form in self._forms.values()):
            return None
        changes = {name: form.changes() for name, form in self._forms.items()}
        training = dict(changes.get("training", {}))
        if self.batch.value() != self._default_batch:
            training["batch_size"] = self.batch.value()
        options = dict(changes.get("options", {}))
        side = self.patch.currentData() or patch_size
        if self.has_patches and side is not None:
            options["patch_size"] = side
        return PretrainPlan(
            method=self.method,
            steps=None if self.length.currentData() == PAPER else self.steps.value(),
            network=self.network.currentData(),
            training=training,
            options=options,
            preprocessing=changes.get("preprocessing", {}),
            stage=changes.get("stage", {}),
        )

    def _bare_plan(self) -> PretrainPlan:
        """The method and network, with defaults for all other settings."""
        return PretrainPlan(self.method, None, self.network.currentData())

    @property
    def has_patches(self) -> bool:
        """Whether the method has a patch size."""
        preset = self._preset()
        tasks = [self.method.key] if preset is None else [stage.task for stage in preset.stages]
        return any("patch_size" in TASKS[task].model_fields for task in tasks)

    def _preset(self) -> "Preset | None":
        if not self.method.preset:
            return None
        from napari_sslseg.core.settings.presets.registry import preset_named

        return preset_named(self.method.key)

    def set_automatic_patch(self, side: int | None) -> None:
        """Show the patch size that suits the scans."""
        if self.patch.count() and self.patch.itemData(0) is None and not self.method.preset:
            self.patch.setItemText(0, "Automatic" + (f" ({side} pixels)" if side else ""))

    def set_devices(self, names: tuple[str, ...]) -> None:
        """Offer devices; ``auto`` is always the first."""
        for name in names:
            if self.device.findData(name) < 0:
                self.device.addItem(name.upper(), name)

    def set_data(self, data: TrainingData) -> None:
        """Adapt the advanced settings to the training scans."""
        if data != self.data:
            self.data = data
            self._build()

    # Reactions to changes

    def _method_changed(self) -> None:
        """Offer the settings of the method."""
        method, preset = self.method, self._preset()
        self._quiet = True
        self.about.setText(method.about)
        self.what.setToolTip(f"<p><b>{method.label}</b></p><p>{NOT_OFFERED_HINT}</p>")
        self._fill_lengths(preset)
        self._fill_patches(preset)
        self._fill_networks(preset)
        self._show_default_batch(force=True)
        self._quiet = False
        self._built = None
        self._length_changed()
        self._build()

    def _fill_lengths(self, preset: "Preset | None") -> None:
        self.length.clear()
        if preset is not None:
            training = preset.stages[0].settings.training
            words = f"{training.epochs} epochs" if training.epochs else f"{training.steps} steps"
            self.length.addItem(f"{PAPER} ({words})", PAPER)
        for key, steps in LENGTHS["pretrain"].items():
            self.length.addItem(LENGTH_TITLES[key], steps)
        self.length.addItem("Other", OTHER_LENGTH)
        usual = self.length.findData(LENGTHS["pretrain"]["usual"])
        self.length.setCurrentIndex(usual if preset is None else 0)

    def _fill_patches(self, preset: "Preset | None") -> None:
        self.patch.clear()
        first = "Automatic"
        if preset is not None:
            sides = [s.options["patch_size"] for s in preset.stages if "patch_size" in s.options]
            first = f"{PAPER} ({sides[0]} pixels)" if sides else PAPER
        self.patch.addItem(first, None)
        for side in PATCHES:
            self.patch.addItem(f"{side} pixels", side)
        self.rows.setRowVisible(self.patch, self.has_patches)

    def _fill_networks(self, preset: "Preset | None") -> None:
        self.network.clear()
        if preset is not None:
            self.network.addItem(PAPER, None)
        for item in network_items(None if preset is None else preset.network.dimensions):
            add_item(self.network, *item)
        default = self.network.findData(DEFAULT_NETWORK)
        self.network.setCurrentIndex(default if preset is None else 0)

    def _show_default_batch(self, *, force: bool) -> None:
        """Show the default batch size, unless another one was chosen (``force`` ignores that)."""
        plan = self._bare_plan()
        chosen = self.batch.value() != self._default_batch
        self._default_batch = plan.training_settings().batch_size
        volumes = plan.network_settings().dimensions == 3
        self.batch.setSuffix(" crops" if volumes else " slices")
        if force or not chosen:
            self.batch.setValue(self._default_batch)

    def _length_changed(self) -> None:
        steps = self.length.currentData()
        self.steps.setVisible(steps != PAPER)
        if isinstance(steps, int) and steps:
            self.steps.setValue(steps)
        self._notify()

    def _steps_changed(self) -> None:
        """Show which of the lengths the number of steps is."""
        if self.length.currentData() not in (PAPER, self.steps.value()):
            found = self.length.findData(self.steps.value())
            self._quiet = True
            self.length.setCurrentIndex(found if found >= 0 else self.length.findData(OTHER_LENGTH))
            self._quiet = False
        self._notify()

    def _network_changed(self) -> None:
        if self._quiet:
            return
        self._quiet = True
        self._show_default_batch(force=False)
        self._quiet = False
        self._build()
        self._notify()

    def _notify(self) -> None:
        if not self._quiet:
            self.changed.emit()

    # Advanced settings, made when they are shown

    def _build(self) -> None:
        if self._quiet or (self.fold.content.isHidden() and not self._forms):
            return
        key = (self.method.key, self.network.currentData(), self.data.modalities)
        if key == self._built:
            return
        self._clear_advanced()
        if self.fold.content.isHidden():
            self._built = None
            return
        self._built = key
        self._add_heading("Device")
        self._column.addWidget(self.device)
        for name, part in self._parts().items():
            self._add_form(name, *part)
        self._notify()

    def _clear_advanced(self) -> None:
        self._forms.clear()
        self.device.setParent(None)
        while self._column.count():
            widget = self._column.takeAt(0).widget()  # type: ignore[union-attr]
            if widget is not None and widget is not self.device:
                widget.deleteLater()

    def _add_heading(self, title: str) -> None:
        self._column.addWidget(QLabel(f"<b>{title}</b>"))

    def _add_form(self, name: str, title: str, settings: Any, hidden: tuple[str, ...]) -> None:
        form = SettingsForm(settings, hidden)
        if not form.fields:
            form.deleteLater()
            return
        self._add_heading(title)
        form.setObjectName(f"form-{name}")
        form.changed.connect(self._notify)
        self._column.addWidget(form)
        self._forms[name] = form

    def _parts(self) -> dict[str, Part]:
        """Parts of the advanced settings by name."""
        plan, preset = self._bare_plan(), self._preset()
        dimensions = plan.network_settings().dimensions
        modality = (self.data.modalities or ("MR",))[0]
        parts: dict[str, Part] = {}
        if preset is None:
            parts["options"] = ("Method", make_task(self.method.key), _HIDDEN_OPTIONS)
        elif len(preset.stages) == 1:
            parts["options"] = ("Method", preset.stages[0].make_task(), _HIDDEN_OPTIONS)
        parts["training"] = ("Training", plan.training_settings(), _HIDDEN_TRAINING)
        if preset is not None or dimensions in TASKS[self.method.key].dimensions:
            prepared = plan.prepared(modality, self.data.plane, self.data.spacing)
            unused = ("clip_percentiles", "clipping") if modality == "CT" else ("windows",)
            parts["preprocessing"] = ("Scans", prepared, ("kind", "modality", "plane", *unused))
        stage = PretrainSettings() if preset is None else preset.stages[0].settings
        hidden = ["preset", "preprocessing", "network", "training"]
        if dimensions == 3:
            hidden.append("middle_share")
        if preset is not None:
            hidden.append("validation_share")
        parts["stage"] = ("Slices", stage, tuple(hidden))
        return parts


def _combo(name: str, title: str, tooltip: str) -> NoWheelComboBox:
    combo = NoWheelComboBox()
    combo.setObjectName(name)
    combo.setAccessibleName(title)
    combo.setToolTip(f"<p>{tooltip}</p>")
    return combo


def _spin(name: str, high: int, tooltip: str) -> NoWheelSpinBox:
    spin = spin_box(name, 1, high)
    spin.setAccessibleName(tooltip)
    spin.setGroupSeparatorShown(True)
    spin.setKeyboardTracking(False)
    spin.setToolTip(f"<p>{tooltip}</p>")
    return spin
