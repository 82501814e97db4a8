"""The model of the window, without Qt: one project, one current scan, background jobs.

Panels connect to its signals and call its methods; state that outlives a panel is stored here. Slow
work runs in jobs, whose events :meth:`SessionJobs.pump` delivers.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import Event, Message, PauseFlag, StopFlag
from napari_sslseg.core.common.text import join_names
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem
from napari_sslseg.gui.model.predictions import Predictions
from napari_sslseg.gui.model.session_jobs import WRITING, WRITING_SECONDS, SessionJobs

if TYPE_CHECKING:
    from napari_sslseg.core.common.sizes import Plane
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.runs.listing import RunSummary
    from napari_sslseg.core.scans.volume import Volume
    from napari_sslseg.core.training.watch import Watch

SAVE_FIRST = "They are not saved; step 3 says why. Try it again when they are."
NEW_VALUES = (
    "The labels of {name} have values without a structure, which are listed as {classes} now; "
    "rename or remove them in step 3."
)
STOPPED_WITH_PROJECT = ("add", "find", "predict")
"""Kinds of jobs that are stopped when their project is closed."""

STOPPING_SECONDS = 5.0
"""How long a project that is being closed waits for such a job."""

NO_PROJECT = "There is no project; create or open one first."


class SessionBase(SessionJobs):
    """A project, its current scan and its runs.

    Attributes
    ----------
    scan_problems : dict of str to str
        Problems of scans that were checked, by scan name.
    project_changed : Signal
        A project was opened or closed.
    scans_changed : Signal
        Scans, their roles, problems or modalities changed.
    selected : Signal of str
        Name of the scan that was loaded and is current; empty if there is none.
    runs : list of RunSummary
        Content of ``runs/`` when it was last read.
    classes_changed, plane_changed, runs_changed : Signal
    classes_came : Signal of (tuple of str, tuple of str)
        Names of structures that the labels of these scans brought, not the user.
    done_changed : Signal of str
        Slices of this scan were marked or unmarked.
    labels_replaced : Signal of str
        The labels of this scan, which is not shown, were replaced on disk.
    knows_empty : bool
        Whether the user has confirmed once that a slice without labels can be done.
    leaving : bool
        Whether the project is being closed, so that no question may be asked.
    """

    project_changed = Signal()
    scans_changed = Signal()
    selected = Signal(str)
    classes_changed = Signal()
    classes_came = Signal(tuple, tuple)
    plane_changed = Signal()
    done_changed = Signal(str)
    labels_replaced = Signal(str)
    runs_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.project: Project | None = None
        self.current = ""
        self.volume: Volume | None = None
        self.labels: Volume | None = None
        self.leaving = self.knows_empty = False
        self._wanted = ""
        self._loading: object = None
        self._importing: set[str] = set()
        self.runs: list[RunSummary] = []
        self.watch: Watch | None = None
        self.scan_problems: dict[str, str] = {}
        self._before_closing: list[Callable[[], object]] = []
        self._while_loading: list[Callable[[], object]] = []
        self.predictions = Predictions(self, lambda: self.project)
        self.project_changed.connect(self.predictions.clear)
        self.plane_changed.connect(self.predictions.clear)

    # Projects

    def create(self, folder: str | Path) -> bool:
        """Create a project in a folder and open it. Returns whether it succeeded."""
        from napari_sslseg.core.project.project import Project

        return self._enter(lambda: Project.create(folder))

    def open(self, folder: str | Path) -> bool:
        """Open a project and close the one that was open. Returns whether it succeeded."""
        from napari_sslseg.core.project.project import Project

        if self.project is not None and self.project.folder == Path(folder).absolute():
            return True
        return self._enter(lambda: Project.open(folder))

    def may_change_project(self) -> bool:
        """Whether another project may be opened; if not, emits a problem that says why."""
        if self.training is not None:
            self.problem.emit(
                Problem("A training is running; stop it before you open another project.")
            )
            return False
        return not self.is_writing()

    def _enter(self, make: "Callable[[], Project]") -> bool:
        from napari_sslseg.core.project.recent import remember_project

        if not self.may_change_project():
            return False
        try:
            project = make()
        except SslsegError as error:
            self.problem.emit(Problem(str(error)))
            return False
        self.close()
        self.project, self.runs = project, []
        self.attempt(lambda: remember_project(project.folder))
        self.project_changed.emit()
        if project.note is not None:
            self.problem.emit(Problem(project.note))
        self.look_for_runs()
        last = project.recall("scan", "")
        if last in project.names:
            self.select(last)
        return True

    def close(self) -> None:
        """Save unsaved labels and close the project."""
        self.leaving = True
        for job in list(self.jobs):
            if job.kind in STOPPED_WITH_PROJECT:
                job.stop()
            if job.kind in WRITING or job.kind in STOPPED_WITH_PROJECT:
                job.wait(WRITING_SECONDS if job.kind in WRITING else STOPPING_SECONDS)
                job.pump()
        self.finish()
        project, self.project = self.project, None
        if project is None:
            self.leaving = False
            return
        self.runs = []
        self._importing = set()
        self.deselect()
        self.scan_problems = {}
        project.close()
        self.leaving = False
        self.project_changed.emit()

    def finish(self) -> bool:
        """Save unsaved labels. Returns whether everything is saved."""
        return False not in [finish() for finish in self._before_closing]

    def is_saved(self, what: str) -> bool:
        """Save unsaved labels; if that fails, say that ``what`` would use older ones."""
        if self.finish():
            return True
        self.problem.emit(
            Problem(f"{what} would use older labels than those on the screen. {SAVE_FIRST}")
        )
        return False

    def take(self, project: "Project") -> bool:
        """Use a project that is already open; the session closes it later."""
        return self._enter(lambda: project)

    def leave(self) -> None:
        """Save the labels of the current scan, and show no scan."""
        self.finish()
        self.deselect()

    def deselect(self) -> None:
        """Show no scan."""
        self._wanted = self.current = ""
        self._loading = None
        self.volume = self.labels = None
        if self.watch is not None:
            self.watch.look_away()  # Otherwise it keeps the scan in memory.
        self.selected.emit("")

    def before_closing(self, finish: Callable[[], object]) -> None:
        """Register a function to call before a project is closed. It returns False if it fails."""
        self._before_closing.append(finish)

    def while_loading(self, prepare: Callable[[], object]) -> None:
        """Register a function to call in the thread that loads a scan, before it is shown."""
        self._while_loading.append(prepare)

    def attempt(self, work: Callable[[], Any]) -> bool:
        """Call a quick function and report its SslsegError. Returns whether it succeeded."""
        try:
            work()
        except SslsegError as error:
            self.problem.emit(Problem(str(error)))
            return False
        return True

    def remember(self, key: str, value: Any) -> None:
        """Let the project remember a choice; not worth an error, such as that of a full disk."""
        if self.project is not None:
            with suppress(SslsegError):
                self.project.remember(key, value)

    # Scans

    @property
    def held_out(self) -> bool:
        """Whether the patient of the current scan is held out: done slices are for scores only."""
        project = self.project
        return (
            project is not None
            and self.current in project.names
            and project.entry(self.current).role == "test"
        )

    def add(self, paths: Iterable[str | Path]) -> Job | None:
        """Add scans from files, folders and DICOM trees, in the background."""
        project = self.project
        if project is None:
            self.problem.emit(Problem(NO_PROJECT, kind="no project"))
            return None
        wanted = list(paths)

        def ended(outcome: Outcome) -> None:
            # Loads the scan before others are read for their thumbnails.
            if self.project is not project or self.leaving:
                return
            if not self.current and project.names:
                self.select(project.names[0])
            self.scans_changed.emit()

        return self.run(
            "add",
            "Adding scans",
            lambda stop, pause: project.iter_add_scans(wanted, stop=stop),
            ended,
        )

    def select(self, name: str) -> None:
        """Load a scan in the background and make it the current one."""
        project = self.project
        if project is None:
            return
        if name == self.current and self.volume is not None:
            self._wanted, self._loading = name, None  # Another one may be loading.
            return
        found: list[tuple[Volume, Volume]] = []
        added: list[str] = []
        self._wanted = name
        self._loading = loading = None if name in self._importing else object()
        if loading is None:
            self.note.emit(f"{name} opens when its labels are imported.")
            return

        def load(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            volume, labels = project.load(name), project.labels(name)
            new = () if project.read_only else project.add_missing_classes(labels.data)
            added.extend(item.name for item in new)
            found.append((volume, labels))
            for prepare in self._while_loading:
                prepare()
            yield Message(f"{name} is loaded.")

        def ended(outcome: Outcome) -> None:
            loaded = found.pop() if found else None  # Else it lives as long as the job.
            # The last requested scan is shown, even if an earlier one takes longer to load.
            if loaded is not None and self.project is project and self._loading is loading:
                self._loading = None
                if name not in project.names:  # It was removed during loading.
                    return
                self.finish()
                self.current = name
                self.volume, self.labels = loaded
                self.remember("scan", name)
                if added:
                    self.classes_changed.emit()
                    self.remark.emit(NEW_VALUES.format(name=name, classes=join_names(added)))
                self.selected.emit(name)
                if added:
                    self.classes_came.emit(tuple(added), (name,))

        self.run("load", f"Loading {name}", load, ended)

    def select_neighbour(self, step: int) -> None:
        """Show the next scan of the project that can be used, or the one before (``step`` -1)."""
        project = self.project
        if project is None:
            return
        names = [n for n in project.names if n not in self.scan_problems or n == self._wanted]
        if self._wanted not in names:
            return
        place = names.index(self._wanted) + step
        if 0 <= place < len(names):
            self.select(names[place])
        else:
            self.note.emit(f"{self._wanted} is the {'last' if step > 0 else 'first'} scan.")

    def load_again(self) -> None:
        """Restart loading the scan that is being loaded, because its labels have changed."""
        if self._loading is not None:
            self.select(self._wanted)

    def begin_import(self, name: str) -> None:
        """Hide a scan until its labels are imported, so that the user does not draw on it."""
        self._importing.add(name)
        if self.current == name:
            self.deselect()
            self._wanted = name
        if self._wanted == name:
            self._loading = None  # The labels being loaded are the old ones.

    def end_import(self, name: str) -> None:
        """Show a scan whose labels were imported, if it was shown or requested before."""
        self._importing.discard(name)
        self.labels_replaced.emit(name)
        if self._wanted == name:
            self.select(name)

    def set_role(self, name: str, role: Any) -> None:
        """Set the role of a patient through one of the scans of that patient."""
        project = self.project
        others: list[str] = []
        if project is not None and self.attempt(
            lambda: others.extend(other for other in project.set_role(name, role) if other != name)
        ):
            if others:
                self.note.emit(
                    f"{name} and the other scans of this patient ({', '.join(others)}) are now "
                    + ("for training." if role == "train" else "held out.")
                )
            self.scans_changed.emit()

    def set_modality(self, names: Iterable[str], modality: Any) -> None:
        """Correct the modality of scans."""
        project = self.project
        if project is None:
            return
        names = [name for name in names if project.entry(name).modality != modality]
        if names and self.attempt(lambda: [project.set_modality(name, modality) for name in names]):
            self.predictions.clear()
            if self.current in names and self.finish():  # Its window depends on it.
                shown = self.current
                self.deselect()
                self.select(shown)
            self.scans_changed.emit()

    def set_patient(self, names: Iterable[str], patient: str) -> None:
        """Set the patient of scans, which takes the use of the other scans of that patient."""
        project = self.project
        if project is None:
            return
        names = list(names)
        before = {name: project.entry(name).role for name in names}
        changed = []
        for name in names:
            if not self.attempt(lambda name=name: project.set_subject(name, patient)):  # type: ignore[misc]
                break
            if project.entry(name).role != before[name]:
                changed.append(name)
        if changed:
            use = "for training" if project.entry(changed[0]).role == "train" else "held out"
            verb = "is" if len(changed) == 1 else "are"
            self.note.emit(
                f"{', '.join(changed)} {verb} now {use}, as the other scans of {patient} are."
            )
        self.scans_changed.emit()

    def set_labelled_classes(self, names: Iterable[str], classes: Iterable[int] | None) -> None:
        """Say which classes are labelled in scans; None for all."""
        project = self.project
        if project is None:
            return
        values = None if classes is None else tuple(classes)
        for name in names:
            if not self.attempt(lambda name=name: project.set_labelled_classes(name, values)):  # type: ignore[misc]
                break
            self.done_changed.emit(name)
        self.scans_changed.emit()

    # Done slices

    def mark_done(
        self, name: str, slices: Iterable[int], done: bool = True, plane: "Plane | None" = None
    ) -> None:
        """Mark or unmark slices as done. With a plane, only if the project has that plane."""
        project = self.project
        if project is None:
            return
        wanted = list(slices)
        change = project.mark_done if done else project.unmark
        if self.attempt(lambda: change(name, wanted, plane)):
            self.done_changed.emit(name)

    # Runs

    def look_for_runs(self) -> None:
        """Read the list of runs in the background; then ``runs_changed`` is emitted."""
        project = self.project
        found: list[RunSummary] = []
        if project is None:
            return

        def look(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            found.extend(project.runs())
            yield from ()

        def ended(outcome: Outcome) -> None:
            if self.project is project and outcome.problem is None:
                self.runs = found
                self.runs_changed.emit()

        self.run("look", "Reading the list of runs", look, ended)
