"""Self-supervised pretraining of a network on unlabelled scans."""

from collections.abc import Generator, Iterable, Iterator
from math import ceil
from operator import attrgetter
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.errors import check_type
from napari_sslseg.core.common.events import (
    Event,
    Message,
    PauseFlag,
    Progress,
    StopFlag,
    as_function,
)
from napari_sslseg.core.common.settings_base import (
    Settings,
    check_settings_class,
    setting_names,
    settings_argument,
    short_argument,
)
from napari_sslseg.core.pretext.pictures.live import PretextShow
from napari_sslseg.core.runs.provenance import data_record
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.samples.build import Store, describe_store, sample_dimensions
from napari_sslseg.core.samples.middle_slices import check_middle, describe_middle
from napari_sslseg.core.samples.store import refuse_label_maps
from napari_sslseg.core.scans.labelled import Scan
from napari_sslseg.core.scans.sources import CollectedScan, collect_scans, without_labels
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.settings.pretext.registry import TaskSettings, task_options
from napari_sslseg.core.settings.stages import PretrainSettings
from napari_sslseg.core.stages.context import RunContext
from napari_sslseg.core.stages.init_from import check_encoder_start, load_start, open_start
from napari_sslseg.core.stages.options import RunOptions
from napari_sslseg.core.stages.pretrain_steps import (
    PretextObjective,
    make_pretext_model,
    report_collapse,
    report_missing_validation,
    split_samples,
)
from napari_sslseg.core.stages.resume import refuse_settings, same_scans
from napari_sslseg.core.training.watch import Watch

if TYPE_CHECKING:
    from napari_sslseg.core.pretext.base import PretextTask


