"""Steps of a fine-tuning: its scans, its samples, its network and its batches."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.events import Event, Message, Milestone
from napari_sslseg.core.common.text import count_phrase, join_names, printable
from napari_sslseg.core.runs.provenance import data_record
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.samples.build import Store, sample_dimensions
from napari_sslseg.core.samples.middle_slices import annotated_middle, check_middle
from napari_sslseg.core.samples.placement import prediction_placement
from napari_sslseg.core.scans.classes.class_map import ClassMapLike
from napari_sslseg.core.scans.classes.matching import describe_names
from napari_sslseg.core.scans.classes.scan_classes import (
    find_classes,
    match_labels,
    unannotated_classes,
)
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, scan_geometry, scan_subject
from napari_sslseg.core.scans.matching.patients import guess_together
from napari_sslseg.core.segmentation.loss import score_channels
from napari_sslseg.core.segmentation.self_training import round_starts
from napari_sslseg.core.segmentation.supervised import ValidationPart
from napari_sslseg.core.segmentation.unlabelled import (
    UNLABELLED,
    remove_copies,
    unlabelled_samples,
    unlabelled_scans,
    with_unlabelled,
)
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing
from napari_sslseg.core.settings.stages import FinetuneSettings
from napari_sslseg.core.stages.context import RunContext
from napari_sslseg.core.stages.resume import same_labelled

if TYPE_CHECKING:
    from torch import nn

    from napari_sslseg.core.training.sampler import Sampler
    from napari_sslseg.core.training.weight_average import AveragedNetwork


@dataclass(frozen=True, eq=False)
class FinetuneScans:
    """Scans of a fine-tuning, by their use."""

    training: list[LabelledScan]
    validation: list[LabelledScan]
    unlabelled: Sequence[Any]
    class_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def all(self) -> list[Any]:
        """All scans, in the order of the store."""
        return [*self.training, *self.validation, *self.unlabelled]

    @property
    def validation_numbers(self) -> range:
        """Numbers of the validation scans in the store."""
        return range(len(self.training), len(self.training) + len(self.validation))

    def check(self) -> None:
        """Refuse a training without labels, and one with subjects on both sides.

        Raises
        ------
        DataError
            In one sentence.
        """
        if not self.training:
            raise DataError("There is no labelled scan to train on; label at least one slice.")
        _check_disjoint(self.training, self.validation)


@dataclass(frozen=True, eq=False)
class FinetuneSamples:
    """Indices of the samples of a store, by their use."""

    training: np.ndarray
    validation: np.ndarray
    unlabelled: np.ndarray


def resumed_scans(
    run: Run,
    labelled: Sequence[LabelledScan],
    validation: Sequence[LabelledScan],
    unlabelled: str | Path | Iterable[Scan | str],
) -> tuple[FinetuneSettings, FinetuneScans]:
    """Settings and scans of the run to resume."""
    settings = run.settings(FinetuneSettings)
    given = [*labelled, *validation, *unlabelled_scans(unlabelled, labelled, validation)]
    volumes = settings.network.dimensions == 3
    return settings, FinetuneScans(*same_labelled(run, given, volumes=volumes))


def new_scans(
    context: RunContext,
    labelled: Sequence[LabelledScan],
    validation: Sequence[LabelledScan],
    unlabelled: str | Path | Iterable[Scan | str],
    class_map: ClassMapLike,
) -> Generator[Message, None, FinetuneScans]:
    """Scans of a new run, in an order that does not depend on the order given."""
    given = [*labelled, *validation]
    matched, match = match_labels(given, class_map)
    # Names of one patient may be recognised only together.
    matched = guess_together(matched)
    labelled, validation = (
        sorted(group, key=attrgetter("name"))
        for group in (matched[: len(labelled)], matched[len(labelled) :])
    )
    if match.names:
        yield Message(f"Classes by name: {describe_names(match.names)}.")
    if any(item.class_names is None for item in given):
        # Otherwise the notes came when the scans were paired.
        yield from map(Message, match.notes)
    others = unlabelled_scans(unlabelled, labelled, validation)
    others, copies = remove_copies(others, [*labelled, *validation], context.reader)
    if copies:
        yield Message(
            f"Unlabelled scans that are copies of labelled ones are left out: {join_names(copies)}."
        )
    return FinetuneScans(labelled, validation, others, match.names)


def check_settings(settings: FinetuneSettings) -> None:
    """Refuse settings that contradict each other."""
    from napari_sslseg.core.networks.reconstruction import check_reconstruction
    from napari_sslseg.core.settings.networks import check_dimensions

    assert settings.preprocessing is not None
    dimensions = sample_dimensions(settings.preprocessing)
    check_dimensions(settings.network, dimensions)
    check_middle(settings.middle_share, dimensions)
    check_reconstruction(settings.network, settings.reconstruction_weight)


def resolve_classes(
    context: RunContext, settings: FinetuneSettings, scans: FinetuneScans
) -> Generator[Message, None, tuple[int, ...]]:
    """Label values of the classes, as set or as found in the labels; report those left out."""
    assert settings.preprocessing is not None
    plane, read = settings.preprocessing.plane, context.reader.labels
    labelled = [*scans.training, *scans.validation]
    classes = settings.classes or find_classes(labelled, plane, read)
    if any(not isinstance(item.annotated, str | None) for item in labelled):
        left = unannotated_classes(labelled, plane, read)
        for value, where in left.items():
            if settings.classes and value not in settings.classes:
                continue
            name = scans.class_names.get(value)
            named = f"{printable(name, 60)} ({value})" if name else f"the value {value}"
            yield Message(
                f"Not learnt: {named}, since no annotated slice shows it. It is on other slices of "
                f"{count_phrase(len(where), 'scan')} ({join_names(where)}); annotate one of them, "
                "and add it to the list of annotated slices."
            )
    return classes


def select_samples(
    store: Store, scans: FinetuneScans, settings: FinetuneSettings
) -> FinetuneSamples:
    """Samples to train on, to validate on, and to use without labels.

    Raises
    ------
    DataError
        If no training sample shows a class, or unlabelled samples are needed and there are none.
    """
    annotated = annotated_middle(store, settings.middle_share)
    for_training = store.scan_index[annotated] < len(scans.training)
    training, validation = annotated[for_training], annotated[~for_training]
    unlabelled = np.empty(0, np.int64)
    if settings.self_training is not None:
        unlabelled = unlabelled_samples(store, scans.validation_numbers, settings.middle_share)
    if not store.foreground[training].any():
        raise DataError(
            "No annotated slice shows any of the classes "
            f"{', '.join(map(str, store.classes))}; label one, or correct the classes."
        )
    return FinetuneSamples(training, validation, unlabelled)


def whole_validation(
    context: RunContext, store: Store, scans: FinetuneScans, chosen: np.ndarray
) -> Generator[Event, None, list[ValidationPart] | None]:
    """Validation samples as a prediction sees them, also where the training crops its slices.

    Parameters
    ----------
    context : RunContext
        Reads the scans.
    store : Store
        All samples of the training. Those of scans that fit on its canvas are taken from it.
    scans : FinetuneScans
        Scans of the store.
    chosen : ndarray
        Validation samples in ``store``.

    Yields
    ------
    Event
        Number of scans read.

    Returns
    -------
    list of ValidationPart, or None
        One for each size of the slices; None if the training is stopped.
    """
    settings = store.settings
    if isinstance(settings, VolumePreprocessing):
        return [ValidationPart(store, chosen)]  # Crops cover their scans.
    scan_of = store.scan_index[chosen]
    places = {
        number: prediction_placement(scan_geometry(scans.all[number]), settings)
        for number in np.unique(scan_of).tolist()
    }
    parts: list[ValidationPart] = []
    for canvas in sorted({place.canvas for place in places.values()}):
        numbers = [number for number, place in places.items() if place.canvas == canvas]
        starts = {number: store.scans[number].start for number in numbers}
        samples = store
        if canvas != store.size:
            larger = settings.model_copy(update={"size": canvas})
            own = [scans.all[number] for number in numbers]
            whole = yield from context.samples(own, larger, store.classes)
            if whole is None:
                return None
            samples = whole
            starts = dict(zip(numbers, (scan.start for scan in samples.scans), strict=True))
        for place in dict.fromkeys(places[number] for number in numbers):
            moved = [
                chosen[scan_of == number] - store.scans[number].start + starts[number]
                for number in numbers
                if places[number] == place
            ]
            parts.append(ValidationPart(samples, np.concatenate(moved), place.inside))
    return parts


def resolve_steps(settings: FinetuneSettings, n_training: int) -> tuple[FinetuneSettings, int]:
    """Settings with the number of steps resolved, and the steps per epoch."""
    from napari_sslseg.core.training.schedules import with_steps

    steps_per_epoch = ceil(n_training / settings.training.batch_size)
    length = with_steps(settings.training, steps_per_epoch)
    return settings.model_copy(update={"training": length}), steps_per_epoch


def make_model(store: Store, settings: FinetuneSettings) -> Any:
    """Segmentation network for the classes of a store."""
    from napari_sslseg.core.networks.build import make_network

    channels = score_channels(settings.loss, len(store.classes))
    return make_network(settings.network, store.channels, channels)


def finetune_record(
    store: Store,
    scans: FinetuneScans,
    settings: FinetuneSettings,
    samples: FinetuneSamples,
    source: dict[str, Any],
    sequence: str | None,
) -> dict[str, Any]:
    """Record of the run: settings, start, scans and samples."""
    held_out = scans.validation_numbers
    others = range(held_out.stop, len(store.scans))
    counts = {"training": len(samples.training), "validation": len(samples.validation)}
    if len(samples.unlabelled):
        counts[UNLABELLED] = len(samples.unlabelled)
    return {
        "settings": settings.model_dump(mode="json"),
        "classes": list(store.classes),
        "class_names": {
            str(value): name for value, name in scans.class_names.items() if value in store.classes
        },
        **source,
        "scans": [scan.name for scan in store.scans],
        **({"sequence": sequence} if sequence else {}),
        "slices": counts,
        "data": data_record(
            store,
            samples.training,
            samples.validation,
            held_out,
            others,
            [*scans.training, *scans.validation],
        ),
        "seed": settings.training.seed,
    }


def make_learner(
    store: Store, settings: FinetuneSettings, model: Any
) -> "tuple[nn.Module, AveragedNetwork | None]":
    """Network to train, with a reconstruction branch if set, and its moving average if set."""
    from napari_sslseg.core.networks.reconstruction import with_branch
    from napari_sslseg.core.training.weight_average import AveragedNetwork

    learner = with_branch(model, settings.network, store.channels, settings.reconstruction_weight)
    if not settings.average_decay:
        return learner, None
    rounds: tuple[int, ...] = ()
    if settings.self_training is not None:
        rounds = round_starts(settings.self_training, settings.training.steps)
    return learner, AveragedNetwork(learner, model, settings.average_decay, rounds)


def report_self_training(
    settings: FinetuneSettings, averaged: "AveragedNetwork | None", count: int, noun: str
) -> Iterator[Event]:
    """Report when the training begins to use unlabelled samples, if it does."""
    if averaged is None or settings.self_training is None:
        return
    if not averaged.rounds:
        yield Message(f"The training is too short to use unlabelled {noun}s.")
        return
    step = averaged.rounds[0] + 1
    yield Milestone(
        f"From step {step:,} on, {count:,} unlabelled {noun}s are used as well; their loss is "
        "added to the loss.",
        step=averaged.rounds[0],
        name=f"with unlabelled {noun}s",
    )


def make_batches(store: Store, samples: FinetuneSamples, settings: FinetuneSettings) -> "Sampler":
    """Training batches, with unlabelled samples in the second half if there are any."""
    size = settings.training.batch_size
    batches = foreground_batches(
        samples.training, store.foreground, size, settings.foreground_share
    )
    if not len(samples.unlabelled):
        return batches
    return with_unlabelled(batches, samples.unlabelled, size)


def foreground_batches(
    indices: np.ndarray, foreground: np.ndarray, batch_size: int, share: float
) -> "Sampler":
    """Endless batches in which about ``share`` of the slices are drawn from those with foreground.

    Parameters
    ----------
    indices : ndarray, shape (n,)
        Slices to draw from. In both parts of a batch, each slice is drawn once before any is
        drawn again.
    foreground : ndarray of bool, shape (N,)
        Whether each slice of the store shows a class.
    batch_size : int
        Slices per batch.
    share : float
        Fraction of a batch, 0…1.
    """
    from napari_sslseg.core.training.sampler import shuffled_batches

    n_foreground = round(share * batch_size)

    def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
        parts = [
            shuffled_batches(pool, n)(rng)
            for pool, n in (
                (indices[foreground[indices]], n_foreground),
                (indices, batch_size - n_foreground),
            )
            if n
        ]
        while True:
            yield np.concatenate([next(part) for part in parts])

    return draw


def _check_disjoint(labelled: Sequence[LabelledScan], validation: Sequence[LabelledScan]) -> None:
    """Refuse subjects that are in both the training and the validation scans."""
    shared = {scan_subject(s) for s in labelled} & {scan_subject(s) for s in validation}
    if shared:
        raise DataError(
            f"The subject {sorted(shared)[0]} is in both the training and the validation scans, "
            "which would make the Dice too high; keep each subject in one of them, or name the "
            "patients with core.with_patients if they are different ones."
        )
