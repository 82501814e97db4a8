"""A project: the folder that holds all work on a set of scans, and outlives a crash.

See ``docs/reference/project-folder.md`` for the files in it. Loads no PyTorch.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_sslseg.core.common.errors import ProjectError, StorageError
from napari_sslseg.core.project.classes import ProjectClasses
from napari_sslseg.core.project.folder import RUNS
from napari_sslseg.core.project.record import Role
from napari_sslseg.core.runs.listing import RunSummary, list_runs
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.settings.training import VALIDATION_SHARE


@dataclass(frozen=True)
class LabelledSplit:
    """Labelled scans to learn from, and those of other subjects to choose the best weights by.

    Attributes
    ----------
    training, validation : list of LabelledScan
        No subject is in both.
    note : str or None
        What the validation is worth, in one sentence, where that is little.
    """

    training: list[LabelledScan]
    validation: list[LabelledScan]
    note: str | None = None


class Project(ProjectClasses):
    """Scans, their labels, done slices, classes and runs, in a folder.

    Make one with :meth:`create`, or :meth:`open` one that is there; ``with`` closes it. One
    process has it open at a time. Each change is on disk when its method returns, and a process
    that is killed leaves the state of its last change, or of the one before.

    Examples
    --------
    >>> with Project.create("knees") as project:  # doctest: +SKIP
    ...     project.add_scans("scans/")
    ...     project.add_class("cartilage")
    ...     pre = core.pretrain(project.scans("train"), out=project.new_run_folder("pretrain"))
    ...     project.save_labels("knee_01", labels)
    ...     project.mark_done("knee_01", [12, 20])
    ...     split = project.split_validation()
    ...     out = project.new_run_folder("finetune")
    ...     core.finetune(split.training, validation=split.validation, init=pre, out=out)
    """

    def scans(self, role: Role | None = None, *, usable_only: bool = False) -> list[Series]:
        """Scans that are not loaded, as ``core.pretrain`` takes them.

        Pretrain on ``scans("train")``: what is held out for a test should not be seen before.

        Parameters
        ----------
        role : {"train", "test"}, optional
            What they are for; all if not given.
        usable_only : bool
            Whether to leave out scans with a :meth:`problem`; else it is raised.
        """
        return [self.series(name) for name in self._usable(role, usable_only)]

    def unlabelled_scans(self, *, usable_only: bool = False) -> list[Series]:
        """Training scans of which no slice is done."""
        names = self._usable("train", usable_only)
        return [self.series(name) for name in names if not self.done(name)]

    def labelled_scans(
        self, role: Role = "train", *, usable_only: bool = False
    ) -> list[LabelledScan]:
        """Scans with slices that are done, as ``core.finetune`` and ``core.evaluate`` take them.

        Parameters
        ----------
        role : {"train", "test"}
            What they are for.
        usable_only : bool
            Whether to leave out scans with a :meth:`problem`; else it is raised.
        """
        return [
            LabelledScan(self.series(name), self.labels_path(name), self.done(name))
            for name in self._usable(role, usable_only)
            if self.done(name)
        ]

    def _usable(self, role: Role | None, usable_only: bool) -> Iterable[str]:
        names = [s.name for s in self._record.scans if role is None or s.role == role]
        problems = {name: told for name in names if (told := self.problem(name)) is not None}
        if problems and not usable_only:
            more = len(problems) - 1
            raise ProjectError(
                next(iter(problems.values()))
                + (f" {more} other scans cannot be used either." if more else "")
            )
        return [name for name in names if name not in problems]

    def split_validation(
        self, share: float = VALIDATION_SHARE, seed: int = 0, *, usable_only: bool = False
    ) -> LabelledSplit:
        """Keep a share of the labelled subjects out of the training, to choose the best weights by.

        Whole subjects are kept out, see
        :func:`~napari_sslseg.core.stages.finetune.split_validation`. With a single labelled subject
        there is no validation at all: a Dice on other slices of the same patient would be far too
        good, and say nothing about other patients.
        """
        from napari_sslseg.core.stages.finetune import split_validation

        labelled = self.labelled_scans(usable_only=usable_only)
        subjects = {self.entry(item.name).subject for item in labelled}
        if len(subjects) < 2 and share > 0:
            note = (
                "The labelled slices are of one patient, so none is kept out, and no Dice can be "
                "given; label a slice of another patient for that."
            )
            return LabelledSplit(labelled, [], note if labelled else None)
        training, validation = split_validation(labelled, share, seed)
        apart = sorted({self.entry(item.name).subject for item in validation})
        slices = sum(len(item.annotated or ()) for item in validation)
        doubt = None
        if validation and len(apart) < 3:
            who = "one patient" if len(apart) == 1 else f"{len(apart)} patients"
            doubt = f"The validation is {slices} slices of {who}, so its Dice is a rough guide."
        return LabelledSplit(training, validation, doubt)

    def new_run_folder(self, kind: Literal["pretrain", "finetune"]) -> Path:
        """Make the empty folder of a new run, such as ``runs/pretrain-001``."""
        if kind not in ("pretrain", "finetune"):
            raise ProjectError(f"There is no kind of run {kind!r}; choose pretrain or finetune.")
        self._check_there()
        folder = self.folder / RUNS
        try:
            folder.mkdir(exist_ok=True)
            numbers = (re.fullmatch(rf"{kind}-(\d{{3,9}})", item.name) for item in folder.iterdir())
            number = max((int(found[1]) for found in numbers if found), default=0) + 1
            made = folder / f"{kind}-{number:03d}"
            made.mkdir()
        except OSError as error:
            raise StorageError(
                f"Could not make a folder in {folder}: {error.strerror or error}; free some space, "
                "or make it writable."
            ) from error
        return made

    def runs(self) -> list[RunSummary]:
        """Sum up the runs in the project; a damaged one has its ``problem`` instead."""
        folder = self.folder / RUNS
        return list_runs(folder) if folder.is_dir() else []
