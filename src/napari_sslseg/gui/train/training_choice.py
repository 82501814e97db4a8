"""What a person chooses for a training, what becomes of it, and why it cannot begin.

Needs no Qt.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.frozen import make_settings
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.settings.self_training import self_trained
from napari_sslseg.core.settings.stages import FinetuneSettings, LossKind, Strategy, Transfer
from napari_sslseg.gui.model.words import many

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import LabelledSplit, Project
    from napari_sslseg.core.scans.labelled import LabelledScan
    from napari_sslseg.gui.model.session import Session

LENGTHS = {"quick": 100, "usual": 400, "long": 1600}
"""Steps."""

STRATEGIES: dict[Strategy, tuple[str, str]] = {
    "whole": ("All layers learn at once", "The usual way, and a good one with a few dozen slices."),
    "sawtooth": (
        "New layers first, then all",
        "What is new learns alone at first, so that it cannot spoil what was learnt before.",
    ),
    "freeze-unfreeze": (
        "Start from what it learnt, change it later",
        "What was learnt before stays as it is for the first third, then all layers learn.",
    ),
    "layer-decay": (
        "Change what it learnt slowly",
        "The first layers, which see edges and textures, change least.",
    ),
    "frozen-encoder": (
        "Keep what it learnt as it is",
        "Shows what the pretraining alone is worth; usually not the best result.",
    ),
}
TRANSFERS: dict[Transfer, tuple[str, str]] = {
    "encoder": (
        "What it sees (encoder)",
        "The part of the network that turns a slice into features; the usual choice.",
    ),
    "encoder+decoder": (
        "All of it (with the decoder)",
        "Encoder and decoder; can help where the pretraining restored whole pictures.",
    ),
}
LEAST_FREE = 100 * 2**20


@dataclass(frozen=True)
class TrainingChoice:
    """What a person chose.

    Attributes
    ----------
    start : str
        Name of the pretraining run; empty to start from scratch.
    length : str
        One of ``LENGTHS``.
    steps : int or None
        In place of the length.
    network : str
        ``tiny``, ``small`` or ``paper``; from scratch alone.
    unlabelled : bool
        Whether slices without labels are learnt from as well, where there are any.
    many_pieces : bool
        Whether small loose pieces count that the network finds in them.
    neighbours : int or None
        Slices on each side that are seen beside each; by their distance if None. From scratch
        alone.
    share : float
        Of the patients, to be kept out.
    """

    start: str = ""
    length: str = "usual"
    strategy: Strategy = "whole"
    transfer: Transfer = "encoder"
    steps: int | None = None
    batch_size: int = 16
    learning_rate: float = 1e-3
    loss: LossKind = "dice-ce"
    network: str = "small"
    unlabelled: bool = True
    many_pieces: bool = False
    neighbours: int | None = None
    share: float = 0.2
    device: str = "auto"
    seed: int = 0


def finetune_settings(project: "Project", choice: TrainingChoice) -> FinetuneSettings:
    """Settings of the choice for the scans of a project.

    Raises
    ------
    ConfigError
        If something in it is impossible.
    """
    from napari_sslseg.core.samples.build import default_preprocessing
    from napari_sslseg.core.settings.networks import Network

    usual = FinetuneSettings().training.model_dump()
    values: dict[str, Any] = {
        "training": usual
        | {
            "steps": choice.steps or LENGTHS[choice.length],
            "batch_size": choice.batch_size,
            "learning_rate": choice.learning_rate,
            "seed": choice.seed,
        },
        "loss": choice.loss,
    }
    if choice.unlabelled and open_slices(project):
        values |= self_trained(choice.many_pieces)
    if choice.start:
        return make_settings(
            FinetuneSettings, **values, strategy=choice.strategy, transfer=choice.transfer
        )
    scans = project.record.scans
    labelled = [scan for scan in scans if scan.done] or list(scans)
    usual_input = default_preprocessing(
        labelled[0].modality, spacing=labelled[0].spacing, plane=project.plane
    )
    if choice.neighbours is not None:
        usual_input = usual_input.model_copy(update={"neighbours": choice.neighbours})
    return make_settings(
        FinetuneSettings,
        **values,
        network=Network.preset(choice.network),
        preprocessing=usual_input,
    )


def open_slices(project: "Project") -> int:
    """How many slices of scans to learn from are not done."""
    axis = PLANE_AXIS[project.plane]
    scans = [scan for scan in project.record.scans if scan.role == "train"]
    return sum(scan.shape[axis] - scan.done_count for scan in scans)


def refusal(session: "Session", choice: TrainingChoice) -> str | None:
    """Why a training cannot begin, in one sentence, as far as can be told without reading scans."""
    project = session.project
    if project is None:
        return "There is no project; create or open one in step 1."
    if session.training is not None:
        return "A training runs already; stop it first, or wait for its end."
    if not project.names:
        return "There is no scan yet; add some in step 1."
    done = [scan for scan in project.record.scans if scan.done]
    if not done:
        return "No slice is done yet; label one in step 3, and mark it as done."
    if all(scan.role == "test" for scan in done):
        return "All done slices are of patients who are held out; label a slice of another patient."
    if not project.classes:
        return "There is no structure to learn yet; label one in step 3."
    free = shutil.disk_usage(project.folder).free
    if free < LEAST_FREE:
        return f"Only {free / 2**20:.0f} MB are free where the project lies; free some space first."
    return _start_refusal(project, choice)


def _start_refusal(project: "Project", choice: TrainingChoice) -> str | None:
    if not choice.start:
        return None
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.stages.init_from import preprocessing_of

    try:
        plane = preprocessing_of(Run.open(project.folder / "runs" / choice.start)).plane
    except SslsegError as error:
        return str(error)
    if plane != project.plane:
        return (
            f"{choice.start} learnt from {plane} slices, but {project.plane} ones are labelled; "
            "start from another pretraining, or from scratch."
        )
    return None


def split_words(project: "Project", split: "LabelledSplit") -> str:
    """What is learnt from and what is kept out, in a sentence or two."""
    learnt, kept = _counted(project, split.training), _counted(project, split.validation)
    if split.validation:
        patients = {project.entry(item.name).subject for item in split.validation}
        verb = "is" if len(patients) == 1 else "are"
        return (
            f"Learns from {learnt}; {many(len(patients), 'other patient')} "
            f"({kept.split(' of ')[0]}) {verb} kept out to score it."
        )
    return f"Learns from {learnt}; none is kept out."


def score_doubt(slices: int, patients: int) -> str:
    """What a Dice on so few is worth."""
    found = f"n = {many(slices, 'slice')} of {many(patients, 'patient')}"
    return f"{found}: a rough guide" if patients < 3 or slices < 10 else found


def _counted(project: "Project", labelled: "Sequence[LabelledScan]") -> str:
    slices = sum(len(item.annotated or ()) for item in labelled)
    patients = {project.entry(item.name).subject for item in labelled}
    return f"{many(slices, 'done slice')} of {many(len(patients), 'patient')}"
