"""Choices for a fine-tuning, the resulting settings, and why it cannot start. Needs no Qt."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.settings_base import make_settings
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.settings.networks import DEFAULT_NETWORK, named_network
from napari_sslseg.core.settings.self_training import self_trained
from napari_sslseg.core.settings.stages import (
    FROZEN_SHARES,
    FinetuneSettings,
    LossKind,
    Strategy,
    Transfer,
)
from napari_sslseg.core.settings.training import LEARNING_RATE, VALIDATION_SHARE, default_training
from napari_sslseg.gui.model.run_choices import LENGTHS, MIXED
from napari_sslseg.gui.text import plural

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import LabelledSplit, Project
    from napari_sslseg.core.scans.labelled import LabelledScan
    from napari_sslseg.core.settings.preprocessing import Preprocessing
    from napari_sslseg.gui.model.session import Session

_DEFAULTS = FinetuneSettings()

STRATEGY_TEXTS: dict[Strategy, tuple[str, str]] = {
    "whole": (
        "All layers from the start",
        "The default; works well with a few dozen labelled slices.",
    ),
    "sawtooth": (
        "New layers first, then all",
        "Only the new layers are trained at first, which protects the pretrained ones.",
    ),
    "freeze-unfreeze": (
        "Encoder frozen at first",
        f"The pretrained encoder is frozen for the first {FROZEN_SHARES['freeze-unfreeze']:.0%} of "
        "the steps; then all layers train.",
    ),
    "layer-decay": (
        "Early layers slowly",
        "The first layers, which detect edges and textures, change least.",
    ),
    "frozen-encoder": (
        "Encoder always frozen",
        "Measures the benefit of the pretraining by itself; rarely the best result.",
    ),
}
TRANSFER_TEXTS: dict[Transfer, tuple[str, str]] = {
    "encoder": (
        "Encoder",
        "The part of the network that turns a slice into features; the default.",
    ),
    "encoder+decoder": (
        "Encoder and decoder",
        "Can help where the pretraining restored whole images.",
    ),
}
LEAST_FREE = 100 * 2**20
"""Bytes that must be free on the disk of the project."""


@dataclass(frozen=True)
class TrainingChoice:
    """Choices of the form.

    Attributes
    ----------
    start : str
        Name of the pretraining run; empty to start from scratch.
    length : str
        A key of ``LENGTHS["finetune"]``.
    strategy, transfer, loss
        As in :class:`~napari_sslseg.core.settings.stages.FinetuneSettings`.
    steps : int or None
        Number of steps, if it is not that of the length.
    batch_size : int or None
        Batch size; None for the default of the network.
    learning_rate : float
        Learning rate after the warm-up.
    network : str
        Name of the network; only from scratch.
    unlabelled : bool
        Whether to use slices without labels too, where there are any.
    many_pieces : bool
        Whether small connected components in these slices are used.
    spacing : {"planned", "keep"}
        Pixels of the slices, see :class:`~napari_sslseg.core.settings.preprocessing.Preprocessing`.
        Only from scratch.
    neighbours : int or None
        Number of neighbouring slices on each side; None to choose it by the slice distance. Only
        from scratch.
    share : float
        Fraction of the patients for validation.
    device : str
        Device to train on.
    seed : int
        Random seed.
    """

    start: str = ""
    length: str = "usual"
    strategy: Strategy = _DEFAULTS.strategy
    transfer: Transfer = _DEFAULTS.transfer
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float = LEARNING_RATE
    loss: LossKind = _DEFAULTS.loss
    network: str = DEFAULT_NETWORK
    unlabelled: bool = True
    many_pieces: bool = False
    spacing: Literal["planned", "keep"] = "planned"
    neighbours: int | None = None
    share: float = VALIDATION_SHARE
    device: str = "auto"
    seed: int = 0


def finetune_settings(project: "Project", choice: TrainingChoice) -> FinetuneSettings:
    """Return the settings of a choice for the scans of a project.

    Raises
    ------
    ConfigError
        If a setting is impossible.
    """
    values: dict[str, Any] = {
        "training": default_training(
            "finetune",
            steps=choice.steps or LENGTHS["finetune"][choice.length],
            batch_size=choice.batch_size,
            learning_rate=choice.learning_rate,
            seed=choice.seed,
        ),
        "loss": choice.loss,
    }
    if choice.unlabelled and count_unlabelled(project):
        values |= self_trained(choice.many_pieces)
    if choice.start:
        values |= {"strategy": choice.strategy, "transfer": choice.transfer}
    else:
        values |= {
            "network": named_network(choice.network),
            "preprocessing": _preprocessing(project, choice),
        }
    return make_settings(FinetuneSettings, **values)


def _preprocessing(project: "Project", choice: TrainingChoice) -> "Preprocessing":
    """Return the default preprocessing for the first labelled scan."""
    from napari_sslseg.core.samples.build import default_preprocessing

    scans = project.record.scans
    first = next((scan for scan in scans if scan.done), scans[0])
    found = default_preprocessing(first.modality, spacing=first.spacing, plane=project.plane)
    near = found.neighbours if choice.neighbours is None else choice.neighbours
    return found.model_copy(update={"spacing": choice.spacing, "neighbours": near})


def count_unlabelled(project: "Project") -> int:
    """Count the slices of training scans that are not done."""
    axis = PLANE_AXIS[project.plane]
    scans = [scan for scan in project.record.scans if scan.role == "train"]
    return sum(scan.shape[axis] - scan.done_count for scan in scans)


def refusal(session: "Session", choice: TrainingChoice) -> str | None:
    """Say in one sentence why a training cannot start, without reading scans; None if it can."""
    project = session.project
    if project is None:
        return "There is no project; create or open one in step 1."
    if session.training is not None:
        return "A training is already running; stop it first, or wait until it ends."
    if not project.names:
        return "There is no scan yet; add one in step 1."
    done = [scan for scan in project.record.scans if scan.done]
    if not done:
        return "No slice is done yet; label one in step 3, and mark it as done."
    if all(scan.role == "test" for scan in done):
        return "All done slices are of patients who are held out; label a slice of another patient."
    if not project.classes:
        return "There is no structure yet; add one in step 3."
    used = [s for s in project.record.scans if s.role == "train" and (s.done or choice.unlabelled)]
    if len({scan.modality for scan in used if scan.name not in session.scan_problems}) > 1:
        return MIXED
    free = shutil.disk_usage(project.folder).free
    if free < LEAST_FREE:
        return (
            f"Only {free / 2**20:.0f} MB are free on the disk of the project; free some space "
            "first."
        )
    return _start_refusal(project, choice, next(scan.modality for scan in used if scan.done))


def _start_refusal(project: "Project", choice: TrainingChoice, modality: str) -> str | None:
    """Say why a training cannot start from the pretraining run; None if it can."""
    if not choice.start:
        return None
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.stages.init_from import preprocessing_of

    try:
        before = preprocessing_of(Run.open(project.folder / "runs" / choice.start))
    except SslsegError as error:
        return str(error)
    plane = before.plane
    if before.modality != modality:
        return (
            f"{choice.start} was trained on {before.modality} scans, but the labelled ones are "
            f"{modality}; start from another pretraining, or from scratch."
        )
    if plane != project.plane:
        return (
            f"{choice.start} was trained on {plane} slices, but the labels are {project.plane}; "
            "start from another pretraining, or from scratch."
        )
    return None


def split_sentence(project: "Project", split: "LabelledSplit") -> str:
    """Say how many slices are used for training, and which patients for validation."""
    training = f"Trains on {_count(project, split.training)}"
    if not split.validation:
        return f"{training}; there is no validation."
    patients = _patients(project, split.validation)
    verb = "is" if len(patients) == 1 else "are"
    slices = plural(_slices(split.validation), "done slice")
    return (
        f"{training}; {plural(len(patients), 'other patient')} ({slices}) {verb} used for "
        f"validation: {join_names(patients, 6)}."
    )


def dice_reliability(slices: int, patients: int) -> str:
    """Say on how many slices and patients a Dice is based, and whether these are few."""
    found = f"n = {plural(slices, 'slice')} of {plural(patients, 'patient')}"
    return f"{found}: a rough guide" if patients < 3 or slices < 10 else found


def _count(project: "Project", labelled: "Sequence[LabelledScan]") -> str:
    patients = plural(len(_patients(project, labelled)), "patient")
    return f"{plural(_slices(labelled), 'done slice')} of {patients}"


def _slices(labelled: "Sequence[LabelledScan]") -> int:
    return sum(len(item.annotated or ()) for item in labelled)


def _patients(project: "Project", labelled: "Sequence[LabelledScan]") -> list[str]:
    return sorted({project.entry(item.name).subject for item in labelled})
