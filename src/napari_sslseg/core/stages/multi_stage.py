"""A run of several stages in one folder: its plan, its lock, and the stage that it is in.

::

    preset.json     the plan: what stages that have not begun need to know
    first-stage/    the run of the first stage; of three stages, second-stage/ too
    run.json, …     the run of the last stage

Whoever works on any stage holds the lock of the folder. Each stage notes the id of its plan, and
what lies there of another plan, or of none, is not gone on with: a run that was to be overwritten
stays so if the new one is interrupted. As long as there is a plan, the folder is that of its run.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.compute.distributed import barrier, report_lost_process, run_on_first
from napari_sslseg.core.common.errors import CheckpointError, ConfigError
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.runs.check_network import check_run_network
from napari_sslseg.core.runs.provenance import entries, file_hash, start_record
from napari_sslseg.core.runs.record import PLAN, RECORD
from napari_sslseg.core.runs.run import Run, claim
from napari_sslseg.core.runs.stage_folders import (
    EARLIER,
    is_staged,
    remove_files,
    remove_stage,
    removing,
    stage_folders,
)
from napari_sslseg.core.scans.sources import CollectedScan
from napari_sslseg.core.settings.presets.preset import Preset
from napari_sslseg.core.stages.multi_plan import Plan, Start, read_plan
from napari_sslseg.core.stages.resume import check_same, is_finished, recorded_start, same_scans

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore


@dataclass(frozen=True, eq=False)
class Place:
    """Where a run of several stages is.

    Attributes
    ----------
    plan : str
        Id of the plan.
    number, total : int
        Stage, from 0, and number of stages.
    begun : bool
        Whether the stage has a record, by which it goes on.
    before : Run or None
        Run of the stage before, if this one is yet to begin from it.
    """

    plan: str
    number: int
    total: int
    begun: bool = False
    before: Run | None = None

    @property
    def last(self) -> bool:
        """Whether no stage follows, so that its folder is that of the whole run."""
        return self.number == self.total - 1

    def following(self, run: Run) -> "Place":
        """The stage after this one, whose run is given."""
        return Place(self.plan, self.number + 1, self.total, before=run)

    def check_same(self, store: "SampleStore") -> None:
        """Refuse scans that were changed since the stage before, as far as both learn from them.

        Raises
        ------
        CheckpointError
            It names the first that was changed.
        """
        names = [scan.name for scan in store.scans]
        # A task may leave out scans that show no organ.
        if self.before is not None and [e.name for e in entries(self.before)] == names:
            check_same(self.before, store)


@dataclass(frozen=True, eq=False)
class StagedRun:
    """A run of several stages, for whoever holds the lock of its folder, see :func:`held`."""

    folder: Path
    plan: Plan

    @classmethod
    def begin(
        cls,
        folder: Path,
        preset: Preset,
        start: Run | None,
        scans: Sequence[CollectedScan],
        *,
        overwrite: bool,
        **fields: Any,
    ) -> "StagedRun":
        """Write the plan, and remove the run that is overwritten.

        Raises
        ------
        ConfigError
            If the preset has more stages than there are names for.
        StorageError
            If the folder holds a run (unless ``overwrite``), or cannot be written.
        """
        if len(preset.stages) > len(EARLIER) + 1:
            raise ConfigError(
                f"The preset {preset.name} has {len(preset.stages)} stages; a run has at most "
                f"{len(EARLIER) + 1}."
            )
        own = stage_folders(folder)[: len(preset.stages) - 1]
        for path in (folder, *own):
            claim(path, overwrite=overwrite)
        start_fields = start_record(start, folder).get("start")
        plan = Plan(
            preset=preset,
            start=None if start_fields is None else Start(**start_fields),
            scans=[scan.name for scan in scans],
            overwrite=overwrite,
            **fields,
        )
        older = stage_folders(folder) if is_staged(folder) else ()
        # First of all: from here on what stands there is not of this plan, and not gone on with.
        write_text(folder / PLAN, plan.model_dump_json(indent=1))
        run = cls(folder, plan)
        run._clear(*older)
        return run

    @classmethod
    def open(cls, folder: Path) -> "StagedRun":
        """Read the plan.

        Raises
        ------
        CheckpointError
            If it is damaged, or of another version.
        """
        return cls(folder, read_plan(folder))

    def stage_folder(self, number: int) -> Path:
        """Run folder of a stage."""
        return self.folder if number == self.total - 1 else self.folder / EARLIER[number]

    @property
    def total(self) -> int:
        """Number of stages."""
        return len(self.plan.preset.stages)

    def place(self) -> Place:
        """Find the stage to go on with, or to begin.

        Raises
        ------
        CheckpointError
            If a record is damaged, or a stage has changed since the next one started from it.
        StorageError
            If the folder holds another run, which was not to be overwritten.
        """
        # The last one first: of a finished run nothing else is needed.
        for number in reversed(range(self.total)):
            run = self._own(number)
            if run is None:
                continue
            here = Place(self.plan.id, number, self.total, begun=True)
            if is_finished(run):
                return here if here.last else here.following(run)
            self._check_start(run, number)
            return here
        for number in range(self.total):
            claim(self.stage_folder(number), overwrite=self.plan.overwrite, planned=True)
        self._clear()
        return Place(self.plan.id, 0, self.total)

    def start(self, place: Place, init: Run | str | Path | None) -> Run | str | Path | None:
        """What a stage starts from; ``init`` is where the start of the first stage is now, if said.

        Raises
        ------
        CheckpointError
            If it is not where it was, or has changed.
        """
        if place.before is not None:
            return place.before
        if not place.begun:
            return recorded_start(self._planned(), init, "pretrain")
        # Its record says the stage before, unless that is gone.
        there = place.number and (self.stage_folder(place.number - 1) / RECORD).is_file()
        return None if there else init

    def scans(self, place: Place, given: Sequence[CollectedScan]) -> list[CollectedScan]:
        """Those among the scans given that the run began with.

        Raises
        ------
        CheckpointError
            If one is missing.
        """
        known, names = place.before, sorted(self.plan.scans)
        # By contents too, unless the stage before could not use all of them.
        if known is None or sorted(entry.name for entry in entries(known)) != names:
            known = self._planned()
        return same_scans(known, given)

    def check_network(self) -> None:
        """Refuse a network that is too large to build, or fits no slices: the plan may be foreign.

        Raises
        ------
        CheckpointError
            In one sentence.
        """
        if self.plan.kind is not None:
            preset = self.plan.preset
            check_run_network(self._planned(), preset.network, preset.preprocessing(self.plan.kind))

    def _planned(self) -> Run:
        """What the record of a run would say that has not begun."""
        start = self.plan.start
        said: dict[str, Any] = {"init": "scratch"}
        if start is not None:
            said = {"init": start.folder, "start": start.model_dump()}
        data = [
            {"name": name, "role": "training", "content": "", "labels": ""}
            for name in self.plan.scans
        ]
        return Run(self.folder, {"kind": "pretrain", **said, "data": data})

    def _own(self, number: int) -> Run | None:
        """The run of a stage, if it has begun."""
        folder = self.stage_folder(number)
        if not (folder / RECORD).is_file():
            return None
        run = Run.open(folder)
        return run if run.record.get("plan") == self.plan.id else None

    def _check_start(self, run: Run, number: int) -> None:
        """Refuse a stage whose start is there, but no longer what it was."""
        if not number:
            return
        before = Run(self.stage_folder(number - 1), {})
        start = run.record.get("start")
        known = start.get("weights") if isinstance(start, Mapping) else None
        if file_hash(before.weights) not in ("", known):
            raise CheckpointError(
                f"The weights of {before.folder} have changed since {run.folder} started from "
                "them; put them back, or start again with --overwrite (in Python overwrite=True)."
            )

    def _clear(self, *older: Path) -> None:
        """Remove what lies there of an older run, if it was to be overwritten."""
        if not self.plan.overwrite:
            return
        own = [self.stage_folder(number) for number in range(self.total - 1)]
        with removing(self.folder):
            remove_files(self.folder)
            for path in dict.fromkeys([*own, *older]):
                remove_stage(path)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder during all stages; of several processes the first one does.

    Raises
    ------
    StorageError
        In all processes, if somebody else works in the folder.
    """
    with report_lost_process():
        with ExitStack() as locks:
            run_on_first(lambda: locks.enter_context(run_lock(folder)))
            yield
        barrier()
