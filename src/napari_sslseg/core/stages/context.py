"""What pretraining and fine-tuning do alike around their training: lock, resume, device, record."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.atomic import remove_leftovers
from napari_sslseg.core.common.compute.distributed import (
    barrier,
    check_batch_divides,
    is_first,
    layout,
    report_lost_process,
    run_on_first,
    world_size,
)
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, StopFlag, return_value
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.runs.event_log import EventLog, recorded
from napari_sslseg.core.runs.provenance import machine_record, start_record
from napari_sslseg.core.runs.run import Kind, Run, RunWriter, program_versions
from napari_sslseg.core.runs.stage_folders import is_staged, remove_plan, stage_folders
from napari_sslseg.core.runs.state import State
from napari_sslseg.core.runs.state_files import FOLDER, newest_state
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.stages.multi_stage import Place
from napari_sslseg.core.stages.resume import is_finished, open_earlier, recorded_start

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_sslseg.core.settings.training import Training
    from napari_sslseg.core.training.watch import Watch

Init = Run | str | Path
"""A run to start from, or the word ``scratch``."""


@dataclass(frozen=True, eq=False)
class Earlier:
    """A run to go on with: its state if one was saved, else the run that it starts from if any."""

    run: Run
    state: State | None
    start: Run | None
    finished: bool = False


@dataclass(frozen=True, eq=False)
class Session:
    """Where and how a run is made, whatever it trains; see ``iter_pretrain`` for the fields."""

    kind: Kind
    out: Path
    init: Init | None
    device: str
    modality: Modality | None
    cache: Path
    on_disk: bool
    stop: StopFlag | None
    pause: PauseFlag | None
    watch: "Watch | None"
    threads: int | None
    overwrite: bool
    resume: bool
    log: EventLog
    place: Place | None = None
    """Where it stands among several stages, if it is one of them."""

    @classmethod
    def of(
        cls,
        kind: Kind,
        out: str | Path,
        init: Init | None,
        cache: str | Path | None,
        **fields: Any,
    ) -> "Session":
        """Make one of the arguments of a job."""
        out = Path(out)
        return cls(
            kind=kind,
            out=out,
            init=None if init == "scratch" else init,
            cache=Path(cache or out / "slices"),
            on_disk=cache is not None,
            log=EventLog(out),
            **fields,
        )

    def run(self, work: Callable[["Session"], Iterator[Event]]) -> Iterator[Event]:
        """Do some work while the folder is locked, and keep its history.

        Raises
        ------
        CheckpointError
            If there is no run to go on with.
        StorageError
            If another process works in the folder.
        LostProcessError
            If one of several processes that train together has ended.
        """
        if self.resume:
            Run.open(self.out, self.kind)  # Before a folder is made for the lock.
        with report_lost_process():
            with ExitStack() as held:
                # The folder of the last stage is that of all, and locked already.
                if self.place is None or not self.place.last:
                    run_on_first(lambda: held.enter_context(run_lock(self.out)))
                if is_first():
                    yield from recorded(work(self), self.log)
                else:
                    # One process speaks for all.
                    yield from (event for event in work(self) if isinstance(event, Done))
            barrier()  # None goes on, or ends, before the folder is as it stays.

    def earlier(self) -> Generator[Message, None, Earlier | None]:
        """Find the run to go on with; None if this is a new one."""
        if not self.resume:
            return None
        # One process chooses the state, so that all go on from the same one.
        messages, found = run_on_first(self._found)
        yield from messages
        return found

    def _found(self) -> tuple[list[Message], Earlier]:
        messages: list[Message] = []
        return messages, return_value(self._earlier(), messages.append)

    def _earlier(self) -> Generator[Message, None, Earlier]:
        run = open_earlier(self.out, self.kind)
        if is_finished(run):
            yield Message(f"The run in {self.out} is finished already.")
            return Earlier(run, None, None, finished=True)
        state = yield from newest_state(self.out, run.training())
        if state is not None:
            yield Message(f"Going on with the run in {self.out} after step {state.step}.")
            return Earlier(run, state, None)
        yield Message(f"Nothing of the run in {self.out} was saved, so it begins at step 1.")
        needed: Kind | None = "pretrain" if self.kind == "pretrain" else None
        return Earlier(run, None, recorded_start(run, self.init, needed))

    def known(self, earlier: Earlier | None) -> Run | None:
        """The run whose scans and device this one keeps: itself before, or the stage before."""
        if earlier is not None:
            return earlier.run
        return self.place.before if self.place else None

    @property
    def replaced(self) -> list[Path]:
        """Folders of earlier stages that go with the run that this one overwrites."""
        return stage_folders(self.out) if self.place is None and is_staged(self.out) else []

    def fabric(
        self, training: "Training", earlier: Earlier | None
    ) -> Generator[Message, None, tuple["Fabric", int]]:
        """Choose the device and the threads, and say which and why."""
        from napari_sslseg.core.common.compute.devices import (
            device_message,
            limit_threads,
            make_fabric,
        )

        check_batch_divides(training.batch_size)
        # As many as before, since sums depend on how they are shared out.
        before = earlier.run.record.get("threads") if earlier else None
        threads = limit_threads(self.threads or (before if isinstance(before, int) else None))
        fabric = make_fabric(self.device, training.precision, *layout())
        if world_size() > 1:
            fabric.launch()  # The processes are there already; each takes its place.
        yield Message(device_message(fabric.device, self.device, threads, *layout()))
        yield from self._what_differs(earlier, str(fabric.device))
        return fabric, threads

    def _what_differs(self, earlier: Earlier | None, device: str) -> Iterator[Message]:
        """Say why a run goes on nearly, but not exactly, as it would have."""
        known = self.known(earlier)
        if known is None:
            return
        record, why = known.record, []
        before = record.get("processes", 1)
        if earlier is not None:
            before = earlier.state.numbers.get("processes", 1) if earlier.state else world_size()
        if before != world_size():
            one = before == 1
            why.append(f"with {before} process{'' if one else 'es'}, and now with {world_size()}")
        if "device" in record and record["device"] != device:
            why.append(f"on {record['device']}, and now on {device}")
        versions = record.get("versions")
        for name, now in program_versions().items():
            was = versions.get(name) if isinstance(versions, Mapping) else None
            if was is not None and was != now:
                why.append(f"with {name} {was}, and now with {now}")
        for reason in why:
            yield Message(
                f"The run was last worked on {reason}, so it goes on nearly, but not exactly, as "
                "it would have."
            )

    def writer(
        self,
        earlier: Earlier | None,
        start: Run | None,
        fabric: "Fabric",
        threads: int,
        record: Mapping[str, Any],
    ) -> RunWriter:
        """Begin the run folder, or go on with it."""
        if is_first():
            for folder in (self.out, self.out / FOLDER, self.out / "slices"):
                remove_leftovers(folder)
        machine = machine_record(fabric.device, threads)
        machine["processes"] = world_size()
        if earlier is not None:
            rows = earlier.state.numbers["rows"] if earlier.state else 0
            writer = RunWriter.resumed(earlier.run, rows, machine)
        else:
            more = start_record(start, self.out) | machine
            if self.place is not None:
                more["plan"] = self.place.plan
            elif is_first():
                remove_plan(self.out)
            writer = RunWriter(self.out, {"kind": self.kind, **record, **more})
        if is_first():
            self.log.open(fresh=earlier is None)
        return writer
