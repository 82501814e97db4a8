"""The pretraining that the form describes, as settings for core. Needs no Qt and no PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.sizes import Plane, Size
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.samples.warnings import Spacing
from napari_sslseg.core.settings.networks import DEFAULT_NETWORK, NetworkSettings, named_network
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing
from napari_sslseg.core.settings.pretext.registry import TASKS, check_task, make_task
from napari_sslseg.core.settings.stages import PretrainSettings
from napari_sslseg.core.settings.training import PRETRAIN_STEPS, Training, default_training
from napari_sslseg.gui.model.run_choices import MIXED
from napari_sslseg.gui.pretrain.methods import PretrainMethod
from napari_sslseg.gui.pretrain.training_data import TrainingData

if TYPE_CHECKING:
    from napari_sslseg.core.settings.presets.preset import Preset
    from napari_sslseg.core.settings.pretext.registry import TaskSettings


@dataclass(frozen=True)
class PretrainPlan:
    """Choices of the form.

    Parameters
    ----------
    method : PretrainMethod
        Pretext task or preset.
    steps : int or None
        Number of steps; None for the length in the paper.
    network : str or None
        Name of the network; None for that of the paper.
    training, options, preprocessing, stage : mapping
        Settings that differ from the defaults: of the training loop, the pretext task, the
        preprocessing and the stage.
    """

    method: PretrainMethod
    steps: int | None = PRETRAIN_STEPS
    network: str | None = DEFAULT_NETWORK
    training: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    stage: Mapping[str, Any] = field(default_factory=dict)

    def preset(self, plane: Plane) -> "Preset":
        """Apply the changes to the preset.

        Raises
        ------
        ConfigError
            If a change is impossible.
        """
        found = self._original()
        preprocessing = dict(self.preprocessing)
        if found.network.dimensions == 2:
            preprocessing["plane"] = plane
        return found.with_overrides(
            network=None if self.network is None else named_network(self.network),
            training=self._training_fields(),
            preprocessing=preprocessing,
            options=self.options,
            middle_share=self.stage.get("middle_share"),
        )

    def _original(self) -> "Preset":
        from napari_sslseg.core.settings.presets.registry import preset_named

        return preset_named(self.method.key)

    def _training_fields(self) -> dict[str, Any]:
        steps = {} if self.steps is None else {"steps": self.steps}
        return dict(self.training) | steps

    def network_settings(self) -> NetworkSettings:
        """Return the settings of the network."""
        return self._original().network if self.network is None else named_network(self.network)

    def training_settings(self) -> Training:
        """Return the settings of the training loop, of a preset those of its first stage."""
        if self.method.preset:
            preset = self._original().with_overrides(training=self._training_fields())
            return preset.pretrain_settings("MR").training
        dimensions = self.network_settings().dimensions
        return default_training("pretrain", dimensions, **self._training_fields())

    def prepared(
        self, modality: Any, plane: Plane, spacing: Spacing | None = None
    ) -> AnyPreprocessing:
        """Return the preprocessing of scans with this voxel size."""
        if self.method.preset:
            return self.preset(plane).preprocessing(modality)
        dimensions = self.network_settings().dimensions
        found = default_preprocessing(modality, dimensions, spacing=spacing, plane=plane)
        return found.model_copy(update=self.preprocessing)

    def task_name(self) -> str:
        """Return the name of the pretext task, of a preset that of its first stage."""
        return self._original().stages[0].task if self.method.preset else self.method.key

    def task_options(self, plane: Plane) -> dict[str, Any]:
        """Return the options of the pretext task, of a preset those of its first stage."""
        if not self.method.preset:
            return dict(self.options)
        return dict(self.preset(plane).stages[0].options)

    def task(self, size: Size | None) -> "TaskSettings":
        """Return the settings of the pretext task for images of this size.

        Raises
        ------
        ConfigError
            If an option is impossible, or the task does not work with the network.
        """
        network = self.network_settings()
        stride = getattr(network, "stride", None)
        task = make_task(self.method.key, size, stride=stride, **self.options)
        check_task(task, network.dimensions)
        return task

    def settings(
        self, modality: Any, plane: Plane, spacing: Spacing | None = None
    ) -> PretrainSettings:
        """Return the settings of the pretraining; not for a preset."""
        return PretrainSettings(
            preprocessing=self.prepared(modality, plane, spacing),
            network=self.network_settings(),
            training=self.training_settings(),
            **self.stage,
        )

    def problem(self, data: TrainingData) -> str | None:
        """Say in one sentence why the pretraining cannot start; None if it can."""
        if not data.scans:
            return "There are no training scans; add scans, and set their use to Train in step 1."
        if len(data.modalities) > 1:
            return MIXED
        network = self.network_settings()
        if network.dimensions == 3 and data.plane != "axial":
            return (
                f"3D networks need axial slices, but the plane of this project is {data.plane}; "
                "choose a 2D network."
            )
        kind = TASKS[self.task_name()]
        try:
            self._check_network(network, data.plane)
        except ConfigError as error:
            return str(error)
        if kind.compares_scans and data.subjects < 2:
            return "This method compares patients, but there is only one; add scans of others."
        return None

    def _check_network(self, network: NetworkSettings, plane: Plane) -> None:
        if not self.method.preset:
            self.task(None)
        elif network.dimensions not in TASKS[self.task_name()].dimensions:
            raise ConfigError("This method works on slices; choose a 2D network.")
        else:
            self.preset(plane)
