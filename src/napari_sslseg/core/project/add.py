"""Scans into a project, one after another: what can be read is kept, and the rest is told."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import Done, Event, Message, Progress, StopFlag
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.project.label_owners import LabelOwners, is_picture, may_be_labels
from napari_sslseg.core.project.names import free_name
from napari_sslseg.core.project.record import ProjectRecord, Role, ScanEntry, changed, made
from napari_sslseg.core.project.sources import (
    content,
    files_within,
    read_scan,
    reason,
    stamp,
    stored_paths,
)
from napari_sslseg.core.scans.find import is_slice, whole_series
from napari_sslseg.core.scans.label_guess import LABEL_MODALITIES
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Modality

if TYPE_CHECKING:
    from napari_sslseg.core.project.scans import ProjectScans


@dataclass(frozen=True)
class AddedScans:
    """What became of the files that were to be added.

    Attributes
    ----------
    added : tuple of str
        Names of the scans in the project.
    problems : tuple of (Path, str)
        Files and folders that were not added, each with the reason in one sentence; among them
        scans that are in the project already.
    labels : tuple of (Path, str or None)
        Files among them that hold labels, each with the name of the scan in the project that they
        clearly belong to.
    """

    added: tuple[str, ...]
    problems: tuple[tuple[Path, str], ...]
    labels: tuple[tuple[Path, str | None], ...] = ()


def iter_add(
    project: "ProjectScans",
    paths: str | Path | Iterable[str | Path],
    role: Role,
    modality: Modality | None,
    anyway: bool,
    stop: StopFlag | None,
) -> Iterator[Event]:
    """Do as :meth:`~napari_sslseg.core.project.scans.ProjectScans.iter_add_scans` says."""
    wanted = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    found = _Found()
    listed: list[Series] = []
    groups = _groups(wanted)
    for number, group in enumerate(groups):
        yield Progress("places searched", number, len(groups))
        try:
            listed += whole_series(group)
        except (SslsegError, OSError) as error:
            found.problems.append((group[0], reason(error)))
    doubtful: list[Series] = []
    for number, series in enumerate(listed):
        if stop is not None and stop.is_set:
            yield Done(found.result(), stopped=True)
            return
        yield Progress("scans read", number, len(listed))
        try:
            name, notes = _add(project, series, role, modality, anyway)
        except _DoubtError:
            doubtful.append(series)
        except (_LeftOutError, SslsegError, OSError) as error:
            found.leave_out(series, error)
        else:
            found.added.append(name)
            yield from map(Message, notes)
    # Last, since what tells labels from scans may be the scan that was named after them.
    owners = LabelOwners(project)
    for series in doubtful:
        if stop is not None and stop.is_set:
            yield Done(found.result(), stopped=True)
            return
        try:
            if owners.are_labels(series):
                found.leave_out_labels(series, owners.owner(series))
                continue
            name, notes = _add(project, series, role, modality, anyway, doubt=False)
        except (_LeftOutError, SslsegError, OSError) as error:
            found.leave_out(series, error)
        else:
            found.added.append(name)
            yield from map(Message, notes)
    yield Progress("scans read", len(listed), len(listed))
    yield Done(found.result())


@dataclass
class _Found:
    """What became of the files so far."""

    added: list[str] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    labels: list[tuple[Path, str | None]] = field(default_factory=list)

    def leave_out(self, series: Series, error: Exception) -> None:
        told = reason(error) if isinstance(error, SslsegError | OSError) else str(error)
        self.problems.append((series.path, told))

    def leave_out_labels(self, series: Series, owner: str | None) -> None:
        whose = f"of the scan {owner}" if owner else "of the scan that they belong to"
        sentence = f"{series.path} holds labels, not a scan; import them as labels {whose}."
        self.problems.append((series.path, sentence))
        self.labels.append((series.path, owner))

    def result(self) -> AddedScans:
        return AddedScans(tuple(self.added), tuple(self.problems), tuple(self.labels))


class _DoubtError(Exception):
    """Perhaps labels: to be told when the scans are known."""


class _LeftOutError(Exception):
    """A scan that could be read but is not wanted, with the reason."""


def _groups(paths: Iterable[Path]) -> list[list[Path]]:
    """Paths that are searched together: DICOM files, which may be of one series, and each other."""
    slices: list[Path] = []
    others: list[Path] = []
    for path in dict.fromkeys(paths):
        (slices if is_slice(path) else others).append(path)
    return [[path] for path in others] + ([slices] if slices else [])


def _add(
    project: "ProjectScans",
    series: Series,
    role: Role,
    modality: Modality | None,
    anyway: bool,
    *,
    doubt: bool = True,
) -> tuple[str, list[str]]:
    """Read a scan and add it; its name, and what is worth knowing about it."""
    doubt = doubt and not anyway
    if doubt and series.modality in LABEL_MODALITIES:
        raise _DoubtError
    files = files_within(series)
    mark = stamp(series.path, files)  # Before it is read: what changes meanwhile is told later.
    volume, notes = read_scan(series if modality is None else replace(series, modality=modality))
    labels = may_be_labels(series, volume)
    if doubt and labels:
        raise _DoubtError
    if not anyway and is_picture(volume):
        raise _LeftOutError(
            f"{series.path} has only one slice; add the file or the series that holds all of them."
        )
    if labels:
        notes.append(f"{series.path} looks like a label map and not like a scan.")
    relative, absolute = stored_paths(series.path, project.folder)
    entry = made(
        ScanEntry,
        name=free_name(series.name, ()),
        path=relative,
        absolute=absolute,
        files=files,
        series=series.name,
        frame=series.frame,
        subject=printable(series.subject, 150),
        modality=volume.modality,
        role=role,
        shape=volume.geometry.display_shape,
        spacing=volume.spacing,
        content=content(volume),
        stamp=mark or "0" * 32,
    )

    def change(record: ProjectRecord) -> ProjectRecord:
        for other in record.scans:
            if other.content == entry.content:
                raise _LeftOutError(
                    f"{series.path} is the same scan as {other.name}, which is in the project "
                    "already."
                )
        new = changed(
            entry,
            name=free_name(entry.name, project.taken_names()),
            role=next((s.role for s in record.scans if s.subject == entry.subject), role),
        )
        return changed(record, scans=(*record.scans, new))

    new = project.change(change).scans[-1]
    if new.role != role:
        notes.append(f"{new.name} is for {new.role}, as the other scans of {new.subject} are.")
    return new.name, notes
