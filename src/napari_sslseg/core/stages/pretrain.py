"""Self-supervised pretraining: unlabelled scans in, a pretrained network out."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from math import ceil
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.compute.distributed import (
    all_reduce_any,
    all_reduce_sum,
    assign_to_processes,
    run_on_first,
    single_process,
)
from napari_sslseg.core.common.events import (
    Done,
    Event,
    Message,
    PauseFlag,
    StopFlag,
    Validation,
    as_function,
)
from napari_sslseg.core.pretext.pictures.live import PretextShow
from napari_sslseg.core.runs.provenance import data_record
from napari_sslseg.core.runs.run import Run, claim
from napari_sslseg.core.samples.build import Store, describe_store, iter_samples, sample_dimensions
from napari_sslseg.core.samples.crops import crop_size
from napari_sslseg.core.samples.middle import check_middle, describe_middle, middle_mask
from napari_sslseg.core.samples.placement import canvas_size, resampled_shape
from napari_sslseg.core.samples.store import refuse_label_maps
from napari_sslseg.core.scans.labelled import Scan, scan_geometry
from napari_sslseg.core.scans.sources import collect_scans, without_labels
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, VolumePreprocessing
from napari_sslseg.core.settings.pretext.registry import TaskSettings
from napari_sslseg.core.settings.stages import PretrainSettings
from napari_sslseg.core.stages.context import Session
from napari_sslseg.core.stages.init_from import load_start, open_start, settled
from napari_sslseg.core.stages.resume import check_same, refuse_settings, same_scans
from napari_sslseg.core.stages.split import split_subjects
from napari_sslseg.core.training.watch import Watch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_sslseg.core.pretext.base import PretextTask

# Enough slices for a steady figure, few enough to be quick.
VALIDATION_SLICES = 128
LEAST_SUBJECTS_TO_SPLIT = 5
# Embeddings that fill their sphere have a spread of 1.
COLLAPSED = 0.05


def sample_size(scans: Iterable[Scan | str], settings: AnyPreprocessing) -> tuple[int, ...]:
    """Sides of the slices or crops of these scans for the network, from their headers alone."""
    shapes = [
        resampled_shape(scan_geometry(without_labels(scan)), settings)
        for scan in collect_scans(scans)
    ]
    if isinstance(settings, VolumePreprocessing):
        return crop_size(shapes, settings)
    return canvas_size(shapes, settings)


def iter_pretrain(
    scans: str | Path | Iterable[Scan | str],
    task: TaskSettings | None = None,
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
        Files, folders or loaded scans, all MR or all CT. A LabelledScan brings the mask that the
        left/right task needs; other tasks do not look at it.
    task : TaskSettings, optional
        The pretext task; context restoration with patches to suit the slices if not given.
    init : Run or path-like, optional
        Earlier pretraining to start from: encoder and decoder, as far as both stages have them.
        Its preprocessing and network are used.
    out : path-like
        Run folder.
    settings : PretrainSettings, optional
        Schedule; without ``init`` also preprocessing and network.
    device : str
        See :func:`~napari_sslseg.core.training.train.make_fabric`.
    modality : {"MR", "CT"}, optional
        Overrides the guess for every scan.
    cache : path-like, optional
        Folder for preprocessed slices on disk, found again by the next run on the same scans. If
        not given they stand in memory, or in the run folder from 2 GiB on.
    stop : StopFlag, optional
        Ends early and keeps the result so far; the run can be gone on with.
    pause : PauseFlag, optional
        Waits between two steps.
    watch : Watch, optional
        Which slice to show now and then, as Preview events.
    threads : int, optional
        Threads on the CPU, see :func:`~napari_sslseg.core.common.compute.devices.limit_threads`.
    overwrite : bool
        Whether ``out`` may hold an older run.
    resume : bool
        Go on with the run in ``out`` by its own task, settings and start, with the same scans. On
        the CPU the weights at the end are those of a run without interruption, bit for bit.

    Yields
    ------
    Event
        Progress, Message, Step, Validation, Saved, and last Done with the Run (None if stopped
        before the first step).

    Raises
    ------
    SslsegError
        Whatever is wrong with scans, settings or the disk, in one sentence.
    """
    if resume:
        refuse_settings(task=task, settings=settings, overwrite=overwrite or None)
    session = Session.of(
        "pretrain",
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
    yield from pretrain_in(session, scans, task, settings)


def pretrain_in(
    session: Session,
    scans: str | Path | Iterable[Scan | str],
    task: TaskSettings | None = None,
    settings: PretrainSettings | None = None,
) -> Iterator[Event]:
    """Do as :func:`iter_pretrain` does in a session, which may be a stage of several."""
    yield from session.run(lambda session: _pretrain(session, scans, task, settings))


def _pretrain(
    session: Session,
    scans: str | Path | Iterable[Scan | str],
    task: TaskSettings | None,
    settings: PretrainSettings | None,
) -> Iterator[Event]:
    """Do as :func:`iter_pretrain` does, while its folder is locked."""
    from napari_sslseg.core.networks.build import make_network
    from napari_sslseg.core.settings.networks import check_dimensions
    from napari_sslseg.core.settings.pretext.registry import (
        check_task,
        default_task,
        describe,
    )
    from napari_sslseg.core.training.job import Job
    from napari_sslseg.core.training.schedules import with_steps
    from napari_sslseg.core.training.train import run_job

    earlier = yield from session.earlier()
    modality = session.modality
    if earlier is not None:
        if earlier.finished:
            yield Done(earlier.run)
            return
        settings, task = earlier.run.settings(PretrainSettings), earlier.run.task()
        start = earlier.start
    else:
        settings = settings or PretrainSettings()
        start = open_start(session.init, session.out, "pretrain", replaced=session.replaced)
        if task is not None and (remark := task.on_start(start is not None)):
            yield Message(remark)
    if settings.preprocessing is not None:
        check_dimensions(settings.network, sample_dimensions(settings.preprocessing))
    fabric, threads = yield from session.fabric(settings.training, earlier)
    sources = collect_scans(scans)
    if earlier is not None:
        sources = same_scans(earlier.run, sources)
        modality = getattr(settings.preprocessing, "modality", modality)
    else:
        # In whatever order they are given, the same scans make the same run.
        sources.sort(key=attrgetter("name"))
        run_on_first(
            lambda: claim(session.out, overwrite=session.overwrite, planned=bool(session.place))
        )
        settings = settled(settings, start, without_labels(sources[0]), modality)
    assert settings.preprocessing is not None
    check_middle(settings.middle_share, sample_dimensions(settings.preprocessing))
    if task is not None:
        check_task(task, sample_dimensions(settings.preprocessing))
    iter_own_samples = None if task is None else task.sample_function()
    if iter_own_samples is not None:
        store: Store | None = yield from iter_own_samples(
            sources, settings.preprocessing, task, modality=modality, stop=session.stop
        )
    else:
        store = yield from iter_samples(
            [without_labels(scan) for scan in sources],
            settings.preprocessing,
            cache=session.cache,
            on_disk=session.on_disk,
            modality=modality,
            stop=session.stop,
        )
    if all_reduce_any(store is None)[0] or store is None:
        yield Done(earlier.run if earlier is not None else None, stopped=True)
        return
    yield from describe_store(store)
    refuse_label_maps(store.scans)
    if earlier is not None:
        check_same(earlier.run, store)
    elif session.place is not None:
        session.place.check_same(store)
    settings = settings.model_copy(update={"preprocessing": store.settings})
    if task is None:
        task = default_task(store.size)
        yield Message(f"Pretext task: {describe(task)}.")
    runtime: PretextTask = task.build(store.size, settings.training.seed)
    runtime.set_store(store)
    size = settings.training.batch_size
    training, validation = _split(store, settings, 2 if task.compares_scans else 1)
    watched = runtime.validation_batches(
        validation, VALIDATION_SLICES, size, settings.training.seed
    )
    if not watched:
        # What nobody watches may as well be learnt from.
        training, validation = np.union1d(training, validation), validation[:0]
    steps_per_epoch = ceil(len(training) / size)
    length = with_steps(settings.training, steps_per_epoch)
    settings = settings.model_copy(update={"training": length})
    yield from describe_middle(store, settings.middle_share)
    if settings.validation_share and not len(validation):
        few = f"With fewer than {LEAST_SUBJECTS_TO_SPLIT} subjects"
        if len(store.subjects) >= LEAST_SUBJECTS_TO_SPLIT:
            few = "With so few to compare"
        yield Message(f"{few} none is kept out, so there is no validation.")
    fabric.seed_everything(settings.training.seed, verbose=False)
    if remark := task.remark(store.settings):
        yield Message(remark)
    model = runtime.wrap(
        make_network(
            settings.network,
            store.channels,
            runtime.output_channels(store.channels),
            output_kernel=3,
        )
    )
    source = yield from load_start(start, model, "encoder+decoder")
    # Before anything is written, since a task may find no examples.
    batches = runtime.batches(training, size)
    record = {
        "settings": settings.model_dump(mode="json"),
        "task": task.model_dump(mode="json"),
        **source,
        "scans": [scan.name for scan in store.scans],
        "slices": {"training": len(training), "validation": len(validation)},
        "data": data_record(store, training, validation),
        "seed": settings.training.seed,
    }
    writer = session.writer(earlier, start, fabric, threads, record)

    def loss(model: "nn.Module", indices: np.ndarray, generator: "torch.Generator") -> "Tensor":
        images = store.batch(indices).to(fabric.device, non_blocking=True)
        return runtime.loss(model, images, runtime.sample_slices(indices, generator))

    def validate(model: "nn.Module") -> dict[str, float]:
        import torch

        # The same corruptions every time, so that the figures can be compared.
        generator = torch.Generator().manual_seed(settings.training.seed)
        totals: dict[str, float] = defaultdict(float)
        for part, own in assign_to_processes(watched):
            parameters = runtime.sample_slices(part, generator)
            if not own:
                continue
            images = store.batch(part).to(fabric.device)
            with single_process():
                found = {"loss": float(runtime.loss(model, images, parameters))}
                found |= runtime.metrics(model, images, parameters)
            for name, value in found.items():
                totals[name] += value * len(part)
        return {
            name: total / sum(map(len, watched)) for name, total in all_reduce_sum(totals).items()
        }

    job = Job(
        model=model,
        settings=settings.training,
        batches=batches,
        steps_per_epoch=steps_per_epoch,
        loss=loss,
        validate=validate if watched else None,
        splits=runtime.splits,
        show=PretextShow(session.watch, store, task, runtime, training, settings.training.seed)
        if session.watch is not None
        else None,
        groups=runtime.groups,
        describe=store.describe,
    )
    state = earlier.state if earlier else None
    told = False
    running = run_job(job, writer, fabric, session.stop, session.pause, state, session.watch)
    with closing(running) as events:
        for event in events:
            yield event
            spread = event.metrics.get("spread") if isinstance(event, Validation) else None
            if spread is not None and spread < COLLAPSED and not told:
                told = True
                yield Message(
                    f"The network says nearly the same of all it sees (spread {spread:.3f} of 1): "
                    "it has collapsed, or has not begun to tell things apart; train longer, lower "
                    "the learning rate, or take larger batches."
                )


pretrain = as_function(iter_pretrain)


def _split(store: Store, settings: PretrainSettings, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Slices to train on and to validate on, by subject, of whom ``least`` are kept out if any."""
    share = settings.validation_share
    if share:
        share = max(share, least / len(store.subjects))
    middle = middle_mask(store, settings.middle_share)
    if share == 0 or len(store.subjects) < LEAST_SUBJECTS_TO_SPLIT:
        return np.flatnonzero(middle), np.empty(0, np.intp)
    parts = split_subjects(
        store.subjects, {"validation": share, "training": 1 - share}, settings.training.seed
    )
    training, validation = (store.indices(parts[name]) for name in ("training", "validation"))
    return training[middle[training]], validation[middle[validation]]
