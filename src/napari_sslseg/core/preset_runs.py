"""The stages of a preset, one after another, on scans of a user."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.atomic import write_text
from napari_sslseg.core.config import AnyPreprocessing, NetworkSettings
from napari_sslseg.core.distributed import on_first
from napari_sslseg.core.errors import CheckpointError, ConfigError
from napari_sslseg.core.events import Done, Event, Message, PauseFlag, StopFlag, drained
from napari_sslseg.core.finetune import Init, iter_finetune
from napari_sslseg.core.gather import Gathered, bare, gather_scans
from napari_sslseg.core.labelled import LabelledScan, as_volume
from napari_sslseg.core.preset_settings import Preset
from napari_sslseg.core.presets import preset_named
from napari_sslseg.core.pretext.registry import TaskSettings, describe
from napari_sslseg.core.pretrain import iter_pretrain, sample_size
from napari_sslseg.core.resume import refuse_settings
from napari_sslseg.core.run_lock import run_lock
from napari_sslseg.core.runs import RECORD, Run, claim
from napari_sslseg.core.start import network_of, open_start, preprocessing_of
from napari_sslseg.core.store import Scan
from napari_sslseg.core.volumes import Modality

if TYPE_CHECKING:
    from napari_sslseg.core.pretext.base import PretextTask

ORDINALS = ("first", "second", "third")
PLAN = "preset.json"


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
        A preset, perhaps with :meth:`~napari_sslseg.core.preset_settings.Preset.with_overrides`,
        or the name of one. Not given to go on with a run.
    out : path-like
        Run folder of the last stage; earlier ones stand in it, as ``first-stage`` and so on, and
        the preset of several stages, as ``preset.json``.
    init : Run or path-like, optional
        Pretraining run that the first stage starts from.
    device, modality, cache, stop, pause, threads, overwrite, resume
        As in :func:`~napari_sslseg.core.pretrain.iter_pretrain`. A run that goes on does so in the
        stage that it was in.

    Yields
    ------
    Event
        As :func:`~napari_sslseg.core.pretrain.iter_pretrain` does in each stage, but Done only
        once, with the Run of the last stage (of an earlier one if stopped there).

    Raises
    ------
    SslsegError
        Whatever is wrong with scans, options of the preset or the disk, in one sentence.
    """
    out = Path(out)
    common: dict[str, Any] = {"device": device, "cache": cache, "stop": stop}
    common |= {"pause": pause, "threads": threads}
    if resume:
        refuse_settings(preset=preset, overwrite=overwrite or None)
        if not has_stages(out):
            yield from iter_pretrain(scans, out=out, init=init, resume=True, **common)
            return
        chosen, kind, begun = _read_plan(out)
        # What was begun with options of its own says them itself.
        init = init or begun
    elif preset is None:
        raise ConfigError("Name a preset; only a run that goes on has one already.")
    else:
        chosen = preset_named(preset) if isinstance(preset, str) else preset
    # All tasks at once: what is wrong with the second should not come out after hours.
    tasks = [stage.make_task() for stage in chosen.stages]
    sources = gather_scans(scans)
    if not resume:
        on_first(lambda: claim(out, overwrite=overwrite))
        start = open_start(init, out, "pretrain")
        kind = modality
        if start is None:
            kind = modality or as_volume(bare(sources[0])).modality
            _try(tasks, chosen.network, chosen.preprocessing(kind), sources)
        else:
            yield from _differences(start, chosen)
        if len(tasks) > 1:
            on_first(lambda: _write_plan(out, chosen, kind, init))
    run: Run | str | Path | None = init
    for number, task in enumerate(tasks):
        last = number == len(tasks) - 1
        folder = out if last else out / f"{ORDINALS[number]}-stage"
        if len(tasks) > 1:
            yield Message(f"Stage {number + 1} of {len(tasks)}: {describe(task)}.")
        # A stage that starts from a run takes network and preprocessing from it.
        settings = chosen.pretrain_settings(kind if run is None else None, number)
        if number and run is not None:
            # With the canvas of the stage before, which would else be chosen anew.
            kept = {"preprocessing": preprocessing_of(Run.open(run))}
            settings = settings.model_copy(update=kept)
        if resume and (folder / RECORD).is_file():
            events = iter_pretrain(sources, out=folder, init=run, resume=True, **common)
        else:
            events = iter_pretrain(
                sources,
                task,
                out=folder,
                settings=settings,
                modality=modality if modality or not resume else kind,
                overwrite=overwrite,
                init=run,
                **common,
            )
        for event in events:
            if not isinstance(event, Done):
                yield event
                continue
            if last or event.stopped:
                yield event
                return
            run = event.result


pretrain_preset = drained(iter_pretrain_preset)


def _try(
    tasks: Sequence[TaskSettings],
    network: NetworkSettings,
    preprocessing: AnyPreprocessing,
    scans: Sequence[Gathered],
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
        runtime.wrap(make_network(network, channels, runtime.head(channels), output_kernel=3))


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
        Others of :func:`~napari_sslseg.core.finetune.iter_finetune`, but for ``settings``.

    Yields
    ------
    Event
        As :func:`~napari_sslseg.core.finetune.iter_finetune` does.
    """
    chosen = preset_named(preset) if isinstance(preset, str) else preset
    kind = None
    if init == "scratch" and labelled:
        kind = modality or as_volume(labelled[0].scan).modality
    settings = chosen.finetune_settings(kind)
    if init != "scratch":
        yield from _differences(Run.open(init), chosen)
    yield from iter_finetune(labelled, init=init, settings=settings, modality=modality, **options)


finetune_preset = drained(iter_finetune_preset)


def has_stages(out: Path) -> bool:
    """Whether a folder is that of a preset of several stages, and not of a later run without."""
    if not (out / PLAN).is_file() or not (out / RECORD).is_file():
        return (out / PLAN).is_file()
    return str(Run.open(out).record.get("init", "")).endswith("-stage")


def _write_plan(
    out: Path, preset: Preset, modality: Modality | None, init: Run | str | Path | None
) -> None:
    """Keep what stages that have not begun need to know, to go on after an interruption.

    Raises
    ------
    StorageError
        If another process works in the folder, or it cannot be written.
    """
    folder = init.folder if isinstance(init, Run) else init
    plan = {
        "format": 1,
        "preset": preset.model_dump(mode="json"),
        "modality": modality,
        "init": None if folder is None else str(Path(folder).resolve()),
    }
    with run_lock(out):
        write_text(out / PLAN, json.dumps(plan, indent=1))


def _read_plan(out: Path) -> tuple[Preset, Modality | None, str | None]:
    path = out / PLAN
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        preset, modality, init = (
            Preset.model_validate(plan["preset"]),
            plan["modality"],
            plan["init"],
        )
        if modality not in ("MR", "CT", None) or not (init is None or isinstance(init, str)):
            raise ValueError("modality or init")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged, so the run cannot go on; start again with --overwrite (in Python "
            "overwrite=True)."
        ) from error
    return preset, modality, init
