"""Fine-tuning of a pretrained network, or of a new one, on annotated slices."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Event, PauseFlag, StopFlag, as_function
from napari_sslseg.core.common.settings_base import (
    check_settings_class,
    setting_names,
    settings_argument,
)
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.samples.build import describe_store
from napari_sslseg.core.samples.label_notes import describe_labels
from napari_sslseg.core.samples.middle_slices import describe_middle
from napari_sslseg.core.samples.store import refuse_label_maps
from napari_sslseg.core.scans.classes.class_map import ClassMapLike
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, scan_subject
from napari_sslseg.core.scans.matching.patients import guess_together
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.segmentation.loss import SegmentationLoss
from napari_sslseg.core.segmentation.supervised import batch_loss, dice_validation, slice_prediction
from napari_sslseg.core.segmentation.unlabelled import SELF_TRAINING_COST, count_used
from napari_sslseg.core.settings.stages import FinetuneSettings
from napari_sslseg.core.stages.context import Init as Init, RunContext
from napari_sslseg.core.stages.finetune_steps import (
    check_settings,
    finetune_record,
    make_batches,
    make_learner,
    make_model,
    new_scans,
    report_self_training,
    resolve_classes,
    resolve_steps,
    resumed_scans,
    select_samples,
    whole_validation,
)
from napari_sslseg.core.stages.init_from import check_encoder_start, load_start, open_start
from napari_sslseg.core.stages.options import RunOptions
from napari_sslseg.core.stages.resume import describe_changed_labels, refuse_settings
from napari_sslseg.core.stages.split import hold_out
from napari_sslseg.core.training.layer_plans import make_layer_plan, resolve_strategy
from napari_sslseg.core.training.watch import Watch


def iter_finetune(
    labelled: Sequence[LabelledScan],
    *,
    init: Init = "scratch",
    out: str | Path,
    settings: FinetuneSettings | None = None,
    validation: Sequence[LabelledScan] = (),
    unlabelled: str | Path | Iterable[Scan | str] = (),
    class_map: ClassMapLike = None,
    sequence: str | None = None,
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

    Slices that are not annotated do not count as background: they are ignored, or used without
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
        Training settings, transfer, augmentation, classes; from scratch also preprocessing and
        network.
    validation : sequence of LabelledScan
        Scans of other subjects. The weights with the best Dice on them are the result; without
        them it is the last weights. Their slices are whole, as in a prediction, also if the
        training sees only the middle of its slices.
    unlabelled : path-like, Volume, or several, optional
        Scans used without labels, as set by ``self_training`` of the settings. Labelled scans
        may be among them. Slices of labelled scans that are not annotated are used as well.
    class_map : ClassMap, path-like or mapping, optional
        Which structure in the label files is which class, where their names do not say it; see
        :func:`~napari_sslseg.core.scans.classes.scan_classes.match_labels`.
    sequence : str, optional
        End of the names of the scans, if they were chosen by it, see
        :func:`~napari_sslseg.core.scans.matching.pair_scans.pair_scans`. It is recorded, so that
        predictions choose scans by it.
    device, modality, cache, stop, pause, watch, threads, overwrite, resume
        As in :func:`~napari_sslseg.core.stages.pretrain.iter_pretrain`. A resumed run
        finds its training scans and its validation scans among all labelled scans given.

    Yields
    ------
    Event
        Progress, Message, Step, Validation, Saved, and last Done with the Run (None if stopped
        before the first step).

    Raises
    ------
    SslsegError
        If something is wrong with the scans, the labels, the settings, the pretraining run or the
        disk.
    """
    for scans in (labelled, validation):
        if isinstance(scans, str | Path):
            raise ConfigError(
                f"{scans} is a path, but labelled scans are needed; find them with "
                "core.pair_scans(images, labels)."
            )
    labelled, validation = (
        [scans] if isinstance(scans, LabelledScan) else list(scans)
        for scans in (labelled, validation)
    )
    for item in (*labelled, *validation):
        if not isinstance(item, LabelledScan):
            raise ConfigError(
                f"A labelled scan is needed, not {printable(repr(item), 100)}; make it with "
                "core.LabelledScan(scan, labels), or all with core.pair_scans(images, labels)."
            )
    check_settings_class(settings, FinetuneSettings)
    if resume:
        refuse_settings(settings=settings, overwrite=overwrite or None, class_map=class_map)
    options = RunOptions(
        device, modality, cache, stop, pause, watch, threads, overwrite=overwrite, resume=resume
    )
    context = RunContext.of("finetune", out, init, options)
    yield from context.run(
        lambda context: _finetune(
            context, labelled, validation, unlabelled, settings, class_map, sequence
        ),
        lambda run: describe_changed_labels(run, [*labelled, *validation]),
    )


