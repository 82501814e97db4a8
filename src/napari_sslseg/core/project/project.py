"""A project: the folder with all work on a set of scans, which survives a crash.

The methods are those of its parts, which share one :class:`ProjectFolder`. See
``docs/reference/project-folder.md`` for the files in the folder. Loads no PyTorch.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

from napari_sslseg.core.common.errors import ProjectError, StorageError
from napari_sslseg.core.common.events import Done, Event, Progress, StopFlag, as_function
from napari_sslseg.core.common.sizes import Plane
from napari_sslseg.core.common.sync import make_folder, sync_folder
from napari_sslseg.core.project.accepted import AcceptedPredictions
from napari_sslseg.core.project.add import AddedScans, ScanAdder
from napari_sslseg.core.project.classes import ProjectClasses
from napari_sslseg.core.project.folder import RUNS, ProjectFolder
from napari_sslseg.core.project.label_files import LabelFiles
from napari_sslseg.core.project.labels import ProjectLabels
from napari_sslseg.core.project.record import (
    UNKNOWN_VALUE,
    ProjectClass,
    ProjectRecord,
    Role,
    with_changes,
)
from napari_sslseg.core.project.scans import ProjectScans
from napari_sslseg.core.runs.listing import RunSummary, list_runs
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.settings.training import VALIDATION_SHARE

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _of_part(
    part: str, method: Callable[Concatenate[Any, Parameters], Result]
) -> "Callable[Concatenate[Project, Parameters], Result]":
    """Make the method of a part a method of the project, with its signature and docstring."""

    @wraps(method)
    def forwarded(
        project: "Project", *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        return method(getattr(project, part), *args, **kwargs)

    return forwarded


@dataclass(frozen=True)
class LabelledSplit:
    """Labelled scans for training, and those of held-out subjects for validation.

    Attributes
    ----------
    training, validation : list of LabelledScan
        No subject is in both.
    note : str or None
        Limits of the validation in one sentence, if it is small or missing.
    """

    training: list[LabelledScan]
    validation: list[LabelledScan]
    note: str | None = None


class Project:
    """Scans, their labels, done slices, classes and runs, in a folder.

    Create one with :meth:`create` or open one with :meth:`open`; ``with`` closes it. One process
    can open it at a time. Each change is on disk when its method returns. A process that is
    killed leaves the state after its last change, or the one before. Methods may be called from
    any thread.

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

    def __init__(self, folder: ProjectFolder) -> None:
        self._folder = folder
        self._files = LabelFiles(folder)
        self._scans = ProjectScans(folder)
        self._adder = ScanAdder(folder, self._files, self._scans)
        self._classes = ProjectClasses(folder, self._files)
        self._accepted = AcceptedPredictions(folder, self._files)
        self._labels = ProjectLabels(
            folder, self._files, self._scans, self._classes, self._accepted
        )

    @classmethod
    def create(cls, folder: str | Path) -> Self:
        """Create a project folder and open it.

        Parameters
        ----------
        folder : path-like
            A new folder, or one that is not a project.

        Raises
        ------
        ProjectError
            If the folder is a project already.
        StorageError
            If the folder cannot be written.
        """
        return cls(ProjectFolder.create(folder))

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a project folder; no scan is read.

        A folder in which nothing can be written is opened for reading: ``read_only`` is True,
        ``note`` says so, and every change raises a ProjectError.

        Raises
        ------
        ProjectError
            If there is none, or its record is damaged or of a newer version. The record is not
            changed.
        StorageError
            If another process has it open, with the number of that process; or the disk is full.
        """
        return cls(ProjectFolder.open(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r}, {len(self.names)} scans)"

    @property
    def folder(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written to the folder, so that every change is refused."""
        return self._folder.read_only

    @property
    def note(self) -> str | None:
        """A sentence for the user if the folder is read-only, or on a disk without locks."""
        return self._folder.note

    @property
    def record(self) -> ProjectRecord:
        """Contents of ``project.json``. The object never changes; a change replaces it."""
        return self._folder.record

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all scans, in the order in which they were added."""
        return self._scans.names

    @property
    def plane(self) -> Plane:
        """The plane along which slices are cut, labelled and done."""
        return self.record.plane

    @property
    def classes(self) -> tuple[ProjectClass, ...]:
        """Classes in the order in which they were added."""
        return self.record.classes

    @property
    def class_names(self) -> dict[int, str]:
        """Name of each label value, for ``core.save_labels(…, classes=…)``."""
        return {item.value: item.name for item in self.classes}

    close = _of_part("_folder", ProjectFolder.close)
    entry = _of_part("_folder", ProjectFolder.entry)
    change = _of_part("_folder", ProjectFolder.change)
    remember = _of_part("_folder", ProjectFolder.remember)
    recall = _of_part("_folder", ProjectFolder.recall)

    iter_add_scans = _of_part("_adder", ScanAdder.iter_add_scans)
    add_scans = as_function(iter_add_scans, AddedScans, returns="What was added.")
    scan_path = _of_part("_scans", ProjectScans.scan_path)
    set_modality = _of_part("_scans", ProjectScans.set_modality)
    set_role = _of_part("_scans", ProjectScans.set_role)
    set_subject = _of_part("_scans", ProjectScans.set_subject)
    series = _of_part("_scans", ProjectScans.series)
    load = _of_part("_scans", ProjectScans.load)
    relocate = _of_part("_scans", ProjectScans.relocate)

    labels_path = _of_part("_files", LabelFiles.path)
    has_labels = _of_part("_files", LabelFiles.exists)
    labels_changed = _of_part("_files", LabelFiles.changed)
    set_plane = _of_part("_labels", ProjectLabels.set_plane)
    labels = _of_part("_labels", ProjectLabels.labels)
    save_labels = _of_part("_labels", ProjectLabels.save_labels)
    add_missing_classes = _of_part("_labels", ProjectLabels.add_missing_classes)
    label_classes = _of_part("_labels", ProjectLabels.label_classes)
    import_labels = _of_part("_labels", ProjectLabels.import_labels)
    labelled_classes = _of_part("_labels", ProjectLabels.labelled_classes)
    set_labelled_classes = _of_part("_labels", ProjectLabels.set_labelled_classes)
    done = _of_part("_labels", ProjectLabels.done)
    mark_done = _of_part("_labels", ProjectLabels.mark_done)
    unmark = _of_part("_labels", ProjectLabels.unmark)

    accepted = _of_part("_accepted", AcceptedPredictions.accepted)
    note_accepted = _of_part("_accepted", AcceptedPredictions.note_accepted)
    forget_accepted = _of_part("_accepted", AcceptedPredictions.forget_accepted)

    add_class = _of_part("_classes", ProjectClasses.add_class)
    rename_class = _of_part("_classes", ProjectClasses.rename_class)
    recolour_class = _of_part("_classes", ProjectClasses.recolour_class)
    remove_class = _of_part("_classes", ProjectClasses.remove_class)

    def remove_scan(self, name: str) -> Path | None:
        """Remove a scan from the project. No file is deleted.

        Returns
        -------
        Path or None
            Where its labels were put aside, if there were any. :meth:`import_labels` takes them
            back if the scan is added again.
        """
        with self._folder.replacing_labels:
            labels = self._files.path(name)
            # First, since the disk may be full, or the file unreadable.
            kept = self._files.put_aside(labels, move=False) if labels.exists() else None
            self._folder.change(
                lambda record: with_changes(
                    record, scans=tuple(scan for scan in record.scans if scan.name != name)
                )
            )
            self._scans.forget(name)
            labels.unlink(missing_ok=True)
            return kept

    def problem(self, name: str) -> str | None:
        """Why a scan or its labels cannot be used, in one sentence; None if they can.

        Sizes and times of the files of the scan are compared. Only where they differ, the scan is
        read and compared with its contents when it was added.
        """
        return self._scans.problem(name) or self._files.problem(name)

    def iter_problems(self, stop: StopFlag | None = None) -> Iterator[Event]:
        """Check every scan; the result of Done has the problems by scan, empty if there is none.

        Yields
        ------
        Event
            Progress, and last Done with a dict of str to str.
        """
        found: dict[str, str] = {}
        names = self.names
        for number, name in enumerate(names):
            if stop is not None and stop.is_set:
                yield Done(found, stopped=True)
                return
            yield Progress("scans checked", number, len(names))
            problem = self.problem(name)
            if problem is not None:
                found[name] = problem
        yield Progress("scans checked", len(names), len(names))
        yield Done(found)

    problems = as_function(
        iter_problems, dict[str, str], returns="The problem of each scan that has one."
    )

    def scans(self, role: Role | None = None, *, usable_only: bool = False) -> list[Series]:
        """Scans without their voxels, for ``core.pretrain``.

        Pretrain on ``scans("train")``, since held-out scans should not be used before the test.

        Parameters
        ----------
        role : {"train", "test"}, optional
            What the scans are used for; by default all scans.
        usable_only : bool
            Whether to leave out scans with a :meth:`problem`. Without it the problem is raised.
        """
        return [self.series(name) for name in self._usable(role, usable_only)]

    def unlabelled_scans(self, *, usable_only: bool = False) -> list[Series]:
        """Training scans without any done slice."""
        names = self._usable("train", usable_only)
        return [self.series(name) for name in names if not self.done(name)]

    def labelled_scans(
        self, role: Role = "train", *, usable_only: bool = False
    ) -> list[LabelledScan]:
        """Scans with done slices, for ``core.finetune`` and ``core.evaluate``.

        Parameters
        ----------
        role : {"train", "test"}
            What the scans are used for.
        usable_only : bool
            Whether to leave out scans with a :meth:`problem`. Without it the problem is raised.
        """
        return [
            LabelledScan(
                self.series(name),
                self.labels_path(name),
                self.done(name),
                class_names=self.class_names,
                ignore=UNKNOWN_VALUE,
                labelled_classes=self.labelled_classes(name),
            )
            for name in self._usable(role, usable_only)
            if self.done(name)
        ]

    def _usable(self, role: Role | None, usable_only: bool) -> Iterable[str]:
        names = [s.name for s in self.record.scans if role is None or s.role == role]
        problems = {name: found for name in names if (found := self.problem(name)) is not None}
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
        """Hold out a fraction of the labelled subjects, to choose the best weights.

        Whole subjects are held out, see
        :func:`~napari_sslseg.core.stages.finetune.split_validation`. With a single labelled
        subject there is no validation: the Dice on other slices of the same patient would be much
        too high for other patients.

        Parameters
        ----------
        share : float
            Fraction of the subjects, 0 to 1.
        seed : int
            Which subjects are chosen.
        usable_only : bool
            Whether to leave out scans with a :meth:`problem`. Without it the problem is raised.
        """
        from napari_sslseg.core.stages.finetune import split_validation

        labelled = self.labelled_scans(usable_only=usable_only)
        subjects = {self.entry(item.name).subject for item in labelled}
        note = None
        if len(subjects) < 2 and share > 0:
            note = (
                "All labelled slices are of one patient, so none is held out and there is no Dice; "
                "label a slice of another patient to get one."
            )
            return LabelledSplit(labelled, [], note if labelled else None)
        training, validation = split_validation(labelled, share, seed)
        held_out = sorted({self.entry(item.name).subject for item in validation})
        if validation and len(held_out) < 3:
            slices = sum(len(item.annotated or ()) for item in validation)
            patients = "one patient" if len(held_out) == 1 else f"{len(held_out)} patients"
            note = (
                f"The validation has {slices} slice{'' if slices == 1 else 's'} of {patients}, so "
                "its Dice is a rough guide."
            )
        return LabelledSplit(training, validation, note)

    def new_run_folder(self, kind: Literal["pretrain", "finetune"]) -> Path:
        """Create the empty folder of a new run, such as ``runs/pretrain-001``."""
        if kind not in ("pretrain", "finetune"):
            raise ProjectError(f"There is no kind of run {kind!r}; choose pretrain or finetune.")
        self._folder.check_unchanged()
        folder = self.folder / RUNS
        try:
            make_folder(folder)
            numbers = (re.fullmatch(rf"{kind}-(\d{{3,9}})", item.name) for item in folder.iterdir())
            number = max((int(found[1]) for found in numbers if found), default=0) + 1
            new = folder / f"{kind}-{number:03d}"
            new.mkdir()
            sync_folder(folder)
        except OSError as error:
            raise StorageError(
                f"Could not create a folder in {folder}: {error.strerror or error}; free some "
                "space, or make it writable."
            ) from error
        return new

    def runs(self) -> list[RunSummary]:
        """Summaries of the runs in the project; a damaged one has its ``problem`` instead."""
        folder = self.folder / RUNS
        return list_runs(folder) if folder.is_dir() else []
