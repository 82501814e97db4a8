"""Add scans to a project: find the series, leave out label maps and unreadable files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import Done, Event, Message, Progress, StopFlag
from napari_sslseg.core.common.text import fold_name, printable
from napari_sslseg.core.project.folder import ProjectFolder
from napari_sslseg.core.project.label_files import LabelFiles
from napari_sslseg.core.project.label_owners import LabelOwners, is_single_slice, may_be_labels
from napari_sslseg.core.project.names import free_name
from napari_sslseg.core.project.record import (
    ProjectRecord,
    Role,
    ScanEntry,
    make_part,
    with_changes,
)
from napari_sslseg.core.project.scans import (
    ProjectScans,
    check_role,
    doubts_of_names,
    guess_in_project,
)
from napari_sslseg.core.project.sources import (
    content_hash,
    describe_error,
    file_stamp,
    files_within,
    read_scan,
    stored_paths,
)
from napari_sslseg.core.scans.find import is_slice, whole_series
from napari_sslseg.core.scans.matching.label_guess import LABEL_MODALITIES
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Modality


@dataclass(frozen=True)
class AddedScans:
    """Result of adding files to a project.

    Attributes
    ----------
    added : tuple of str
        Names of the new scans in the project.
    problems : tuple of (Path, str)
        Files and folders that were not added, each with the reason in one sentence; this includes
        scans that are in the project already.
    labels : tuple of (Path, str or None)
        Label maps among the problems, each with the name of the scan in the project that it
        clearly belongs to.
    """

    added: tuple[str, ...]
    problems: tuple[tuple[Path, str], ...]
    labels: tuple[tuple[Path, str | None], ...] = ()


class ScanAdder:
    """Adds scans to a project.

    Parameters
    ----------
    folder : ProjectFolder
        The project.
    files : LabelFiles
        Its label files, whose names no new scan gets.
    scans : ProjectScans
        Its scans, which label maps may belong to.
    """

    def __init__(self, folder: ProjectFolder, files: LabelFiles, scans: ProjectScans) -> None:
        self._folder = folder
        self._files = files
        self._scans = scans

    def iter_add_scans(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        role: Role = "train",
        modality: Modality | None = None,
        anyway: bool = False,
        stop: StopFlag | None = None,
    ) -> Iterator[Event]:
        """Add scans, each as soon as it was read.

        Parameters
        ----------
        paths : path-like or several
            Scan files, folders, and DICOM files or folders of any depth. A DICOM file stands for
            its whole series. Label maps and single slices are left out, see ``anyway``.
        role : {"train", "test"}
            What the scans are used for. A scan of a subject that is in the project gets the role
            of that subject.
        modality : {"MR", "CT"}, optional
            Replaces the modality in the header (DICOM) or the one guessed from the values.
        anyway : bool
            Whether to add label maps and single slices too. A label map is recognised by its
            values together with a name such as ``liver_seg``, a folder such as ``labelsTr``, or a
            scan on the same grid. A scan that only has values like those of a label map is added,
            with a message.
        stop : StopFlag, optional
            Set it to stop between two scans; scans that were added stay.

        Yields
        ------
        Event
            Progress, Message, and last Done with the
            :class:`~napari_sslseg.core.project.add.AddedScans`.
        """
        check_role(role)
        result = _Result()
        series: list[Series] = []
        groups = _group_paths([paths] if isinstance(paths, str | Path) else paths)
        for number, group in enumerate(groups):
            yield Progress("Looking for scans", number, len(groups))
            try:
                series += whole_series(group, labels=True)
            except (SslsegError, OSError) as error:
                result.problems.append((group[0], describe_error(error)))
        series, notes = guess_in_project(series, self._folder.record.scans)
        yield from map(Message, notes)
        possible_labels: list[Series] = []
        for number, item in enumerate(series):
            if stop is not None and stop.is_set:
                yield from self._end(result, stopped=True)
                return
            yield Progress("scans read", number, len(series))
            try:
                name, notes = self._add(item, role, modality, anyway=anyway)
            except _PossibleLabelsError:
                possible_labels.append(item)
            except (_LeftOutError, SslsegError, OSError) as error:
                result.leave_out(item, error)
            else:
                result.added.append(name)
                yield from map(Message, notes)
        # Last, since label maps may be listed before the scan that identifies them.
        owners = LabelOwners(self._folder, self._scans)
        for item in possible_labels:
            if stop is not None and stop.is_set:
                yield from self._end(result, stopped=True)
                return
            try:
                if owners.are_labels(item):
                    result.leave_out_labels(item, owners.owner(item))
                    continue
                name, notes = self._add(item, role, modality, anyway=False, doubt=False)
            except (_LeftOutError, SslsegError, OSError) as error:
                result.leave_out(item, error)
            else:
                result.added.append(name)
                yield from map(Message, notes)
        yield Progress("scans read", len(series), len(series))
        yield from self._end(result)

    def _end(self, result: "_Result", *, stopped: bool = False) -> Iterator[Event]:
        """Report doubtful patients once it is known which files are scans, and the result."""
        yield from map(Message, doubts_of_names(self._folder.record.scans, result.added))
        yield Done(result.frozen(), stopped=stopped)

    def _add(
        self,
        series: Series,
        role: Role,
        modality: Modality | None,
        *,
        anyway: bool,
        doubt: bool = True,
    ) -> tuple[str, list[str]]:
        """Read a scan and add it; return its name and messages for the user.

        With ``doubt`` a series that may be a label map raises an error instead.
        """
        doubt = doubt and not anyway
        if doubt and series.modality in LABEL_MODALITIES:
            raise _PossibleLabelsError
        files = files_within(series)
        # Before the scan is read, so that a change meanwhile is noticed later.
        stamp = file_stamp(series.path, files)
        chosen = series if modality is None else replace(series, modality=modality)
        volume, notes = read_scan(chosen)
        labels = may_be_labels(series, volume)
        if doubt and labels:
            raise _PossibleLabelsError
        if not anyway and is_single_slice(volume):
            raise _LeftOutError(
                f"{series.path} has only one slice; add the file or the series with all slices."
            )
        if labels:
            notes.append(f"{series.path} looks like a label map, not like a scan.")
        relative, absolute = stored_paths(series.path, self._folder.path)
        entry = make_part(
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
            content=content_hash(volume),
            stamp=stamp or "0" * 32,
        )
        new = self._add_entry(entry, series.path)
        if new.role != role:
            notes.append(f"{new.name} is for {new.role}, as the other scans of {new.subject} are.")
        return new.name, notes

    def _add_entry(self, entry: ScanEntry, path: Path) -> ScanEntry:
        """Add an entry under a free name, with the role of its subject."""

        def change(record: ProjectRecord) -> ProjectRecord:
            for other in record.scans:
                if other.content == entry.content:
                    raise _LeftOutError(
                        f"{path} is the same scan as {other.name}, which is in the project already."
                    )
            taken = {fold_name(scan.name) for scan in record.scans} | self._files.taken_names()
            roles = (scan.role for scan in record.scans if scan.subject == entry.subject)
            new = with_changes(
                entry, name=free_name(entry.name, taken), role=next(roles, entry.role)
            )
            return with_changes(record, scans=(*record.scans, new))

        return self._folder.change(change).scans[-1]


@dataclass
class _Result:
    """Result so far, see :class:`AddedScans`."""

    added: list[str] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    labels: list[tuple[Path, str | None]] = field(default_factory=list)

    def leave_out(self, series: Series, error: Exception) -> None:
        text = describe_error(error) if isinstance(error, OSError) else str(error)
        self.problems.append((series.path, text))

    def leave_out_labels(self, series: Series, owner: str | None) -> None:
        scan = f"the scan {owner}" if owner else "the scan that they belong to"
        sentence = f"{series.path} is a label map, not a scan; import it as the labels of {scan}."
        self.problems.append((series.path, sentence))
        self.labels.append((series.path, owner))

    def frozen(self) -> AddedScans:
        return AddedScans(tuple(self.added), tuple(self.problems), tuple(self.labels))


class _PossibleLabelsError(Exception):
    """A series that may be a label map, which is decided after all scans were added."""


class _LeftOutError(Exception):
    """A readable series that is not added, with the reason."""


def _group_paths(paths: Iterable[str | Path]) -> list[list[Path]]:
    """Paths to search together: all DICOM files, which may be of one series, and each other."""
    slices: list[Path] = []
    others: list[Path] = []
    for path in dict.fromkeys(map(Path, paths)):
        (slices if is_slice(path) else others).append(path)
    return [[path] for path in others] + ([slices] if slices else [])