def iter_pretrain(
    scans: str | Path | Iterable[Scan | str],
    task: TaskSettings | str | None = None,
    *,
    init: Run | str | Path | None = None,
    out: str | Path,
    settings: PretrainSettings | None = None,
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
    """Pretrain a network on unlabelled scans.

    Parameters
    ----------
    scans : path-like, Volume, or several
        Files, folders or loaded scans, all MR or all CT. The left/right task needs the mask of a
        LabelledScan; other tasks ignore it.
    task : TaskSettings or str, optional
        The pretext task, or its name for default settings. The default is context restoration with
        a patch size that suits the slices.
    init : Run or path-like, optional
        Earlier pretraining run to start from: its encoder and decoder weights are copied where
        both networks have them. Its preprocessing and network are used.
    out : path-like
        Run folder.
    settings : PretrainSettings, optional
        Training settings; without ``init`` also preprocessing and network.
    device : str
        See :func:`~napari_sslseg.core.common.compute.devices.make_fabric`.
    modality : {"MR", "CT"}, optional
        Modality of all scans; guessed from each scan if not given.
    cache : path-like, optional
        Folder for preprocessed slices, which later runs on the same scans use again. If not
        given, the slices are kept in memory, or in the run folder if they take 2 GiB or more.
    stop : StopFlag, optional
        Stops early and saves the result so far; the run can be resumed.
    pause : PauseFlag, optional
        Pauses between two steps.
    watch : Watch, optional
        Slice to show from time to time, as Preview events.
    threads : int, optional
        CPU threads, see :func:`~napari_sslseg.core.common.compute.devices.limit_threads`.
    overwrite : bool
        Whether to replace an older run in ``out``.
    resume : bool
        Resume the run in ``out`` with its own task, settings and start, on the same scans. On the
        CPU the final weights equal those of a run without interruption, bit for bit.

    Yields
    ------
    Event
        Progress, Message, Step, Validation, Saved, and last Done with the Run (None if stopped
        before the first step).

    Raises
    ------
    SslsegError
        If something is wrong with the scans, the settings or the disk.
    """
    check_settings_class(settings, PretrainSettings)
    check_type(task, (str, Settings, NoneType), "task", "a task, such as core.SparseMasking()")
    if resume:
        refuse_settings(task=task, settings=settings, overwrite=overwrite or None)
    options = RunOptions(
        device, modality, cache, stop, pause, watch, threads, overwrite=overwrite, resume=resume
    )
    yield from pretrain_in(RunContext.of("pretrain", out, init, options), scans, task, settings)


def pretrain_in(
    context: RunContext,
    scans: str | Path | Iterable[Scan | str],
    task: TaskSettings | str | None = None,
    settings: PretrainSettings | None = None,
) -> Iterator[Event]:
    """Pretrain as :func:`iter_pretrain` does, in a given context, such as a stage of several."""
    yield from context.run(lambda context: _pretrain(context, scans, task, settings))


def _pretrain(
    context: RunContext,
    scans: str | Path | Iterable[Scan | str],
    task: TaskSettings | str | None,
    settings: PretrainSettings | None,
) -> Iterator[Event]:
    """Pretrain in a locked folder."""
    from napari_sslseg.core.settings.pretext.registry import DEFAULT_TASK, describe, make_task
    from napari_sslseg.core.training.job import TrainingJob
    from napari_sslseg.core.training.schedules import with_steps

    name = task if isinstance(task, str) else None
    given = make_task(task) if isinstance(task, str) else task
    settings, task, start = yield from _settings_and_start(context, given, settings)
    machine = yield from context.machine(settings.training)
    sources = _sources(context, scans)
    settings = context.resolve(settings, start, without_labels(sources[0]))
    yield from context.describe_modality(settings, start, without_labels(sources[0]))
    _check_dimensions(settings, task)
    store = yield from _samples(context, sources, settings, task)
    if store is None:
        yield context.stopped()
        return
    yield from describe_store(store)
    refuse_label_maps(store.scans)
    context.check_unchanged(store)
    settings = settings.model_copy(update={"preprocessing": store.settings})
    if task is None or name is not None:
        # Some defaults depend on the size of the slices.
        stride = getattr(settings.network, "stride", None)
        task = make_task(name or DEFAULT_TASK, store.size, stride=stride)
        yield Message(f"Pretext task: {describe(task)}.")
    pretext: PretextTask = task.build(store.size, settings.training.seed)
    pretext.set_store(store)
    training, validation, batches = split_samples(store, settings, pretext, task)
    steps_per_epoch = ceil(len(training) / settings.training.batch_size)
    length = with_steps(settings.training, steps_per_epoch)
    settings = settings.model_copy(update={"training": length})
    yield from describe_middle(store, settings.middle_share)
    yield from report_missing_validation(store, settings, len(validation))
    machine.fabric.seed_everything(settings.training.seed, verbose=False)
    if remark := task.remark(store.settings):
        yield Message(remark)
    if remark := task.loss_remark(store.size):
        yield Message(remark)
    model = make_pretext_model(settings.network, pretext, store.channels)
    source = yield from load_start(
        start, model, "encoder+decoder", None if context.resumed else settings.network
    )
    objective = PretextObjective(
        store, pretext, machine.fabric.device, batches, settings.training.seed
    )
    job = TrainingJob(
        model=model,
        settings=settings.training,
        # Before anything is written, since a task may find no examples.
        batches=pretext.batches(training, settings.training.batch_size),
        steps_per_epoch=steps_per_epoch,
        loss=objective.loss,
        validate=objective.validate if batches else None,
        splits=pretext.splits,
        show=_picture(context, store, task, pretext, training, settings),
        groups=pretext.groups,
        describe=store.describe,
    )
    record = {
        "settings": settings.model_dump(mode="json"),
        "task": task.model_dump(mode="json"),
        **source,
        "scans": [scan.name for scan in store.scans],
        "slices": {"training": len(training), "validation": len(validation)},
        "data": data_record(store, training, validation),
        "seed": settings.training.seed,
    }
    writer = context.writer(start, machine, record)
    yield from report_collapse(context.train(job, writer, machine))


def _argument_of(name: str, value: object) -> str:
    """Write the argument that contains a setting: the settings, or the task."""
    found = settings_argument(PretrainSettings, name, value)
    tasks = task_options().get(name)
    if found or not tasks:
        return found
    others = f" (or {', '.join(f'core.{other}' for other in tasks[1:])})" if tasks[1:] else ""
    return f"the task as core.{tasks[0]}({short_argument(name, value)}){others}"


pretrain = as_function(
    iter_pretrain,
    Run,
    call="core.pretrain(images, out=folder)",
    returns="The run; None if it is stopped before the first step.",
    settings=_argument_of,
    setting_names=lambda: [*setting_names(PretrainSettings), *task_options()],
)


def _settings_and_start(
    context: RunContext, task: TaskSettings | None, settings: PretrainSettings | None
) -> Generator[Message, None, tuple[PretrainSettings, TaskSettings | None, Run | None]]:
    """Settings, task and start: those of the run to resume, or as given."""
    from napari_sslseg.core.settings.networks import check_dimensions

    if context.resumed is not None:
        run, start = context.resumed.run, context.resumed.start
        settings, task = run.settings(PretrainSettings), run.task()
    else:
        settings = settings or PretrainSettings()
        start = open_start(context.init, context.out, "pretrain", replaced=context.replaced)
        if start is None:
            check_encoder_start(settings.network)
        if task is not None and (
            remark := task.on_start(start is not None or settings.network.pretrained)
        ):
            yield Message(remark)
    if settings.preprocessing is not None:
        check_dimensions(settings.network, sample_dimensions(settings.preprocessing))
    return settings, task, start


def _sources(context: RunContext, scans: str | Path | Iterable[Scan | str]) -> list[CollectedScan]:
    """Scans to train on, in an order that does not depend on the order given."""
    sources = collect_scans(scans)
    if context.resumed is not None:
        return same_scans(context.resumed.run, sources)
    return sorted(sources, key=attrgetter("name"))


def _check_dimensions(settings: PretrainSettings, task: TaskSettings | None) -> None:
    """Refuse settings and tasks that do not work on slices, or on volumes."""
    from napari_sslseg.core.settings.pretext.registry import check_task

    assert settings.preprocessing is not None
    dimensions = sample_dimensions(settings.preprocessing)
    check_middle(settings.middle_share, dimensions)
    if task is not None:
        check_task(task, dimensions)


def _samples(
    context: RunContext,
    sources: list[CollectedScan],
    settings: PretrainSettings,
    task: TaskSettings | None,
) -> Generator[Progress, None, Store | None]:
    """Preprocess the scans into slices or crops; None if stopped."""
    preprocessing = settings.preprocessing
    assert preprocessing is not None
    iter_own_samples = None if task is None else task.sample_function()
    if iter_own_samples is not None:
        modality, stop = context.modality(preprocessing), context.options.stop
        own = iter_own_samples(sources, preprocessing, task, modality=modality, stop=stop)
        return (yield from context.all_or_none(own))
    return (yield from context.samples([without_labels(scan) for scan in sources], preprocessing))


def _picture(
    context: RunContext,
    store: Store,
    task: TaskSettings,
    pretext: "PretextTask",
    training: np.ndarray,
    settings: PretrainSettings,
) -> Any:
    """Make pictures of the watched slice; None if none is watched."""
    watch = context.options.watch
    if watch is None:
        return None
    return PretextShow(watch, store, task, pretext, training, settings.training.seed)
