"""Shared steps of pretraining and fine-tuning: lock, resuming, device, samples, run record."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.atomic import remove_leftovers
from napari_sslseg.core.common.compute.distributed import (
    all_reduce_any,
    barrier,
    check_batch_divides,
    is_first,
    layout,
    report_lost_process,
    run_on_first,
    world_size,
)
from napari_sslseg.core.common.errors import PATH, check_type
from napari_sslseg.core.common.events import Done, Event, Message, Progress, return_value
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.runs.event_log import EventLog, record_events
from napari_sslseg.core.runs.provenance import machine_record, start_record
from napari_sslseg.core.runs.run import Kind, Run, RunWriter, program_versions
from napari_sslseg.core.runs.run_files import SAMPLES, claim
from napari_sslseg.core.runs.stage_folders import is_staged, remove_plan, stage_folders
from napari_sslseg.core.runs.states.state import State
from napari_sslseg.core.runs.states.state_files import FOLDER, newest_state
from napari_sslseg.core.samples.build import Store, iter_samples
from napari_sslseg.core.scans.find import as_series
from napari_sslseg.core.scans.labelled import Scan
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.scans.series import Series, Source
from napari_sslseg.core.scans.volume import Modality, Volume, reason_of_modality
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing
from napari_sslseg.core.stages.init_from import Settings, is_scratch, resolve_settings
from napari_sslseg.core.stages.multi_stage import StagePosition
from napari_sslseg.core.stages.options import RunOptions
from napari_sslseg.core.stages.resume import check_same, is_finished, open_resumed, recorded_start

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_sslseg.core.settings.training import Training
    from napari_sslseg.core.training.job import TrainingJob

Init = Run | str | Path
"""A run to start from, or the word ``scratch``."""


@dataclass(frozen=True, eq=False)
class ResumedRun:
    """A run to resume.

    Attributes
    ----------
    run : Run
        The run.
    state : State or None
        Its newest state, if one was saved.
    start : Run or None
        The run that it starts from, if any; needed only where no state was saved.
    """

    run: Run
    state: State | None
    start: Run | None


@dataclass(frozen=True, eq=False)
class Machine:
    """What a training runs on."""

    fabric: "Fabric"
    threads: int


@dataclass(frozen=True, eq=False)
class RunContext:
    """What a run needs besides its scans and settings.

    Attributes
    ----------
    kind : {"pretrain", "finetune"}
        Kind of the run.
    out : Path
        Run folder.
    init : Run, path-like or None
        Run to start from.
    options : RunOptions
        Device, flags, cache and so on.
    log : EventLog
        Log of the events.
    position : StagePosition or None
        Position among several stages, if the run is one of them.
    resumed : ResumedRun or None
        The run to resume; None for a new run. Set by :meth:`run`.
    reader : ScanReader
        Reads scans and labels.
    """

    kind: Kind
    out: Path
    init: Init | None
    options: RunOptions
    log: EventLog
    position: StagePosition | None = None
    resumed: ResumedRun | None = None
    reader: ScanReader = field(default_factory=ScanReader)

    @classmethod
    def of(
        cls,
        kind: Kind,
        out: str | Path,
        init: Init | None,
        options: RunOptions,
        position: StagePosition | None = None,
        reader: ScanReader | None = None,
    ) -> "RunContext":
        """Make a context from the arguments of a public function."""
        check_type(out, PATH, "out", f"the folder of the new run, such as out='runs/{kind}'")
        return cls(
            kind=kind,
            out=Path(out),
            init=None if is_scratch(init) else init,
            options=options,
            log=EventLog(Path(out)),
            position=position,
            reader=reader or ScanReader(),
        )

    def run(
        self,
        work: Callable[["RunContext"], Iterator[Event]],
        describe_finished: Callable[[Run], Iterator[Event]] = lambda run: iter(()),
    ) -> Iterator[Event]:
        """Lock the folder, find the run to resume, do the work, and log its events.

        Parameters
        ----------
        work : callable
            The work, of a run that is not finished.
        describe_finished : callable
            Reports what the run does not know, if it is finished already.

        Raises
        ------
        CheckpointError
            If there is no run to resume.
        StorageError
            If another process works in the folder.
        LostProcessError
            If one of several processes that train together has ended.
        """
        if self.options.resume:
            open_resumed(self.out, self.kind)  # Before a folder is made for the lock.
        with report_lost_process():
            with ExitStack() as locks:
                # The last stage uses the folder of the whole run, which is locked already.
                note = None
                if self.position is None or not self.position.last:
                    note = run_on_first(lambda: locks.enter_context(run_lock(self.out)).note)
                if is_first():
                    yield from record_events(self._work(work, describe_finished, note), self.log)
                else:
                    # The first process reports for all.
                    yield from (
                        e for e in self._work(work, describe_finished) if isinstance(e, Done)
                    )
            barrier()  # No process continues or ends before the folder is complete.

    def _work(
        self,
        work: Callable[["RunContext"], Iterator[Event]],
        describe_finished: Callable[[Run], Iterator[Event]],
        note: str | None = None,
    ) -> Iterator[Event]:
        if note is not None:
            yield Message(note)
        if not self.options.resume:
            # Before scans are read.
            run_on_first(
                lambda: claim(
                    self.out, overwrite=self.options.overwrite, planned=self.position is not None
                )
            )
            yield from work(self)
            return
        # One process chooses the state, so that all resume from the same one.
        messages, found = run_on_first(self._read_resumed)
        yield from messages
        if isinstance(found, Run):
            yield from describe_finished(found)
            yield Done(found)
        else:
            yield from work(replace(self, resumed=found))

    def _read_resumed(self) -> tuple[list[Message], ResumedRun | Run]:
        messages: list[Message] = []
        return messages, return_value(self._find_resumed(), messages.append)

    def _find_resumed(self) -> Generator[Message, None, ResumedRun | Run]:
        """Find the run to resume and its state; only the run, if it is finished."""
        run = open_resumed(self.out, self.kind)
        if is_finished(run):
            yield Message(f"The run in {self.out} is finished already.")
            return run
        state = yield from newest_state(self.out, run.training())
        if state is not None:
            yield Message(f"Resuming the run in {self.out} after step {state.step}.")
            return ResumedRun(run, state, None)
        yield Message(f"No state of the run in {self.out} was saved, so it begins at step 1.")
        needed: Kind | None = "pretrain" if self.kind == "pretrain" else None
        return ResumedRun(run, None, recorded_start(run, self.init, needed))

    def stopped(self) -> Done:
        """Last event of a run that is stopped before its first step."""
        return Done(self.resumed.run if self.resumed else None, stopped=True)

    @property
    def replaced(self) -> list[Path]:
        """Folders of earlier stages that are removed with the run that this one overwrites."""
        return stage_folders(self.out) if self.position is None and is_staged(self.out) else []

    def modality(self, preprocessing: AnyPreprocessing | None) -> Modality | None:
        """Modality of all scans, if it is known: of a resumed run, that of its preprocessing."""
        if self.resumed is None:
            return self.options.modality
        return getattr(preprocessing, "modality", self.options.modality)

    def machine(self, training: "Training") -> Generator[Message, None, Machine]:
        """Choose the device and the number of threads, and report them."""
        from napari_sslseg.core.common.compute.devices import (
            device_message,
            limit_threads,
            make_fabric,
        )

        check_batch_divides(training.batch_size)
        # As many threads as before, since sums depend on how they are divided.
        before = self.resumed.run.record.get("threads") if self.resumed else None
        threads = limit_threads(
            self.options.threads or (before if isinstance(before, int) else None)
        )
        fabric = make_fabric(self.options.device, training.precision, *layout())
        if world_size() > 1:
            fabric.launch()  # The processes exist already; each takes its rank.
        device = self.options.device
        yield Message(device_message(fabric.device, device, threads, *layout()))
        yield from self._report_differences(str(fabric.device))
        return Machine(fabric, threads)

    def _report_differences(self, device: str) -> Iterator[Message]:
        """Report what keeps a resumed run from being exactly reproducible."""
        if self.resumed is not None:
            record = self.resumed.run.record
        elif self.position is not None and self.position.before is not None:
            record = self.position.before.record
        else:
            return
        reasons = []
        before = record.get("processes", 1)
        if self.resumed is not None:
            state = self.resumed.state
            before = state.numbers.get("processes", 1) if state else world_size()
        if before != world_size():
            plural = "" if before == 1 else "es"
            reasons.append(f"with {before} process{plural}, and now with {world_size()}")
        if "device" in record and record["device"] != device:
            reasons.append(f"on {record['device']}, and now on {device}")
        versions = record.get("versions")
        for name, now in program_versions().items():
            was = versions.get(name) if isinstance(versions, Mapping) else None
            if was is not None and was != now:
                reasons.append(f"with {name} {was}, and now with {now}")
        for reason in reasons:
            yield Message(
                f"The run was last trained {reason}, so its results may differ slightly from "
                "those of a run without interruption."
            )

    def resolve(self, settings: Settings, start: Run | None, scan: Volume | Source) -> Settings:
        """Fill in the settings of a new run; a resumed run has them."""
        if self.resumed is not None:
            return settings
        return resolve_settings(settings, start, scan, self.options.modality, self.reader)

    def describe_modality(
        self, settings: Settings, start: Run | None, scan: Volume | Source
    ) -> Iterator[Message]:
        """Report the modality of a new run, and why it is taken."""
        found = getattr(settings.preprocessing, "modality", None)
        if self.resumed is not None or found is None:
            return
        series = scan if isinstance(scan, Volume) else as_series(scan)
        if self.options.modality is not None:
            reason = "as given"
        elif start is not None:
            reason = f"as in {start.folder}"
        elif isinstance(series, Series) and series.modality is not None:
            reason = reason_of_modality(series)
        elif self.reader.volume(scan).modality != found:
            reason = "by the settings"
        elif isinstance(series, Volume):
            reason = f"as {series.name}"
        else:
            reason = reason_of_modality(series)
        yield Message(f"Modality: {found}, {reason}.")

    def samples(
        self,
        scans: Sequence[Scan],
        preprocessing: AnyPreprocessing,
        classes: Sequence[int] = (),
    ) -> Generator[Progress, None, Store | None]:
        """Preprocess scans into a store of samples; None if any process is stopped."""
        return (
            yield from self.all_or_none(
                iter_samples(
                    scans,
                    preprocessing,
                    classes=classes,
                    cache=Path(self.options.cache or self.out / SAMPLES),
                    on_disk=self.options.cache is not None,
                    modality=self.modality(preprocessing),
                    stop=self.options.stop,
                    reader=self.reader,
                )
            )
        )

    def all_or_none(
        self, building: Generator[Progress, None, Store | None]
    ) -> Generator[Progress, None, Store | None]:
        """Build a store in every process; None if any of them is stopped."""
        try:
            store = yield from building
        finally:
            self.reader.clear()
        return None if all_reduce_any(store is None)[0] else store

    def check_unchanged(self, store: Store) -> None:
        """Refuse scans that changed since the run began, or since the stage before it.

        Raises
        ------
        CheckpointError
            It names the first scan that changed.
        """
        if self.resumed is not None:
            check_same(self.resumed.run, store)
        elif self.position is not None:
            self.position.check_same(store)

    def writer(self, start: Run | None, machine: Machine, record: Mapping[str, Any]) -> RunWriter:
        """Begin the run folder, or continue the one of the run to resume."""
        if is_first():
            for folder in (self.out, self.out / FOLDER, self.out / SAMPLES):
                remove_leftovers(folder, alone=True)
        now = machine_record(machine.fabric.device, machine.threads)
        now["processes"] = world_size()
        if self.resumed is not None:
            state = self.resumed.state
            rows = state.numbers["rows"] if state else 0
            writer = RunWriter.resumed(self.resumed.run, rows, now)
        else:
            more = start_record(start, self.out) | now
            if self.position is not None:
                more["plan"] = self.position.plan
            elif is_first():
                remove_plan(self.out)
            writer = RunWriter(self.out, {"kind": self.kind, **record, **more})
        if is_first():
            self.log.open(fresh=self.resumed is None)
        return writer

    def train(
        self, job: "TrainingJob", writer: RunWriter, machine: Machine
    ) -> Generator[Event, None, None]:
        """Train, from the state of the run to resume if it has one."""
        from napari_sslseg.core.training.train import run_job

        state = self.resumed.state if self.resumed else None
        flags = self.options.stop, self.options.pause
        yield from run_job(job, writer, machine.fabric, *flags, state, self.options.watch)
