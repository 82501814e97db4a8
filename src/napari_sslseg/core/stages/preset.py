"""Pretrain and fine-tune with a preset, in all its stages."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.compute.distributed import run_on_first
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, StopFlag, as_function
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.run_files import claim
from napari_sslseg.core.runs.stage_folders import is_staged, stage_folders
from napari_sslseg.core.samples.build import sample_size
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, as_volume
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.scans.sources import CollectedScan, collect_scans, without_labels
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.settings.presets.preset import Preset
from napari_sslseg.core.settings.presets.registry import preset_named
from napari_sslseg.core.settings.pretext.registry import TaskSettings, describe
from napari_sslseg.core.settings.stages import PretrainSettings
from napari_sslseg.core.stages.context import Init, RunContext
from napari_sslseg.core.stages.finetune import iter_finetune
from napari_sslseg.core.stages.init_from import is_scratch, network_of, open_start, preprocessing_of
from napari_sslseg.core.stages.multi_plan import StagePlan
from napari_sslseg.core.stages.multi_stage import StagedRun, StagePosition, locked_folder
from napari_sslseg.core.stages.options import RunOptions
from napari_sslseg.core.stages.pretrain import pretrain_in
from napari_sslseg.core.stages.pretrain_steps import make_pretext_model
from napari_sslseg.core.stages.resume import refuse_settings
from napari_sslseg.core.training.watch import Watch


def iter_pretrain_preset(
    scans: str | Path | Iterable[Scan | str],
    preset: Preset | str | None = None,
    *,
    out: str | Path,
    init: Run | str | Path | None = None,
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
    """Pretrain a network with the tasks and settings of a preset.

    Parameters
    ----------
    scans : path-like, Volume, or several
        Files, folders or loaded scans, all MR or all CT.
    preset : Preset or str, optional
        A preset or the name of one; change its settings with
        :meth:`~napari_sslseg.core.settings.presets.preset.Preset.with_overrides`. It is not given
        to resume a run.
    out : path-like
        Run folder of the last stage. It holds the folders of earlier stages, such as
        ``first-stage``, and the preset as ``preset.json`` if there are several stages.
    init : Run or path-like, optional
        Pretraining run that the first stage starts from.
    device, modality, cache, stop, pause, watch, threads, overwrite, resume
        As in :func:`~napari_sslseg.core.stages.pretrain.iter_pretrain`. A run resumes in
        the stage that it was in.

    Yields
    ------
    Event
        As :func:`~napari_sslseg.core.stages.pretrain.iter_pretrain` in each stage, but Done only
        once, with the Run of the last stage (of an earlier one if stopped there).

    Raises
    ------
    SslsegError
        If something is wrong with the scans, the options of the preset or the disk.
    """
    if resume:
        refuse_settings(preset=preset, overwrite=overwrite or None)
    options = RunOptions(
        device, modality, cache, stop, pause, watch, threads, overwrite=overwrite, resume=resume
    )
    if resume:
        yield from _resume(Path(out), scans, init, options)
        return
    if preset is None:
        raise ConfigError("Name a preset; only a resumed run has one already.")
    chosen = preset_named(preset) if isinstance(preset, str) else preset
    yield from _begin(Path(out), scans, chosen, init, options)


def _resume(
    out: Path,
    scans: str | Path | Iterable[Scan | str],
    init: Run | str | Path | None,
    options: RunOptions,
) -> Iterator[Event]:
    """Resume a run of one stage or of several."""
    if not run_on_first(lambda: is_staged(out)):
        yield from pretrain_in(RunContext.of("pretrain", out, init, options), scans)
        return
    with locked_folder(out) as note:
        if note is not None:
            yield Message(note)
        staged = run_on_first(lambda: StagedRun.open(out))
        staged.check_network()
        yield from _stages(staged, scans, init, options)


def _begin(
    out: Path,
    scans: str | Path | Iterable[Scan | str],
    preset: Preset,
    init: Run | str | Path | None,
    options: RunOptions,
) -> Iterator[Event]:
    """Begin a new run of one stage or of several."""
    # All tasks at once, so that an error in the second one does not come after hours.
    tasks = [stage.make_task() for stage in preset.stages]
    several = len(tasks) > 1
    with locked_folder(out) if several else nullcontext() as note:
        if note is not None:
            yield Message(note)
        run_on_first(lambda: claim(out, overwrite=options.overwrite))
        sources, reader = collect_scans(scans), ScanReader()
        replaced = stage_folders(out) if several or is_staged(out) else []
        start = open_start(init, out, "pretrain", replaced=replaced)
        kind = None
        if start is None:
            kind = options.modality or reader.volume(without_labels(sources[0])).modality
            _try_tasks(tasks, preset, kind, sources)
        else:
            yield from _report_differences(start, preset)
        if not several:
            context = RunContext.of("pretrain", out, start, options, reader=reader)
            yield from pretrain_in(context, sources, tasks[0], preset.pretrain_settings(kind))
            return
        # Loads PyTorch.
        from napari_sslseg.core.common.compute.devices import limit_threads

        threads = limit_threads(options.threads)
        fields = {"kind": kind, "modality": options.modality, "threads": threads}
        staged = run_on_first(
            lambda: StagedRun.begin(
                out, preset, start, sources, overwrite=options.overwrite, **fields
            )
        )
        yield from _stages(staged, sources, init, options, reader)


def _stages(
    staged: StagedRun,
    scans: str | Path | Iterable[Scan | str],
    init: Run | str | Path | None,
    options: RunOptions,
    reader: ScanReader | None = None,
) -> Iterator[Event]:
    """Train the remaining stages of a run whose folder is locked."""
    plan = staged.plan
    position = run_on_first(staged.position)
    if not (position.begun and position.last):
        scans = staged.scans(position, collect_scans(scans))
    while True:
        number, task = position.number, plan.tasks[position.number]
        yield Message(f"Stage {number + 1} of {position.total}: {describe(task)}.")
        own = replace(
            options,
            modality=plan.modality,
            # A stage that was begun has recorded its own number of threads.
            threads=options.threads or (None if position.begun else plan.threads),
            overwrite=plan.overwrite,
            resume=position.begun,
        )
        folder, start = staged.stage_folder(number), staged.start(position, init)
        context = RunContext.of("pretrain", folder, start, own, position, reader)
        if position.begun:
            events = pretrain_in(context, scans)
        else:
            events = pretrain_in(context, scans, task, _stage_settings(plan, position))
        done = Done(None, stopped=True)
        for event in events:
            if isinstance(event, Done):
                done = event
            else:
                yield event
        if position.last or done.stopped:
            yield done
            return
        position = position.following(done.result)


def _stage_settings(plan: StagePlan, position: StagePosition) -> PretrainSettings:
    """Settings of a stage that begins."""
    if position.before is None:
        return plan.preset.pretrain_settings(plan.kind, position.number)
    # Network and preprocessing are those of the previous stage. Its preprocessing is set here,
    # because the canvas would be chosen again otherwise.
    settings = plan.preset.pretrain_settings(None, position.number)
    return settings.model_copy(update={"preprocessing": preprocessing_of(position.before)})


pretrain_preset = as_function(
    iter_pretrain_preset,
    Run,
    call='core.pretrain_preset(images, "dominic-2023", out=folder)',
    returns="The run; None if it is stopped before the first step.",
)


def _try_tasks(
    tasks: Sequence[TaskSettings],
    preset: Preset,
    modality: Modality,
    scans: Sequence[CollectedScan],
) -> None:
    """Build every task and its network, so that a later stage does not fail after hours.

    Raises
    ------
    ConfigError
        If one of them cannot be built for the size of the samples.
    """
    preprocessing = preset.preprocessing(modality)
    size = sample_size(scans, preprocessing)
    for task in tasks:
        make_pretext_model(preset.network, task.build(size, 0), preprocessing.channels)


def _report_differences(start: Run, preset: Preset) -> Iterator[Message]:
    """Report where the run to start from differs from the preset."""
    if network_of(start) != preset.network:
        yield Message(
            f"The network is that of {start.folder} ({network_of(start).kind}), not that of the "
            f"preset {preset.name} ({preset.network.kind})."
        )
    found = preprocessing_of(start)
    wanted = preset.preprocessing(found.modality)
    unsized = {"size": None}
    if found.model_copy(update=unsized) != wanted.model_copy(update=unsized):
        yield Message(
            f"The preprocessing is that of {start.folder}, not that of the preset {preset.name}."
        )


def iter_finetune_preset(
    labelled: Sequence[LabelledScan],
    preset: Preset | str,
    *,
    init: Init = "scratch",
    modality: Modality | None = None,
    **options: Any,
) -> Iterator[Event]:
    """Fine-tune a network with the settings of a preset.

    Parameters
    ----------
    labelled : sequence of LabelledScan
        Scans, labels, and which slices are annotated.
    preset : Preset or str
        As in :func:`iter_pretrain_preset`.
    init : Run, path-like or "scratch"
        Run to start from, whose network and preprocessing are used. From scratch, they are those
        of the preset.
    modality : {"MR", "CT"}, optional
        Modality of all scans; guessed if not given.
    **options
        Other arguments of :func:`~napari_sslseg.core.stages.finetune.iter_finetune`, except
        ``settings``.

    Yields
    ------
    Event
        As :func:`~napari_sslseg.core.stages.finetune.iter_finetune`.
    """
    chosen = preset_named(preset) if isinstance(preset, str) else preset
    labelled = [item.opened() for item in labelled]
    kind = None
    if is_scratch(init) and labelled:
        kind = modality or as_volume(labelled[0].scan).modality
    settings = chosen.finetune_settings(kind)
    if not is_scratch(init):
        yield from _report_differences(Run.open(init), chosen)
    yield from iter_finetune(labelled, init=init, settings=settings, modality=modality, **options)


finetune_preset = as_function(
    iter_finetune_preset,
    Run,
    call='core.finetune_preset(core.pair_scans(images, labels), "dominic-2023", out=folder)',
    returns="The run; None if it is stopped before the first step.",
)
