"""Job that writes labels or predictions into a folder; never over a scan.

Needs no Qt.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.errors import DataError, SslsegError, StorageError
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, Progress, StopFlag
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.project.record import UNKNOWN_VALUE
from napari_sslseg.core.scans.classes.class_codes import Algorithm
from napari_sslseg.core.scans.slices.annotated import add_annotated, check_annotated
from napari_sslseg.gui.inspect.score_rows import removed_words
from napari_sslseg.gui.model.jobs import Tally
from napari_sslseg.gui.model.predictions import open_run, predict_scan, run_folder
from napari_sslseg.gui.text import plural
from napari_sslseg.gui.viewer.napari_window import collected_scan_warnings

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.project.record import ScanEntry
    from napari_sslseg.gui.model.session import Session

Events = Callable[[StopFlag, PauseFlag], Iterator[Event]]
DICOM_SUFFIX = ".dcm"
ACCEPTED = "accepted"
"""Key under which projects of early versions remember scans, without slices."""


def accepted_scans(project: "Project") -> tuple[str, ...]:
    """Return the scans whose labels contain an accepted prediction, by the project record."""
    early = project.recall(ACCEPTED, [])
    return tuple(s.name for s in project.record.scans if s.accepted or s.name in early)


def targets(
    project: "Project", run: str, names: Iterable[str], folder: Path, suffix: str
) -> dict[str, Path]:
    """Return the files to write, by scan.

    Parameters
    ----------
    run : str
        Run of the predictions; empty for the labels.

    Raises
    ------
    DataError
        If there are no labels to write.
    """
    found = {
        name: folder / f"{name}_{run or 'labels'}{suffix}"
        for name in names
        if run or project.has_labels(name)
    }
    if not found:
        raise DataError("There are no labels to export; label a slice in step 3 first.")
    return found


def refuse_scans(project: "Project", files: Iterable[Path]) -> None:
    """Refuse to overwrite scans, of a project or others; reads the files that exist.

    Raises
    ------
    StorageError
        If one of the files is a scan.
    """
    from napari_sslseg.core.scans.replacement import refuse_to_replace_scan

    there = [path for path in files if os.path.exists(path)]  # False if the name is too long.
    if not there:
        return
    used = {file.resolve() for scan in project.record.scans for file in _files(project, scan)}
    for path in there:
        if path.resolve() in used:
            raise StorageError(f"{path} is a scan and is not overwritten; choose another folder.")
        refuse_to_replace_scan(path)


def _files(project: "Project", entry: "ScanEntry") -> list[Path]:
    from napari_sslseg.core.project.sources import find_path

    path = find_path(entry, project.folder)
    return [path / file for file in entry.files] if entry.files else [path]


def _write_done(project: "Project", files: dict[str, Path]) -> None:
    """Write the slices of the labels that are done, since other slices are not background.

    The list is for ``napari-sslseg finetune --annotated``. Scans that were exported before stay
    in it.
    """
    slices = {name: project.done(name) for name in files}
    add_annotated(_slice_list(files.values()), slices, project.plane)


def _slice_list(files: Iterable[Path]) -> Path:
    return next(iter(files)).parent / "labels_slices.json"


def _class_names(project: "Project", run: str) -> dict[int, str]:
    """Names of the classes in exported files: those of the run that the project still has."""
    names = project.class_names
    if not run:
        return names
    from napari_sslseg.core.runs.run import Run

    trained = Run.open(run_folder(project, run)).class_names
    # The record of a run may lack the names.
    return {value: names[value] for value in trained if value in names} if trained else names


def _explain_unknown(name: str, path: Path) -> str:
    """What becomes of unknown voxels in an exported file."""
    if path.suffix == DICOM_SUFFIX:
        return (
            f"The unknown voxels of {name} are background in {path.name}, since DICOM has no value "
            "for them."
        )
    return (
        f"Unknown voxels have the value {UNKNOWN_VALUE} in {path.name}; on the command line give "
        f"--ignore-value {UNKNOWN_VALUE}."
    )


def _explain_empty(names: Sequence[str], run: str) -> str:
    """Say which exported files have no structure."""
    what = "predicted structure" if run else "label"
    verb = "has" if len(names) == 1 else "have"
    return f"{plural(len(names), 'file')} {verb} no {what}: {join_names(names, 6)}."


def export(session: "Session", run: str, files: dict[str, Path]) -> Events | None:
    """Return the job that writes the files; existing files are replaced, unless they are scans."""
    project = session.project
    if project is None:
        return None
    ready = {name: session.predictions.get(run, name) for name in files} if run else {}
    accepted = accepted_scans(project)

    def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
        from napari_sslseg.core.scans.classes.write_class_list import check_class_list
        from napari_sslseg.core.scans.formats.registry import stores_classes
        from napari_sslseg.core.scans.labels import save_labels

        refuse_scans(project, files.values())
        names = _class_names(project, run)
        if not run and files:
            check_annotated(_slice_list(files.values()))
        paths = [*files.values()]
        if paths and not stores_classes(paths[0]):  # The folder may have other classes.
            check_class_list(paths[0].parent, names, paths, overwrite=True)
        segmenter: Any = None
        written: list[str] = []
        empty: list[str] = []
        predicted: set[int] = set()
        failures: list[tuple[str, str]] = []
        for number, (name, path) in enumerate(files.items()):
            if stop.is_set:
                break
            yield Progress("Exporting", number, len(files))
            try:
                grid, found = project.labels(name, seen=False), None
                if run:
                    found = ready.pop(name)
                    if found is None:
                        segmenter = segmenter or open_run(project, run)
                        found = predict_scan(project, segmenter, name)
                by: Algorithm = "SEMIAUTOMATIC" if name in accepted else "MANUAL"
                values = grid.data
                if found:  # As it is shown, without structures that were removed.
                    values, by = found.labels_of(project.class_names), "AUTOMATIC"
                    predicted |= set(found.volumes())
                if (values == UNKNOWN_VALUE).any():
                    yield Message(_explain_unknown(name, path))
                    if path.suffix == DICOM_SUFFIX:
                        values = np.where(values == UNKNOWN_VALUE, 0, values)
                with collected_scan_warnings() as warned:
                    save_labels(
                        values, path, like=grid, classes=names, algorithm=by, overwrite=True
                    )
                for sentence in warned:
                    yield Message(sentence)
                written.append(name)
                if not values.any():
                    empty.append(name)
            except StorageError:
                raise  # The disk is full or the folder is gone: other files would fail too.
            except SslsegError as error:
                failures.append((name, str(error)))
        if not run and written:
            _write_done(project, {name: files[name] for name in written})
            if project.plane != "axial":
                yield Message(
                    f"labels_slices.json numbers {project.plane} slices; train on them with "
                    f"--plane {project.plane}."
                )
        removed = removed_words(project, run, predicted)
        if removed:
            yield Message(removed.strip())
        if empty:
            yield Message(_explain_empty(empty, run))
        tally = Tally("exported", len(written), len(files), tuple(failures))
        yield Done(tally, stopped=len(written) + len(failures) < len(files))

    return events
