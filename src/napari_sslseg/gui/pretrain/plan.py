"""What can be learnt from unlabelled scans, in plain words, and what is trained for it.

Needs no Qt and no PyTorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane, Size
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.samples.warnings import Spacing
from napari_sslseg.core.settings.networks import NetworkSettings, named_network
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, Preprocessing
from napari_sslseg.core.settings.pretext.registry import TASKS, check_task, make_task
from napari_sslseg.core.settings.stages import PretrainSettings
from napari_sslseg.core.settings.training import Training

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.settings.presets.preset import Preset
    from napari_sslseg.core.settings.pretext.registry import TaskSettings

LENGTHS = {"quick": 200, "usual": 1000, "long": 5000}
"""Steps."""

ABOUT = {
    "context-restoration": "Patches of a slice change places and the network puts them back. A "
    "good first choice for MR and CT.",
    "context-prediction": "Patches of a slice are erased and the network fills them in. Close to "
    "swapping; try it where swapped patches hardly show.",
    "mae": "Most of a slice is hidden and the network guesses it from what is left. Best with "
    "many scans and a long training.",
    "spark": "As the masked autoencoder, but the network never sees hidden places. Best with many "
    "scans and a long training.",
    "masked-pixels": "Single pixels become noise and the network gives their values. Quick; "
    "learns texture rather than anatomy.",
    "models-genesis": "Grey values are bent and parts shuffled or painted over, and the network "
    "undoes it. For scans whose brightness differs much.",
    "volume-fusion": "Two slices are mixed in boxes and the network says how strongly where. "
    "Trains the whole network, also the part that draws outlines.",
    "global-contrast": "The network learns which two views show the same slice. Needs large "
    "batches and many patients; for few scans restoring works better.",
}
EXTRA = {"mae": "MAE", "spark": "SparK", "global-contrast": "contrastive"}
RECOMMENDED = "context-restoration"
LEFT_OUT = (
    "Not listed, since they need masks of an organ: telling the left from the right side, and "
    "telling slices with and without an organ apart. Local contrast is the second stage of “Tell "
    "slices, then places apart”."
)
NETWORKS = {
    "tiny": ("Tiny, to try things out", "U-Net of 8 to 32 channels: quick, but learns little."),
    "small": ("Small (usual)", "U-Net of 16 to 128 channels: suits computers without a GPU."),
    "paper": ("Large", "U-Net of Dominic et al. 2023, 32 to 512 channels: needs a GPU."),
    "umapathy": ("U-Net of Umapathy et al.", "2D U-Net with batch normalisation."),
    "multimix": ("U-Net of PolyCL", "MultiMix U-Net with dropout."),
    "dynunet": ("U-Net of nnU-Net", "MONAI's DynUNet, 32 to 512 channels: needs a GPU."),
    "dense3d": ("3D, small", "Network of Dhere & Sivaswamy on crops of volumes, axial alone."),
    "dynunet3d": ("3D, large", "MONAI's DynUNet on crops of volumes, axial alone: needs a GPU."),
}


@dataclass(frozen=True)
class PretextChoice:
    """Something to learn.

    Attributes
    ----------
    key : str
        Name of the task or the preset.
    label, about : str
        In a few words, and in a sentence or two.
    preset : bool
        Whether it is the method of a paper.
    """

    key: str
    label: str
    about: str
    preset: bool = False


def pretext_choices() -> list[PretextChoice]:
    """All that works on scans without labels; the recommended one first."""
    made = []
    for name, about in ABOUT.items():
        extra = EXTRA.get(name)
        extra = "recommended" if name == RECOMMENDED else extra
        label = TASKS[name].title + (f" ({extra})" if extra else "")
        made.append(PretextChoice(name, label, about))
    from napari_sslseg.core.settings.presets.registry import PRESETS

    for preset in PRESETS.values():
        if _needs_masks(preset):
            continue
        label = f"{preset.title}: {preset.paper}"
        about = f"{preset.summary} All settings are those of the paper."
        made.append(PretextChoice(preset.name, label, about, preset=True))
    return made


def _needs_masks(preset: "Preset") -> bool:
    return any(
        stage.task == "siamese" or stage.options.get("selection", "scan") != "scan"
        for stage in preset.stages
    )


@dataclass(frozen=True)
class PretrainPlan:
    """What is to be trained, as chosen on the screen.

    Parameters
    ----------
    choice : PretextChoice
        What to learn.
    steps : int or None
        Length; None as in the paper.
    network : str or None
        Name of the network; None as in the paper.
    training, options, preprocessing, stage : mapping
        Settings that differ from the usual ones.
    """

    choice: PretextChoice
    steps: int | None = 1000
    network: str | None = "small"
    training: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    stage: Mapping[str, Any] = field(default_factory=dict)

    def preset(self, plane: Plane) -> "Preset":
        """The preset with all changes.

        Raises
        ------
        ConfigError
            If something cannot be changed so.
        """
        from napari_sslseg.core.settings.presets.registry import preset_named

        found = preset_named(self.choice.key)
        training = dict(self.training)
        if self.steps is not None:
            training["steps"] = self.steps
        preparing = dict(self.preprocessing)
        if found.network.dimensions == 2:
            preparing["plane"] = plane
        network = None if self.network is None else named_network(self.network)
        return found.with_overrides(
            network=network, training=training, preprocessing=preparing, options=self.options,
            middle_share=self.stage.get("middle_share"),
        )  # fmt: skip

    def network_settings(self) -> NetworkSettings:
        """Settings of the network."""
        if self.network is not None:
            return named_network(self.network)
        from napari_sslseg.core.settings.presets.registry import preset_named

        return preset_named(self.choice.key).network

    def prepared(
        self, modality: Any, plane: Plane, spacing: Spacing | None = None
    ) -> AnyPreprocessing:
        """How scans of this voxel size are prepared."""
        if self.choice.preset:
            return self.preset(plane).preprocessing(modality)
        dimensions = self.network_settings().dimensions
        found = default_preprocessing(modality, dimensions, spacing=spacing, plane=plane)
        return found.model_copy(update=self.preprocessing)

    def task_name(self) -> str:
        """Name of the pretext task, of a preset that of its first stage."""
        if not self.choice.preset:
            return self.choice.key
        from napari_sslseg.core.settings.presets.registry import preset_named

        return preset_named(self.choice.key).stages[0].task

    def task_options(self, plane: Plane) -> dict[str, Any]:
        """Options of the pretext task, of a preset those of its first stage."""
        if not self.choice.preset:
            return dict(self.options)
        return dict(self.preset(plane).stages[0].options)

    def task(self, size: Size | None) -> "TaskSettings":
        """Settings of the pretext task for images of this size.

        Raises
        ------
        ConfigError
            If an option is impossible, or the task does not work on the network.
        """
        network = self.network_settings()
        task = make_task(
            self.choice.key, size, stride=getattr(network, "stride", None), **self.options
        )
        check_task(task, network.dimensions)
        return task

    def settings(
        self, modality: Any, plane: Plane, spacing: Spacing | None = None
    ) -> PretrainSettings:
        """Settings of the training, where the choice is no preset."""
        training = dict(self.training)
        if self.steps is not None:
            training["steps"] = self.steps
        return PretrainSettings(
            preprocessing=self.prepared(modality, plane, spacing),
            network=self.network_settings(),
            training=Training(**{"learning_rate": 1e-3, **training}),
            **self.stage,
        )

    def problem(self, found: "TrainingData") -> str | None:
        """Why it cannot be started, in one sentence; None if it can."""
        if not found.scans:
            return "There is no scan to learn from; add scans first, for training and not for test."
        if len(found.modalities) > 1:
            return (
                "There are MR and CT scans to learn from, but a network learns from one kind; set "
                "the patients of the other kind to Held out in step 1, or keep them in another "
                "project."
            )
        network = self.network_settings()
        if network.dimensions == 3 and found.plane != "axial":
            return (
                f"3D networks learn from axial slices, and this project has {found.plane} ones; "
                "choose a network of slices."
            )
        kind = TASKS[self.task_name()]
        try:
            if not self.choice.preset:
                check_task(self.task(None), network.dimensions)
            elif network.dimensions not in kind.dimensions:
                return "This method works on slices; choose another network."
            else:
                self.preset(found.plane)
        except ConfigError as error:
            return str(error)
        if kind.compares_scans and found.subjects < 2:
            return "This method compares patients, and there is one alone; add scans of others."
        return None


@dataclass(frozen=True)
class TrainingData:
    """What there is to learn from."""

    scans: int = 0
    subjects: int = 0
    slices: int = 0
    modalities: tuple[str, ...] = ()
    plane: Plane = "axial"
    spacing: Spacing | None = None

    @property
    def words(self) -> str:
        """Numbers of scans and slices."""
        if not self.scans:
            return "no scans to learn from"
        scans = f"{self.scans:,} scan{'s' if self.scans > 1 else ''}"
        patients = f"{self.subjects:,} patient{'s' if self.subjects > 1 else ''}"
        return f"{scans} of {patients}, {self.slices:,} {self.plane} slices"


def training_data_of(project: "Project | None") -> TrainingData:
    """What the project has to learn from, without a look at files."""
    if project is None:
        return TrainingData()
    entries = [project.entry(name) for name in project.names]
    entries = [entry for entry in entries if entry.role == "train"]
    return TrainingData(
        scans=len(entries),
        subjects=len({entry.subject for entry in entries}),
        slices=sum(entry.shape[PLANE_AXIS[project.plane]] for entry in entries),
        modalities=tuple(sorted({entry.modality for entry in entries})),
        plane=project.plane,
        spacing=next((entry.spacing for entry in entries), None),
    )


def sample_size_of(project: "Project", settings: AnyPreprocessing) -> Size | None:
    """Sides of what the network sees, by the scans as they are, without a look at files."""
    from napari_sslseg.core.samples.crops import crop_size
    from napari_sslseg.core.samples.placement import canvas_size

    entries = [project.entry(name) for name in project.names]
    shapes: list[tuple[int, ...]] = [entry.shape for entry in entries if entry.role == "train"]
    if not shapes:
        return None
    if not isinstance(settings, Preprocessing):
        return crop_size(shapes, settings)
    across = [axis for axis in range(3) if axis != PLANE_AXIS[settings.plane]]
    return canvas_size([(shape[across[0]], shape[across[1]]) for shape in shapes], settings)
