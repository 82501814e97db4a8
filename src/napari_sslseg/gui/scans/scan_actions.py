"""What a person does with the scans of a project, apart from the widgets that ask for it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, Progress, StopFlag
from napari_sslseg.core.common.sizes import Plane
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem

if TYPE_CHECKING:
    from napari_sslseg.core.project.add import AddedScans
    from napari_sslseg.core.project.labels import DoneSlices
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.gui.model.session import Session


UNSAVED = "Some labels are not saved yet, so {what}; step 3 says what is wrong with them."

LABELS = "{path}: these are labels, not a scan; choose {scan} and press Import labels…"


class ScanActions:
    """Checks, finds, removes scans and imports labels of them.

    Parameters
    ----------
    session : Session
        Whose project it is.

    Attributes
    ----------
    left_out : tuple of (Path, str)
        What was not added the last time, with the reasons.
    changed : Signal
        One of them changed.
    """

    changed = Signal()

    def __init__(self, session: "Session") -> None:
        self.session = session
        self.left_out: tuple[tuple[Path, str], ...] = ()
        self._checking: tuple[Project, Job] | None = None
        session.project_changed.connect(self._begin)
        session.job_ended.connect(self._hear)
        self._begin()

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with scans, by their names."""
        return self.session.scan_problems

    def running(self, kind: str) -> Job | None:
        """A job of a kind that runs."""
        return next((job for job in self.session.jobs if job.kind == kind and job.active), None)

    def check(self) -> None:
        """Look in the background whether all scans are there, and the same."""
        project = self.session.project
        if self._checking is not None:
            checked, job = self._checking
            if checked is project:
                return
            job.stop()  # It looks through a project that is closed.
            self._checking = None
        if project is None:
            return

        def ended(outcome: Outcome) -> None:
            if self._checking is not None and self._checking[0] is project:
                self._checking = None
            if self.session.project is project and isinstance(outcome.result, dict):
                self.session.scan_problems = outcome.result
                self.changed.emit()

        job = self.session.run(
            "check", "Checking scans", lambda stop, pause: project.iter_problems(stop), ended
        )
        self._checking = (project, job)

    def find(self, name: str, path: str | Path) -> Job | None:
        """Say where a scan is now; others that are missing are looked for in the same place."""
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
                yield Progress("Looking for the others", number, len(others))
                old = project.scan_path(other)
                place = now.parent / old.name
                if old.parent != before.parent or not place.exists():
                    continue
                try:
                    project.relocate(other, place)
                except SslsegError:
                    continue  # Another file of that name; its scan stays missing.
                found.append(other)
            yield Done(tuple(found))

        def ended(outcome: Outcome) -> None:
            for other in outcome.result or ():
                self.problems.pop(other, None)
            if outcome.result and len(outcome.result) > 1:
                self.session.note.emit(f"{len(outcome.result)} scans were found there.")
            self.changed.emit()
            self.session.scans_changed.emit()

        return self.session.run("find", f"Finding {name}", events, ended)

    def remove(self, names: Sequence[str]) -> None:
        """Take scans out of the project; their labels are put aside."""
        project = self.session.project
        if project is None:
            return
        if self.session.training is not None:
            self.session.problem.emit(
                Problem("A training runs; stop it before scans are removed from the project.")
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
        self.session.scans_changed.emit()

    def import_labels(self, name: str, path: str | Path, done: "DoneSlices") -> Job | None:
        """Take labels from a file; those that the scan had are put aside."""
        session, project = self.session, self.session.project
        if project is None:
            return None
        if session.is_writing():
            return None
        if not session.finish():
            session.problem.emit(Problem(UNSAVED.format(what="none are imported")))
            return None
        # Nobody draws meanwhile, and nothing that was drawn before is written over them.
        session.begin_import(name)

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            yield Message(f"Labels of {name} are read.")
            yield Done(project.import_labels(name, path, done))

        def ended(outcome: Outcome) -> None:
            if session.project is not project:
                return
            if outcome.problem is None:
                count = len(outcome.result)
                slices = "1 slice is" if count == 1 else f"{count or 'no'} slices are"
                session.note.emit(f"{name} has labels now; {slices} done.")
            session.classes_changed.emit()
            session.done_changed.emit(name)
            session.scans_changed.emit()
            session.end_import(name)

        return session.run("import", f"Importing labels of {name}", events, ended)

    def done_total(self) -> int:
        """How many slices are done, of all scans."""
        project = self.session.project
        return sum(scan.done_count for scan in project.record.scans) if project else 0

    def set_plane(self, plane: Plane, *, unmark: bool = False) -> bool:
        """Choose the plane of the project; whether that worked."""
        session, project = self.session, self.session.project
        if project is None or project.plane == plane:
            return project is not None
        session.finish()  # Slices are done along the plane in which they were marked.
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
        self.session.scan_problems, self.left_out = {}, ()
        self.check()
        self.changed.emit()

    def _hear(self, job: Job, outcome: Outcome) -> None:
        result: AddedScans | None = outcome.result if job.kind == "add" else None
        if result is not None:
            labels = dict(result.labels)
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
