"""A project of procedural patients, to try the panel without scans of one's own. Needs no Qt."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sslseg.core.common.events import Event, PauseFlag, Progress, StopFlag
from napari_sslseg.core.common.user_folders import user_data_folder
from napari_sslseg.gui.scans.project_bar import free_path

if TYPE_CHECKING:
    from napari_sslseg.gui.model.jobs import Job, Outcome
    from napari_sslseg.gui.model.session import Session

PATIENTS = 6
NAME = "example patients"
CLASSES = 3
MADE = (
    "{count} procedural patients are in {folder}. Label a few slices of two of them in step 3; the "
    "structures are in the list there."
)


def examples_folder() -> Path:
    """Return the folder that gets projects of example patients."""
    return user_data_folder() / "examples"


def make_example(session: "Session") -> "Job | None":
    """Write patients, and open a project of them with structures, in the background."""
    if not session.may_change_project():
        return None
    folder = free_path(examples_folder() / NAME)

    def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
        from napari_sslseg.core.demo.phantom.patient import write_dataset

        for number in range(PATIENTS):
            if stop.is_set:
                return
            yield Progress("Example patients", number, PATIENTS)
            write_dataset(folder / "scans", 1, seed=number, labels=False)
        yield Progress("Example patients", PATIENTS, PATIENTS)

    def ended(outcome: "Outcome") -> None:
        if outcome.problem is None and not outcome.stopped and session.create(folder / "project"):
            _fill(session, folder)

    return session.run("example", "Making example patients", events, ended)


def _fill(session: "Session", folder: Path) -> None:
    """Add the structures and the scans to the new project."""
    from napari_sslseg.core.demo.phantom.patient import PHANTOM_CLASSES

    project = session.project
    if project is None:
        return
    for name in list(PHANTOM_CLASSES.values())[:CLASSES]:
        project.add_class(name)
    session.classes_changed.emit()
    session.add([folder / "scans" / "images"])
    session.note.emit(MADE.format(count=PATIENTS, folder=folder))
