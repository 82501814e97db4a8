"""Scans into a project, one after another: what can be read is kept, and the rest is told."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sslseg.core.errors import SslsegError
from napari_sslseg.core.events import Done, Event, Message, Progress, StopFlag
from napari_sslseg.core.label_guess import looks_like_labels
from napari_sslseg.core.printable import printable
from napari_sslseg.core.project_names import free_name
from napari_sslseg.core.project_record import ProjectRecord, Role, ScanEntry, changed, made
from napari_sslseg.core.project_sources import (
    content,
    files_within,
    read_scan,
    reason,
    stamp,
    stored_paths,
)
from napari_sslseg.core.series import Series, is_slice, whole_series
from napari_sslseg.core.volumes import Modality

if TYPE_CHECKING:
    from napari_sslseg.core.project_scans import ProjectScans


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
    """

    added: tuple[str, ...]
    problems: tuple[tuple[Path, str], ...]


def iter_add(
    project: "ProjectScans",
    paths: str | Path | Iterable[str | Path],
    role: Role,
    modality: Modality | None,
    stop: StopFlag | None,
) -> Iterator[Event]:
    """Do as :meth:`~napari_sslseg.core.project_scans.ProjectScans.iter_add_scans` says."""
    wanted = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    added: list[str] = []
    problems: list[tuple[Path, str]] = []
    found: list[Series] = []
    groups = _groups(wanted)
    for number, group in enumerate(groups):
        yield Progress("places searched", number, len(groups))
        try:
            found += whole_series(group)
        except (SslsegError, OSError) as error:
            problems.append((group[0], reason(error)))
    named = {path.absolute() for path in wanted}
    for number, series in enumerate(found):
        if stop is not None and stop.is_set:
            yield Done(AddedScans(tuple(added), tuple(problems)), stopped=True)
            return
        yield Progress("scans read", number, len(found))
        try:
            name, notes = _add(project, series, role, modality, series.path.absolute() in named)
        except _LeftOutError as error:
            problems.append((series.path, str(error)))
        except (SslsegError, OSError) as error:
            problems.append((series.path, reason(error)))
        else:
            added.append(name)
            yield from map(Message, notes)
    yield Progress("scans read", len(found), len(found))
    yield Done(AddedScans(tuple(added), tuple(problems)))


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
    project: "ProjectScans", series: Series, role: Role, modality: Modality | None, named: bool
) -> tuple[str, list[str]]:
    """Read a scan and add it; its name, and what is worth knowing about it."""
    if modality is not None:
        series = replace(series, modality=modality)
    files = files_within(series)
    mark = stamp(series.path, files)  # Before it is read: what changes meanwhile is told later.
    volume, notes = read_scan(series)
    if looks_like_labels(volume):
        if not named:
            raise _LeftOutError(
                f"{series.path} looks like a label map and not like a scan; import it as labels, "
                "or name the file itself to add it as a scan."
            )
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