def _finetune(
    context: RunContext,
    labelled: Sequence[LabelledScan],
    validation: Sequence[LabelledScan],
    unlabelled: str | Path | Iterable[Scan | str],
    settings: FinetuneSettings | None,
    class_map: ClassMapLike,
    sequence: str | None,
) -> Iterator[Event]:
    """Fine-tune in a locked folder."""
    from napari_sslseg.core.training.job import TrainingJob

    # Read each header once.
    labelled, validation = ([item.opened() for item in group] for group in (labelled, validation))
    if context.resumed is not None:
        settings, scans = resumed_scans(context.resumed.run, labelled, validation, unlabelled)
        start = context.resumed.start
    else:
        settings = settings or FinetuneSettings()
        start = open_start(context.init, context.out, replaced=context.replaced)
        if start is None:
            check_encoder_start(settings.network)
        settings = yield from resolve_strategy(
            settings, start is not None or settings.network.pretrained
        )
        scans = yield from new_scans(context, labelled, validation, unlabelled, class_map)
        if scans.unlabelled and settings.self_training is None:
            raise ConfigError(
                "Unlabelled scans were given, but the settings do not say how to use them; set "
                "self_training and average_decay, or leave the scans out."
            )
    scans.check()
    machine = yield from context.machine(settings.training)
    settings = context.resolve(settings, start, scans.training[0].scan)
    yield from context.describe_modality(settings, start, scans.training[0].scan)
    check_settings(settings)
    classes = yield from resolve_classes(context, settings, scans)
    assert settings.preprocessing is not None
    store = yield from context.samples(scans.all, settings.preprocessing, classes)
    if store is None:
        yield context.stopped()
        return
    yield from describe_store(store)
    n_labelled = len(scans.training) + len(scans.validation)
    yield from describe_labels(
        [*scans.training, *scans.validation],
        store.scans[:n_labelled],
        classes,
        store.settings.plane,
        scans.class_names,
    )
    refuse_label_maps(store.scans[n_labelled:], labelled=store.scans[:n_labelled])
    context.check_unchanged(store)
    settings = settings.model_copy(update={"preprocessing": store.settings, "classes": classes})
    samples = select_samples(store, scans, settings)
    held_out = yield from whole_validation(context, store, scans, samples.validation)
    if held_out is None:
        yield context.stopped()
        return
    yield from describe_middle(store, settings.middle_share)
    settings, steps_per_epoch = resolve_steps(settings, len(samples.training))
    machine.fabric.seed_everything(settings.training.seed, verbose=False)
    model = make_model(store, settings)
    source = yield from load_start(
        start, model, settings.transfer, None if context.resumed else settings.network
    )
    plan = yield from make_layer_plan(settings, model, source)
    writer = context.writer(
        start, machine, finetune_record(store, scans, settings, samples, source, sequence)
    )
    learner, averaged = make_learner(store, settings, model)
    yield from report_self_training(settings, averaged, len(samples.unlabelled), store.noun)
    loss = SegmentationLoss(settings.loss)
    device = machine.fabric.device
    job = TrainingJob(
        model=averaged or learner,
        kept=averaged.average if averaged else model,
        settings=settings.training,
        batches=make_batches(store, samples, settings),
        groups=2 if len(samples.unlabelled) else 1,
        steps_per_epoch=steps_per_epoch,
        loss=batch_loss(
            store, loss, settings, device, averaged, halves=bool(len(samples.unlabelled))
        ),
        after_step=averaged.update if averaged else None,
        count_used=partial(count_used, averaged, settings.training.batch_size)
        if averaged and len(samples.unlabelled)
        else None,
        begin_epoch=loss.begin_epoch,
        validate=dice_validation(held_out, settings, device),
        monitor="dice",
        better="higher",
        describe=store.describe,
        show=slice_prediction(context.options.watch, store, settings, device),
        plan=plan,
        costs=((averaged.rounds[0], SELF_TRAINING_COST),) if averaged and averaged.rounds else (),
    )
    yield from context.train(job, writer, machine)


finetune = as_function(
    iter_finetune,
    Run,
    call="core.finetune(core.pair_scans(images, labels), out=folder)",
    returns="The run; None if it is stopped before the first step.",
    settings=partial(settings_argument, FinetuneSettings),
    setting_names=partial(setting_names, FinetuneSettings),
)


def split_validation(
    labelled: Sequence[LabelledScan], share: float, seed: int = 0
) -> tuple[list[LabelledScan], list[LabelledScan]]:
    """Hold out a fraction of the subjects to choose the best weights with.

    Parameters
    ----------
    labelled : sequence of LabelledScan
        Scans of several subjects. Where no header and no user names a subject, it is guessed from
        the names of all these scans together.
    share : float
        Fraction of the subjects, 0…0.5.
    seed : int
        Seed of the random choice.

    Returns
    -------
    list of LabelledScan, list of LabelledScan
        Training scans and validation scans.

    Raises
    ------
    ConfigError
        If the fraction is out of range, or there is only one subject.
    """
    if not 0 <= share <= 0.5:
        raise ConfigError(f"The validation share must lie within 0…0.5, not {share}.")
    if share == 0:
        return list(labelled), []
    labelled = guess_together(labelled)
    subjects = {scan_subject(item) for item in labelled}
    if len(subjects) < 2:
        raise ConfigError(
            f"All {len(labelled)} labelled scans are taken for one patient, {min(subjects)}, so "
            "none can be held out; if that is wrong, name the patients (--patients on the command "
            "line, core.with_patients in Python)."
        )
    return hold_out(labelled, share, seed)
