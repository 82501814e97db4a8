"""Fine-tuning: a pretrained (or fresh) U-Net learns from annotated slices."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from math import ceil
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.compute.distributed import all_reduce_any, run_on_first
from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.common.events import (
    Done,
    Event,
    Message,
    Milestone,
    PauseFlag,
    StopFlag,
    as_function,
)
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.runs.provenance import data_record
from napari_sslseg.core.runs.run import claim
from napari_sslseg.core.samples.build import describe_store, iter_samples, sample_dimensions
from napari_sslseg.core.samples.middle import annotated_middle, check_middle, describe_middle
from napari_sslseg.core.samples.store import refuse_label_maps
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, find_classes, scan_subject
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.segmentation.loss import SegmentationLoss, score_channels
from napari_sslseg.core.segmentation.self_training import round_starts
from napari_sslseg.core.segmentation.supervised import batch_loss, dice_validation, slice_prediction
from napari_sslseg.core.segmentation.unlabelled import (
    UNLABELLED,
    counted,
    open_slices,
    unlabelled_scans,
    with_unlabelled,
    without_copies,
)
from napari_sslseg.core.settings.stages import FinetuneSettings
from napari_sslseg.core.stages.context import Init as Init, Session
from napari_sslseg.core.stages.init_from import load_start, open_start, settled
from napari_sslseg.core.stages.resume import check_same, refuse_settings, same_labelled
from napari_sslseg.core.stages.split import hold_out
from napari_sslseg.core.training.layer_plans import planned, settled_strategy
from napari_sslseg.core.training.watch import Watch

if TYPE_CHECKING:
    from napari_sslseg.core.training.sampler import Sampler


def iter_finetune(
    labelled: Sequence[LabelledScan],
    *,
    init: Init = "scratch",
    out: str | Path,
    settings: FinetuneSettings | None = None,
    validation: Sequence[LabelledScan] = (),
    unlabelled: str | Path | Iterable[Scan | str] = (),
    device: str = "auto",
    modality: Modality | None = None,
    cache: str | Path | None = None,
    stop: StopFlag | None = None,
    pause: PauseFlag | None = None,
    watch: Watch | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Iterator[Event]:
    """Fine-tune a U-Net on annotated slices.

    Slices that nobody annotated are not background: they are left out, or learnt from without
    labels, see :mod:`napari_sslseg.core.segmentation.self_training`. The loss is one of
    :class:`~napari_sslseg.core.segmentation.loss.SegmentationLoss`.

    Parameters
    ----------
    labelled : sequence of LabelledScan
        Scans, labels, and which slices are annotated.
    init : Run, path-like or "scratch"
        Pretraining run to start from. Its preprocessing and network are used.
    out : path-like
        Run folder.
    settings : FinetuneSettings, optional
        Schedule, transfer, augmentation, classes; from scratch, also preprocessing and network.
    validation : sequence of LabelledScan
        Scans of other subjects. Their Dice decides which weights are best; without them the
        latest are.
    unlabelled : path-like, Volume, or several, optional
        Scans to learn from without labels, as ``self_training`` of the settings says; labelled ones
        may be among them. Slices of labelled scans that nobody annotated are learnt from as well.
    device, modality, cache, stop, pause, watch, threads, overwrite, resume
        As in :func:`~napari_sslseg.core.stages.pretrain.iter_pretrain`. A run that goes on finds,
        among all labelled scans given, those that it trained on and those that it validated with.

    Yields
    ------
    Event
        Progress, Message, Step, Validation, Saved, and last Done with the Run (None if stopped
        before the first step).

    Raises
    ------
    SslsegError
        Whatever is wrong with scans, labels, settings, the pretrained run or the disk.
    """
    if resume:
        refuse_settings(settings=settings, overwrite=overwrite or None)
    session = Session.of(
        "finetune",
        out,
        init,
        cache,
        device=device,
        modality=modality,
        stop=stop,
        pause=pause,
        watch=watch,
        threads=threads,
        overwrite=overwrite,
        resume=resume,
    )
    yield from session.run(
        lambda session: _finetune(session, labelled, validation, unlabelled, settings)
    )


def _finetune(
    session: Session,
    labelled: Sequence[LabelledScan],
    validation: Sequence[LabelledScan],
    unlabelled: str | Path | Iterable[Scan | str],
    settings: FinetuneSettings | None,
) -> Iterator[Event]:
    """Do as :func:`iter_finetune` does, while its folder is locked."""
    from napari_sslseg.core.networks.build import make_network
    from napari_sslseg.core.networks.reconstruction import check_reconstruction, with_branch
    from napari_sslseg.core.settings.networks import check_dimensions
    from napari_sslseg.core.training.job import Job
    from napari_sslseg.core.training.schedules import with_steps
    from napari_sslseg.core.training.train import run_job
    from napari_sslseg.core.training.weight_average import Averaged

    earlier = yield from session.earlier()
    modality = session.modality
    if earlier is not None:
        if earlier.finished:
            yield Done(earlier.run)
            return
        settings, start = earlier.run.settings(FinetuneSettings), earlier.start
        volumes = settings.network.dimensions == 3
        given = [*labelled, *validation, *unlabelled_scans(unlabelled, labelled, validation)]
        labelled, validation, others = same_labelled(earlier.run, given, volumes=volumes)
    else:
        settings = settings or FinetuneSettings()
        start = open_start(session.init, session.out, replaced=session.replaced)
        settings = yield from settled_strategy(settings, start is not None)
        # In whatever order they are given, the same scans make the same run.
        labelled, validation = (sorted(g, key=attrgetter("name")) for g in (labelled, validation))
        others = unlabelled_scans(unlabelled, labelled, validation)
        others, again = without_copies(others, [*labelled, *validation])
        if again:
            yield Message(
                "Scans without labels that are copies of labelled ones are left out: "
                f"{join_names(again)}."
            )
        if others and settings.self_training is None:
            raise ConfigError(
                "Unlabelled scans were given, but the settings do not say how to learn from them; "
                "set self_training and average_decay, or leave the scans out."
            )
    if not labelled:
        raise DataError("There is no labelled scan to learn from; label at least one slice.")
    _check_apart(labelled, validation)
    fabric, threads = yield from session.fabric(settings.training, earlier)
    if earlier is not None:
        modality = getattr(settings.preprocessing, "modality", modality)
    else:
        run_on_first(lambda: claim(session.out, overwrite=session.overwrite))
        settings = settled(settings, start, labelled[0].scan, modality)
    assert settings.preprocessing is not None
    check_dimensions(settings.network, sample_dimensions(settings.preprocessing))
    check_middle(settings.middle_share, sample_dimensions(settings.preprocessing))
    check_reconstruction(settings.network, settings.reconstruction_weight)
    classes = settings.classes or find_classes(
        [*labelled, *validation], settings.preprocessing.plane
    )
    store = yield from iter_samples(
        [*labelled, *validation, *others],
        settings.preprocessing,
        classes=classes,
        cache=session.cache,
        on_disk=session.on_disk,
        modality=modality,
        stop=session.stop,
    )
    if all_reduce_any(store is None)[0] or store is None:
        yield Done(earlier.run if earlier is not None else None, stopped=True)
        return
    yield from describe_store(store)
    first_other = len(labelled) + len(validation)
    refuse_label_maps(store.scans[first_other:], beside=store.scans[:first_other])
    if earlier is not None:
        check_same(earlier.run, store)
    settings = settings.model_copy(update={"preprocessing": store.settings, "classes": classes})
    annotated = annotated_middle(store, settings.middle_share)
    yield from describe_middle(store, settings.middle_share)
    training = annotated[store.scan_index[annotated] < len(labelled)]
    held_out = annotated[store.scan_index[annotated] >= len(labelled)]
    apart = range(len(labelled), len(labelled) + len(validation))
    unknown = np.empty(0, np.int64)
    if settings.self_training is not None:
        unknown = open_slices(store, apart, settings.middle_share)
    if not store.foreground[training].any():
        raise DataError(
            "No annotated slice holds any of the classes "
            f"{', '.join(map(str, classes))}; label one, or correct the classes."
        )
    steps_per_epoch = ceil(len(training) / settings.training.batch_size)
    length = with_steps(settings.training, steps_per_epoch)
    settings = settings.model_copy(update={"training": length})
    fabric.seed_everything(settings.training.seed, verbose=False)
    channels = score_channels(settings.loss, len(classes))
    model = make_network(settings.network, store.channels, channels)
    source = yield from load_start(start, model, settings.transfer)
    plan = yield from planned(settings, model, source)
    record = {
        "settings": settings.model_dump(mode="json"),
        "classes": list(classes),
        **source,
        "scans": [scan.name for scan in store.scans],
        "slices": {
            "training": len(training),
            "validation": len(held_out),
            **({UNLABELLED: len(unknown)} if len(unknown) else {}),
        },
        "data": data_record(store, training, held_out, apart, range(apart.stop, len(store.scans))),
        "seed": settings.training.seed,
    }
    writer = session.writer(earlier, start, fabric, threads, record)
    compare = SegmentationLoss(settings.loss)
    learner = with_branch(model, settings.network, store.channels, settings.reconstruction_weight)
    averaged = None
    if settings.average_decay:
        asked = settings.self_training
        starts = round_starts(asked, length.steps) if asked is not None else ()
        averaged = Averaged(learner, model, settings.average_decay, starts)
        if starts:
            yield Milestone(
                f"From step {starts[0] + 1:,} on, {len(unknown):,} {store.noun}s without labels "
                "are learnt from as well; their loss is added to the loss.",
                step=starts[0],
                name=f"with unlabelled {store.noun}s",
            )
        elif asked is not None:
            yield Message(f"The training is too short to learn from {store.noun}s without labels.")
    size = settings.training.batch_size
    batches = foreground_batches(training, store.foreground, size, settings.foreground_share)
    job = Job(
        model=averaged or learner,
        kept=averaged.average if averaged else model,
        settings=settings.training,
        batches=with_unlabelled(batches, unknown, size) if len(unknown) else batches,
        groups=2 if len(unknown) else 1,
        steps_per_epoch=steps_per_epoch,
        loss=batch_loss(store, compare, settings, fabric.device, averaged),
        after_step=averaged.follow if averaged else None,
        counted=partial(counted, averaged, size) if averaged and len(unknown) else None,
        begin_epoch=compare.begin_epoch,
        validate=dice_validation(store, held_out, settings, fabric.device),
        monitor="dice",
        better="higher",
        describe=store.describe,
        show=slice_prediction(session.watch, store, settings, fabric.device),
        plan=plan,
    )
    state = earlier.state if earlier else None
    yield from run_job(job, writer, fabric, session.stop, session.pause, state, session.watch)


finetune = as_function(iter_finetune)


def split_validation(
    labelled: Sequence[LabelledScan], share: float, seed: int = 0
) -> tuple[list[LabelledScan], list[LabelledScan]]:
    """Keep a share of the subjects out of the training, to choose the best weights by.

    Raises
    ------
    ConfigError
        If the share is not within 0…0.5, or no subject would be left to train on.
    """
    if not 0 <= share <= 0.5:
        raise ConfigError(f"The validation share must lie within 0…0.5, not {share}.")
    if share == 0:
        return list(labelled), []
    subjects = {scan_subject(item) for item in labelled}
    if len(subjects) < 2:
        raise ConfigError("All labelled scans are of one subject, so none can be kept out.")
    return hold_out(labelled, share, seed)


def foreground_batches(
    indices: np.ndarray, foreground: np.ndarray, batch_size: int, share: float
) -> "Sampler":
    """Endless batches with about ``share`` of their slices certain to hold foreground.

    Parameters
    ----------
    indices : ndarray, shape (n,)
        Slices to draw from; each is seen once before any is seen again, in both parts of a batch.
    foreground : ndarray of bool
        By slice of the store.
    """
    from napari_sslseg.core.training.sampler import shuffled_batches

    certain = round(share * batch_size)

    def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
        parts = [
            shuffled_batches(pool, n)(rng)
            for pool, n in (
                (indices[foreground[indices]], certain),
                (indices, batch_size - certain),
            )
            if n
        ]
        while True:
            yield np.concatenate([next(part) for part in parts])

    return draw


def _check_apart(labelled: Sequence[LabelledScan], validation: Sequence[LabelledScan]) -> None:
    shared = {scan_subject(s) for s in labelled} & {scan_subject(s) for s in validation}
    if shared:
        raise DataError(
            f"The subject {sorted(shared)[0]} is in both the training and the validation scans, "
            "which would make the Dice too good; keep each subject in one of them."
        )
