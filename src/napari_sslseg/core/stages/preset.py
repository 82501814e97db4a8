"""The stages of a preset, one after another, on scans of a user."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.compute.distributed import run_on_first
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, StopFlag, as_function
from napari_sslseg.core.runs.run import Run, claim
from napari_sslseg.core.runs.stage_folders import is_staged, stage_folders
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, as_volume
from napari_sslseg.core.scans.sources import CollectedScan, collect_scans, without_labels
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.settings.networks import NetworkSettings
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing
from napari_sslseg.core.settings.presets.preset import Preset
from napari_sslseg.core.settings.presets.registry import preset_named
from napari_sslseg.core.settings.pretext.registry import TaskSettings, describe
from napari_sslseg.core.settings.stages import PretrainSettings
from napari_sslseg.core.stages.context import Init, Session
from napari_sslseg.core.stages.finetune import iter_finetune
from napari_sslseg.core.stages.init_from import network_of, open_start, preprocessing_of
from napari_sslseg.core.stages.multi_plan import Plan
from napari_sslseg.core.stages.multi_stage import Place, StagedRun, held
from napari_sslseg.core.stages.pretrain import iter_pretrain, pretrain_in, sample_size
from napari_sslseg.core.stages.resume import refuse_settings
from napari_sslseg.core.training.watch import Watch

if TYPE_CHECKING:
    from napari_sslseg.core.pretext.base import PretextTask


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
    """Pretrain a network as a preset says.

    Parameters
    ----------
    scans : path-like, Volume, or several
        Files, folders or loaded scans, all MR or all CT.
    preset : Preset or str, optional
        A preset, perhaps with
        :meth:`~napari_sslseg.core.settings.presets.preset.Preset.with_overrides`, or the name of
        one. Not given to go on with a run.
    out : path-like
        Run folder of the last stage; earlier ones stand in it, as ``first-stage`` and so on, and
        the preset of several stages, as ``preset.json``.
    init : Run or path-like, optional
        Pretraining run that the first stage starts from.
    device, modality, cache, stop, pause, watch, threads, overwrite, resume
        As in :func:`~napari_sslseg.core.stages.pretrain.iter_pretrain`. A run that goes on does so
        in the stage that it was in.

    Yields
    ------
    Event
        As :func:`~napari_sslseg.core.stages.pretrain.iter_pretrain` does in each stage, but Done
        only once, with the Run of the last stage (of an earlier one if stopped there).

    Raises
    ------
    SslsegError
        Whatever is wrong with scans, options of the preset or the disk, in one sentence.
    """
    out = Path(out)
    common: dict[str, Any] = {"device": device, "cache": cache, "stop": stop}
    common |= {"pause": pause, "watch": watch}
    if resume:
        refuse_settings(preset=preset, overwrite=overwrite or None)
        if run_on_first(lambda: is_staged(out)):
            with held(out):
                staged = run_on_first(lambda: StagedRun.open(out))
                staged.check_network()
                yield from _stages(staged, scans, init, threads, common)
        else:
            common["threads"] = threads
            yield from iter_pretrain(scans, out=out, init=init, resume=True, **common)
        return
    if preset is None:
        raise ConfigError("Name a preset; only a run that goes on has one already.")
    chosen = preset_named(preset) if isinstance(preset, str) else preset
    # All tasks at once: what is wrong with the second should not come out after hours.
    tasks = [stage.make_task() for stage in chosen.stages]
    sources = collect_scans(scans)
    with nullcontext() if len(tasks) == 1 else held(out):
        run_on_first(lambda: claim(out, overwrite=overwrite))
        earlier = stage_folders(out) if len(tasks) > 1 or is_staged(out) else []
        start = open_start(init, out, "pretrain", replaced=earlier)
        kind = None
        if start is None:
            kind = modality or as_volume(without_labels(sources[0])).modality
            _try(tasks, chosen.network, chosen.preprocessing(kind), sources)
        else:
            yield from _differences(start, chosen)
        if len(tasks) == 1:
            yield from iter_pretrain(
                sources,
                tasks[0],
                out=out,
                init=start,
                settings=chosen.pretrain_settings(kind),
                modality=modality,
                threads=threads,
                overwrite=overwrite,
                **common,
            )
            return
        # Loads PyTorch.
        from napari_sslseg.core.common.compute.devices import limit_threads

        fields = {"kind": kind, "modality": modality, "threads": limit_threads(threads)}
        staged = run_on_first(
            lambda: StagedRun.begin(out, chosen, start, sources, overwrite=overwrite, **fields)
        )
        yield from _stages(staged, sources, init, threads, common)


def _stages(
    staged: StagedRun,
    scans: str | Path | Iterable[Scan | str],
    init: Run | str | Path | None,
    threads: int | None,
    common: Mapping[str, Any],
) -> Iterator[Event]:
    """Do what is left of a run of several stages, whose folder is locked."""
    plan = staged.plan
    place = run_on_first(staged.place)
    if not (place.begun and place.last):
        scans = staged.scans(place, collect_scans(scans))
    while True:
        number, task = place.number, plan.tasks[place.number]
        yield Message(f"Stage {number + 1} of {place.total}: {describe(task)}.")
        session = Session.of(
            "pretrain",
            staged.stage_folder(number),
            staged.start(place, init),
            modality=plan.modality,
            # A stage that has begun remembers its own.
            threads=threads or (None if place.begun else plan.threads),
            overwrite=plan.overwrite,
            resume=place.begun,
            place=place,
            **common,
        )
        if place.begun:
            events = pretrain_in(session, scans)
        else:
            events = pretrain_in(session, scans, task, _settings(plan, place))
        done = Done(None, stopped=True)
        for event in events:
            if isinstance(event, Done):
                done = event
            else:
                yield event
        if place.last or done.stopped:
            yield done
            return
        place = place.following(done.result)


def _settings(plan: Plan, place: Place) -> PretrainSettings:
    """Settings of a stage that begins."""
    if place.before is None:
        return plan.preset.pretrain_settings(plan.kind, place.number)
    # It takes network and preprocessing from the stage before, with the canvas of that, which
    # would else be chosen anew.
    settings = plan.preset.pretrain_settings(None, place.number)
    return settings.model_copy(update={"preprocessing": preprocessing_of(place.before)})


pretrain_preset = as_function(iter_pretrain_preset)


def _try(
    tasks: Sequence[TaskSettings],
    network: NetworkSettings,
    preprocessing: AnyPreprocessing,
    scans: Sequence[CollectedScan],
) -> None:
    """Make every task for the size of the samples, so that a late stage does not fail late.

    Raises
    ------
    ConfigError
        If one of them cannot be made.
    """
    from napari_sslseg.core.networks.build import make_network

    size = sample_size(scans, preprocessing)
    for task in tasks:
        runtime: PretextTask = task.build(size, 0)
        channels = preprocessing.channels
        runtime.wrap(
            make_network(network, channels, runtime.output_channels(channels), output_kernel=3)
        )


def _differences(start: Run, preset: Preset) -> Iterator[Message]:
    """Say what a run to start from brings that is not as the preset has it."""
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
    """Fine-tune a network as a preset says.

    Parameters
    ----------
    labelled : sequence of LabelledScan
        Scans, labels, and which slices are annotated.
    preset : Preset or str
        As in :func:`iter_pretrain_preset`.
    init : Run, path-like or "scratch"
        Run to start from, which brings network and preprocessing. From scratch they are those of
        the preset.
    modality : {"MR", "CT"}, optional
        Overrides the guess.
    **options
        Others of :func:`~napari_sslseg.core.stages.finetune.iter_finetune`, but for ``settings``.

    Yields
    ------
    Event
        As :func:`~napari_sslseg.core.stages.finetune.iter_finetune` does.
    """
    chosen = preset_named(preset) if isinstance(preset, str) else preset
    kind = None
    if init == "scratch" and labelled:
        kind = modality or as_volume(labelled[0].scan).modality
    settings = chosen.finetune_settings(kind)
    if init != "scratch":
        yield from _differences(Run.open(init), chosen)
    yield from iter_finetune(labelled, init=init, settings=settings, modality=modality, **options)


finetune_preset = as_function(iter_finetune_preset)
