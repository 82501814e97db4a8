"""Edits of the classes of a project that notify the window. Needs no Qt."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.errors import ClassInUseError
from napari_sslseg.core.common.events import Done, Event, PauseFlag, StopFlag
from napari_sslseg.core.common.text import fold_name, join_names
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem
from napari_sslseg.gui.text import plural
from napari_sslseg.gui.viewer.quick_layers.standing_layers import Strokes

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene


IN_USE = "“{name}” is labelled in {count} ({scans}). Remove it there, too?"
EMPTIED = (
    "{slices} of {scans} had no label but “{name}”, and {verb} no longer done. Where no other "
    "structure is visible, mark again."
)
TAKEN = "There is a structure “{name}” already; choose another name."


def add_class(session: "Session") -> int | None:
    """Add a class with a free name; return its value, or None if it was refused."""
    project = session.project
    if project is None:
        return None
    taken = {fold_name(item.name) for item in project.classes}
    number = len(project.classes) + 1
    while fold_name(f"structure {number}") in taken:
        number += 1
    made: list[int] = []
    session.attempt(lambda: made.append(project.add_class(f"structure {number}").value))
    session.classes_changed.emit()
    return made[0] if made else None


def rename_class(session: "Session", value: int, name: str) -> int:
    """Rename a class; return its value, which is that of a removed class of the name."""
    project = session.project
    if project is None:
        return value
    taken = {fold_name(item.name): item for item in project.classes if item.value != value}
    other = taken.get(fold_name(name.strip()))
    if other is not None:
        session.classes_changed.emit()  # The list shows the old name again.
        session.problem.emit(Problem(TAKEN.format(name=other.name), kind="taken name"))
        return value
    session.finish()  # A class without voxels may get another value.
    renamed: list[int] = []
    session.attempt(lambda: renamed.append(project.rename_class(value, name).value))
    session.classes_changed.emit()
    return renamed[0] if renamed else value


def recolour_class(session: "Session", value: int, colour: str) -> bool:
    """Change the colour of a class; return whether it succeeded."""
    project = session.project
    worked = project is not None and session.attempt(lambda: project.recolour_class(value, colour))
    session.classes_changed.emit()
    return worked


def remove_class(
    session: "Session",
    scene: "Scene",
    value: int,
    ask: Callable[[str], bool],
    erase: bool = False,
    then: Callable[[], object] | None = None,
) -> Job | None:
    """Remove a class in the background, because the labels of all scans are read.

    Parameters
    ----------
    session, scene
        Session and labels layer to change.
    value : int
        Value of the class.
    ask : callable
        Called with the reason if labels use the class; returns whether to erase it from them.
    erase : bool
        Whether to erase it without asking.
    then : callable, optional
        Called when the class is removed.
    """
    project, keeper = session.project, scene.autosaver
    if project is None or session.is_writing() or not keeper.flush():
        return None
    keeper.held += 1  # Autosave must not write the erased class again.
    label = project.class_names.get(value, "")
    unmarked: dict[str, int] = {}

    def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
        done = {scan.name: scan.done_slices for scan in project.record.scans}
        try:
            for name in project.remove_class(value, erase=erase):
                lost = len({*done[name]} - {*project.done(name)})
                if lost:
                    unmarked[name] = lost
        except ClassInUseError as error:
            count = plural(len(error.scans), "scan")
            yield Done(IN_USE.format(name=error.name, count=count, scans=join_names(error.scans)))
        else:
            yield Done(None)

    def ended(outcome: Outcome) -> None:
        removed = outcome.problem is None and outcome.result is None
        if removed and erase and session.project is project:
            session.structures.forget(value)  # Otherwise a lock would keep it.
            with keeper.own_edit():
                _erase(scene.labels, value)
            keeper.erase(value)
            session.load_again()
            for name in unmarked:
                session.done_changed.emit(name)
            if unmarked:
                session.remark.emit(_explain_emptied(unmarked, label))
        keeper.held -= 1
        session.classes_changed.emit()
        if removed and then is not None and session.project is project:
            then()
        refused = outcome.result
        if refused is not None and not session.leaving and ask(refused):
            remove_class(session, scene, value, ask, True, then)

    return session.run("classes", "Removing a structure", events, ended)


def _explain_emptied(unmarked: Mapping[str, int], label: str) -> str:
    """Say how many slices, by scan, are no longer done since they lost their last label."""
    count = sum(unmarked.values())
    return EMPTIED.format(
        slices=plural(count, "slice"),
        scans=join_names(list(unmarked)),
        name=label,
        verb="is" if count == 1 else "are",
    )


def _erase(layer: Any, value: int) -> None:
    """Set a value to background in the layer; it and what was drawn before cannot be undone.

    Undoing would bring back voxels of a structure that does not exist.
    """
    found = np.nonzero(layer.data == value) if layer is not None else ()
    if found and found[0].size:
        layer.data_setitem(found, 0)
        Strokes.take(layer)
