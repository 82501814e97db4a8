"""Actions on the scans of a project: check, find, remove, import labels. Needs no Qt."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, Progress, StopFlag
from napari_sslseg.core.common.sizes import Plane
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.project.record import UNKNOWN_VALUE
from napari_sslseg.core.scans.classes.renumber import values_in
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem, Tally

if TYPE_CHECKING:
    from napari_sslseg.core.project.add import AddedScans
    from napari_sslseg.core.project.labels import DoneSlices, LabelSource
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.scans.classes.class_map import ClassMap
    from napari_sslseg.core.scans.classes.matching import Structure
    from napari_sslseg.gui.model.session import Session


READING = ("load", "predict", "export", "pretrain", "finetune")
"""Kinds of jobs that read scans."""

UNSAVED = "Some labels are not saved yet, so {what}; step 3 shows why."

LABELS = "{path} contains labels, not a scan; select {scan} and press Import labels…"

UNKNOWN_KEPT = (
    f"The value {UNKNOWN_VALUE} is kept as unknown in the labels of {{scans}}: no structure, and "
    "not background."
)


class ScanActions:
    """Checks, finds and removes scans, and imports labels.

    Parameters
    ----------
    session : Session
        Session whose project is changed.

    Attributes
    ----------
    left_out : tuple of (Path, str)
        Files that the last attempt did not add, with the reasons.
    notes : tuple of str
        What the user should know about the scans that were added, such as doubts about patients.
    changed : Signal
        The problems or ``left_out`` changed.
    """

    changed = Signal()

    def __init__(self, session: "Session") -> None:
        self.session = session
        self.left_out: tuple[tuple[Path, str], ...] = ()
        self.notes: tuple[str, ...] = ()
        self._said: list[str] = []
        self._owners: tuple[tuple[Path, str | None], ...] = ()
        self._checking: tuple[Project, Job] | None = None
        session.project_changed.connect(self._begin)
        session.job_events.connect(self._listen)
        session.job_ended.connect(self._hear)
        self._begin()

    @property
    def problems(self) -> dict[str, str]:
        """Problems of scans by name."""
        return self.session.scan_problems

    def running(self, kind: str) -> Job | None:
        """Return the running job of a kind, if there is one."""
        return next((job for job in self.session.jobs if job.kind == kind and job.active), None)

    def check(self) -> None:
        """Check in the background that no scan is missing or changed."""
        project = self.session.project
        if self._checking is not None:
            checked, job = self._checking
            if checked is project:
                return
            job.stop()  # It checks a project that was closed.
            self._checking = None
        if project is None:
            return

        def ended(outcome: Outcome) -> None:
            if self._checking is not None and self._checking[0] is project:
                self._checking = None
            if self.session.project is not project or not isinstance(outcome.result, dict):
                return
            new, self.session.scan_problems = outcome.result != self.problems, outcome.result
            self.changed.emit()
            if new:
                self.session.scans_changed.emit()

        job = self.session.run(
            "check", "Checking scans", lambda stop, pause: project.iter_problems(stop), ended
        )
        self._checking = (project, job)

    def find(self, name: str, path: str | Path) -> Job | None:
        """Set the new place of a scan, and look there for other missing scans."""
        project = self.session.project
        if project is None:
            return None
        before = project.scan_path(name)
        now = Path(path)
        others = [other for other in self.problems if other != name and other in project.names]

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            project.relocate(name, now)
            found = [name]
            for number, other in enumerate(others):
                yield Progress("Looking for other scans", number, len(others))
                old = project.scan_path(other)
                place = now.parent / old.name
                if old.parent != before.parent or not place.exists():
                    continue
                try:
                    project.relocate(other, place)
                except SslsegError:
                    continue  # Another scan with that file name; the scan stays missing.
                found.append(other)
            yield Done(tuple(found))

        def ended(outcome: Outcome) -> None:
            for other in outcome.result or ():
                self.problems.pop(other, None)
            if outcome.result and len(outcome.result) > 1:
                self.session.note.emit(f"{len(outcome.result)} scans were found in that folder.")
            self.changed.emit()
            self.session.scans_changed.emit()

        return self.session.run("find", f"Finding {name}", events, ended)

    def remove(self, names: Sequence[str]) -> None:
        """Remove scans from the project; their labels are moved to a backup folder."""
        project = self.session.project
        if project is None:
            return
        if self.session.training is not None:
            self.session.problem.emit(
                Problem("A training is running; stop it before you remove scans.")
            )
            return
        if self.session.is_writing():
            return
        if not self.session.finish():
            self.session.problem.emit(Problem(UNSAVED.format(what="no scan is removed")))
            return
        if self.session.current in names:
            self.session.deselect()
        kept: list[Path] = []

        def remove(name: str) -> None:
            aside = project.remove_scan(name)
            self.problems.pop(name, None)
            if aside is not None:
                kept.append(aside)

        for name in names:
            if not self.session.attempt(lambda name=name: remove(name)):  # type: ignore[misc]
                break
        if kept:
            what = "Its labels are" if len(kept) == 1 else f"{len(kept)} files of labels are"
            self.session.note.emit(f"{what} kept in {kept[0].parent}.")
        self._forget_left_out(names)
        self.session.scans_changed.emit()

    def _forget_left_out(self, removed: Sequence[str]) -> None:
        """Forget the files that were left out with scans that are removed."""
        project = self.session.project
        if project is None or not project.names:
            self.left_out, self.notes, self._owners = (), (), ()
            return
        theirs = {path for path, name in self._owners if name in removed}
        self._owners = tuple(item for item in self._owners if item[0] not in theirs)
        self.left_out = tuple(item for item in self.left_out if item[0] not in theirs)

    def read_classes(
        self, name: str, path: "LabelSource", then: "Callable[[Sequence[Structure]], None]"
    ) -> Job | None:
        """Find which classes the structures in a label file are, and call ``then`` with them."""
        session, project = self.session, self.session.project
        if project is None or session.is_writing():
            return None

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            yield Message(f"Reading labels of {name}.")
            yield Done(project.label_classes(name, path))

        def ended(outcome: Outcome) -> None:
            if session.project is project and outcome.problem is None and not outcome.stopped:
                then(outcome.result)

        return session.run("classes-of-file", f"Reading labels of {name}", events, ended)

    def import_labels(
        self,
        name: str,
        path: "LabelSource",
        done: "DoneSlices",
        class_map: "ClassMap | None" = None,
    ) -> Job | None:
        """Import labels from a file, or from files of one structure each.

        The current labels are moved to a backup folder.
        """
        session, project = self.session, self.session.project
        if project is None:
            return None
        if session.is_writing():
            return None
        if not session.finish():
            session.problem.emit(Problem(UNSAVED.format(what="none are imported")))
            return None
        # Labels cannot be edited during the import, and no earlier edit is saved over them.
        session.begin_import(name)
        before = project.class_names
        found: set[int] = set()

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            yield Message(f"Reading labels of {name}.")
            marked = project.import_labels(name, path, done, class_map)
            found.update(_values(project, name))
            yield Done(marked)

        def ended(outcome: Outcome) -> None:
            if session.project is not project:
                return
            if outcome.problem is None:
                count = len(outcome.result)
                slices = "1 slice is" if count == 1 else f"{count or 'no'} slices are"
                session.note.emit(f"The labels of {name} were imported; {slices} done.")
                self._remark(project, {name: found}, before)
            session.classes_changed.emit()
            session.done_changed.emit(name)
            session.scans_changed.emit()
            session.end_import(name)
            self._tell_new(project, before, (name,))

        return session.run("import", f"Importing labels of {name}", events, ended)

    def import_found(self, done: "DoneSlices") -> Job | None:
        """Import the labels that were found beside scans without labels, see ``found_labels``."""
        session, project = self.session, self.session.project
        if project is None or session.is_writing():
            return None
        if not session.finish():
            session.problem.emit(Problem(UNSAVED.format(what="none are imported")))
            return None
        found = self.found_labels
        values: dict[str, set[int]] = {}
        before = project.class_names
        for name in found:
            session.begin_import(name)

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            imported: list[str] = []
            values.clear()
            problems: list[str] = []
            for number, (name, files) in enumerate(found.items()):
                yield Progress("labels imported", number, len(found))
                if stop.is_set:
                    break
                try:
                    project.import_labels(name, files, done)
                except SslsegError as error:
                    problems.append(f"The labels of {name} were not imported: {error}")
                else:
                    imported.append(name)
                    values[name] = _values(project, name)
            yield Done((imported, problems))

        def ended(outcome: Outcome) -> None:
            if session.project is not project:
                return
            imported, problems = outcome.result or ((), ())
            taken = {path for name in imported for path in found[name]}
            self.left_out = tuple(item for item in self.left_out if item[0] not in taken)
            if imported:
                count = len(imported)
                scans = "1 scan" if count == 1 else f"{count} scans"
                session.note.emit(f"The labels of {scans} were imported.")
                self._remark(project, values, before)
            for problem in problems[:1]:
                more = f" {len(problems) - 1} others were not either." if problems[1:] else ""
                session.problem.emit(Problem(f"{problem}{more}"))
            session.classes_changed.emit()
            for name in found:
                session.done_changed.emit(name)
            session.scans_changed.emit()
            for name in found:
                session.end_import(name)
            self.changed.emit()
            self._tell_new(project, before, imported)

        return session.run("import", "Importing labels", events, ended)

    def _remark(
        self, project: "Project", values: Mapping[str, set[int]], before: Mapping[int, str]
    ) -> None:
        """Say what the user should know about imported labels.

        Parameters
        ----------
        project : Project
        values : mapping of str to set of int
            Values in the labels of each imported scan.
        before : mapping of int to str
            Classes of the project before the import.
        """
        scans = join_names(list(values), 3)
        new = _new_classes(project, before)
        sentences = [f"New classes: {join_names(new, 6)}, by the labels of {scans}."]
        if not before or not new:
            sentences.clear()
        unknown = [name for name, found in values.items() if UNKNOWN_VALUE in found]
        if unknown:
            sentences.append(UNKNOWN_KEPT.format(scans=join_names(unknown, 3)))
        sentences += _absent_words(project, values)
        if sentences:
            self.session.remark.emit(" ".join(sentences))

    def _tell_new(
        self, project: "Project", before: Mapping[int, str], scans: Sequence[str]
    ) -> None:
        """Report classes that imported labels brought, for the done slices of other scans."""
        new = _new_classes(project, before)
        if new:
            self.session.classes_came.emit(tuple(new), tuple(scans))

    @property
    def found_labels(self) -> dict[str, tuple[Path, ...]]:
        """Label files among those left out, by the scan without labels that they belong to."""
        project = self.session.project
        found: dict[str, tuple[Path, ...]] = {}
        if project is None:
            return found
        left = {path for path, _ in self.left_out}
        names = {name for name in project.names if not project.has_labels(name)}
        for path, name in self._owners:
            if path in left and name in names:
                found[name] = (*found.get(name, ()), path)
        return found

    def done_total(self) -> int:
        """Count the slices that are done in all scans."""
        project = self.session.project
        return sum(scan.done_count for scan in project.record.scans) if project else 0

    def set_plane(self, plane: Plane, *, unmark: bool = False) -> bool:
        """Set the plane of the project; return whether it succeeded."""
        session, project = self.session, self.session.project
        if project is None or project.plane == plane:
            return project is not None
        session.finish()  # Pending marks belong to the old plane.
        marked = [name for name in project.names if project.done(name)]
        if not session.attempt(lambda: project.set_plane(plane, unmark=unmark)):
            return False
        session.plane_changed.emit()
        for name in marked:
            session.done_changed.emit(name)
        if marked:
            session.scans_changed.emit()
        return True

    def _begin(self) -> None:
        self.session.scan_problems, self.left_out, self._owners = {}, (), ()
        self.notes, self._said = (), []
        self.check()
        self.changed.emit()

    def _listen(self, job: Job, events: Sequence[object]) -> None:
        if job.kind == "add":
            self._said += [event.text for event in events if isinstance(event, Message)]

    def _hear(self, job: Job, outcome: Outcome) -> None:
        tally = outcome.result
        failed = isinstance(tally, Tally) and tally.failures
        if job.kind in READING and (outcome.problem is not None or failed):
            self.check()  # A scan may be missing since the last check.
        result: AddedScans | None = outcome.result if job.kind == "add" else None
        if result is not None:
            labels = dict(result.labels)
            self._owners = result.labels
            self.notes, self._said = tuple(dict.fromkeys(self._said)), []
            self.left_out = tuple(
                (path, LABELS.format(path=path, scan=labels[path] or "the scan they belong to"))
                if path in labels
                else (path, sentence)
                for path, sentence in result.problems
            )
            if result.added or not result.problems:
                count = len(result.added)
                self.session.note.emit(f"{count} scan{'' if count == 1 else 's'} added.")
            self.changed.emit()


def _values(project: "Project", name: str) -> set[int]:
    """Values in the labels of a scan."""
    return set(values_in(project.labels(name, seen=False).data))


def _new_classes(project: "Project", before: Mapping[int, str]) -> list[str]:
    """Names of the classes that the project did not have before."""
    return [name for value, name in project.class_names.items() if value not in before]


def _absent_words(project: "Project", values: Mapping[str, set[int]]) -> list[str]:
    """Say which structures imported labels lack, which are background on done slices."""
    names = project.class_names
    absent = {
        scan: [text for value, text in names.items() if value not in found]
        for scan, found in values.items()
        # Otherwise the user has said which structures are labelled.
        if project.done(scan) and project.labelled_classes(scan) is None
    }
    scans = [scan for scan, missing in absent.items() if missing]
    if not scans:
        return []
    missing = [text for text in names.values() if any(text in absent[scan] for scan in scans)]
    are = "is" if len(missing) == 1 else "are"
    return [
        f"{join_names(missing, 6)} {are} not in the labels of {join_names(scans, 3)}, and taught "
        "as background on the done slices; if they were not labelled there, choose “Labelled "
        "structures…” in the menu of the scan."
    ]
