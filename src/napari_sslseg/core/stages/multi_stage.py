"""A run of several stages in one folder: its plan, its lock and its current stage.

::

    preset.json     the plan: what is needed to begin later stages
    first-stage/    the run of the first stage; with three stages there is also second-stage/
    run.json, …     the run of the last stage

The folder is locked while any stage is trained. Each stage records the id of its plan. Files of
another plan, or of none, are never resumed, so that a run which is being overwritten does not come
back if the new run is interrupted. While there is a plan, the folder belongs to its run.
"""

import json
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
from napari_sslseg.core.runs.provenance import file_hash, scan_records, start_record
from napari_sslseg.core.runs.record import PLAN, is_run
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.run_files import claim, remove_run_files
from napari_sslseg.core.runs.stage_folders import (
    EARLIER,
    is_staged,
    remove_stage,
    removing,
    stage_folders,
)
from napari_sslseg.core.scans.sources import CollectedScan
from napari_sslseg.core.settings.presets.preset import Preset
from napari_sslseg.core.stages.multi_plan import PlanStart, StagePlan, read_plan
from napari_sslseg.core.stages.resume import check_same, is_finished, recorded_start, same_scans

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore


@dataclass(frozen=True, eq=False)
class StagePosition:
    """Current stage of a run of several stages.

    Attributes
    ----------
    plan : str
        Id of the plan.
    number, total : int
        Number of the stage, from 0, and number of stages.
    begun : bool
        Whether the stage has a record and can be resumed.
    before : Run or None
        Run of the previous stage, if this stage is about to begin from it.
    """

    plan: str
    number: int
    total: int
    begun: bool = False
    before: Run | None = None

    @property
    def last(self) -> bool:
        """Whether this is the last stage, whose folder is that of the whole run."""
        return self.number == self.total - 1

    def following(self, run: Run) -> "StagePosition":
        """Position of the next stage, which begins from the run of this one."""
        return StagePosition(self.plan, self.number + 1, self.total, before=run)

    def check_same(self, store: "SampleStore") -> None:
        """Refuse scans that changed since the previous stage, if both use the same scans.

        Raises
        ------
        CheckpointError
            It names the first that changed.
        """
        names = [scan.name for scan in store.scans]
        # A task may leave out scans that do not show the organ.
        if self.before is not None and [e.name for e in scan_records(self.before)] == names:
            check_same(self.before, store)


@dataclass(frozen=True, eq=False)
class StagedRun:
    """A run of several stages; its folder must be locked, see :func:`locked_folder`."""

    folder: Path
    plan: StagePlan

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
        """Write the plan, and remove the run that it overwrites.

        Raises
        ------
        ConfigError
            If the preset has too many stages.
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
        plan = StagePlan(
            preset=preset,
            start=None if start_fields is None else PlanStart(**start_fields),
            scans=[scan.name for scan in scans],
            overwrite=overwrite,
            **fields,
        )
        older = stage_folders(folder) if is_staged(folder) else ()
        # Written first: from now on the older files are not of this plan, and are not resumed.
        write_text(
            folder / PLAN, json.dumps(plan.model_dump(mode="json"), indent=1, ensure_ascii=False)
        )
        run = cls(folder, plan)
        run._remove_older(*older)
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

    def position(self) -> StagePosition:
        """Find the stage to resume or to begin.

        Raises
        ------
        CheckpointError
            If a record is damaged, or a stage changed after the next one started from it.
        StorageError
            If the folder holds another run that must not be overwritten.
        """
        # The last stage first: a finished run needs nothing else.
        for number in reversed(range(self.total)):
            run = self._own(number)
            if run is None:
                continue
            here = StagePosition(self.plan.id, number, self.total, begun=True)
            if is_finished(run):
                return here if here.last else here.following(run)
            self._check_start(run, number)
            return here
        for number in range(self.total):
            claim(self.stage_folder(number), overwrite=self.plan.overwrite, planned=True)
        self._remove_older()
        return StagePosition(self.plan.id, 0, self.total)

    def start(
        self, position: StagePosition, init: Run | str | Path | None
    ) -> Run | str | Path | None:
        """Run that a stage starts from.

        Parameters
        ----------
        position : StagePosition
            The stage.
        init : Run, path-like or None
            Where the start of the first stage is now, if it was moved.

        Raises
        ------
        CheckpointError
            If it is missing or changed.
        """
        if position.before is not None:
            return position.before
        if not position.begun:
            return recorded_start(self._planned(), init, "pretrain")
        # The record of the stage names the previous one, unless that was removed.
        number = position.number
        there = number and is_run(self.stage_folder(number - 1))
        return None if there else init

    def scans(self, position: StagePosition, given: Sequence[CollectedScan]) -> list[CollectedScan]:
        """Select the scans that the run began with.

        Raises
        ------
        CheckpointError
            If one is missing.
        """
        known, names = position.before, sorted(self.plan.scans)
        # Compared by content too, unless the previous stage could not use all of them.
        if known is None or sorted(entry.name for entry in scan_records(known)) != names:
            known = self._planned()
        return same_scans(known, given)

    def check_network(self) -> None:
        """Refuse a network that is too large to build or does not fit the samples.

        Raises
        ------
        CheckpointError
            The plan may be from somebody else.
        """
        if self.plan.kind is not None:
            preset = self.plan.preset
            check_run_network(self._planned(), preset.network, preset.preprocessing(self.plan.kind))

    def _planned(self) -> Run:
        """Run with the record that the plan implies, for a run that has not begun."""
        start = self.plan.start
        source: dict[str, Any] = {"init": "scratch"}
        if start is not None:
            source = {"init": start.folder, "start": start.model_dump()}
        data = [
            {"name": name, "role": "training", "content": "", "labels": ""}
            for name in self.plan.scans
        ]
        return Run(self.folder, {"kind": "pretrain", **source, "data": data})

    def _own(self, number: int) -> Run | None:
        """Run of a stage, if the stage has begun under this plan."""
        folder = self.stage_folder(number)
        if not is_run(folder):
            return None
        run = Run.open(folder)
        return run if run.record.get("plan") == self.plan.id else None

    def _check_start(self, run: Run, number: int) -> None:
        """Refuse a stage whose start changed; one that was removed is not needed."""
        if not number:
            return
        before = Run(self.stage_folder(number - 1), {})
        start = run.record.get("start")
        known = start.get("weights") if isinstance(start, Mapping) else None
        if file_hash(before.weights) not in ("", known):
            raise CheckpointError(
                f"The weights of {before.folder} changed after {run.folder} started from them; "
                "restore them, or start again with --overwrite (in Python overwrite=True)."
            )

    def _remove_older(self, *older: Path) -> None:
        """Remove the files of an older run, if it is to be overwritten."""
        if not self.plan.overwrite:
            return
        own = [self.stage_folder(number) for number in range(self.total - 1)]
        with removing(self.folder):
            remove_run_files(self.folder)
            for path in dict.fromkeys([*own, *older]):
                remove_stage(path)


@contextmanager
def locked_folder(folder: Path) -> Iterator[str | None]:
    """Lock a folder during all stages; the first of several processes holds the lock.

    Yields
    ------
    str or None
        A sentence for the user if the disk has no locks.

    Raises
    ------
    StorageError
        In all processes, if another process works in the folder.
    """
    with report_lost_process():
        with ExitStack() as locks:
            yield run_on_first(lambda: locks.enter_context(run_lock(folder)).note)
        barrier()
