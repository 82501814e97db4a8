"""The scans of a project: whose they are, what they are for, and what became of them."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

from napari_sslseg.core.common.atomic import atomic_path
from napari_sslseg.core.common.errors import ProjectError, SslsegError
from napari_sslseg.core.common.events import Done, Event, Progress, StopFlag, as_function
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.project.folder import ASIDE, LABELS, ProjectFolder
from napari_sslseg.core.project.names import folded, free_name
from napari_sslseg.core.project.record import ProjectRecord, Role, ScanEntry, changed
from napari_sslseg.core.project.sources import (
    content,
    files_within,
    find_series,
    found_path,
    read_scan,
    reason,
    stamp,
    stored_paths,
)
from napari_sslseg.core.scans.find import as_series, list_series
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Modality, Volume


class ProjectScans(ProjectFolder):
    """The part of a project that knows its scans."""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self._opened: dict[str, tuple[str, Series]] = {}
        self._changed: dict[str, tuple[str, str | None]] = {}
        self._looking = threading.RLock()
        self._labelling = threading.RLock()
        """Held by whoever replaces a label file; taken before, never after, that of the record."""

    def close(self) -> None:
        """Let others open the project, once no label file of it is being replaced."""
        with self._labelling:
            super().close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all scans, in the order in which they were added."""
        return tuple(scan.name for scan in self._record.scans)

    def entry(self, name: str) -> ScanEntry:
        """What the project knows about a scan, without a look at its files."""
        for scan in self._record.scans:
            if scan.name == name:
                return scan
        raise self._unknown(name)

    def _unknown(self, name: str) -> ProjectError:
        return ProjectError(
            f"The project {self.folder} has no scan named {printable(name, 100)}; choose one that "
            "it lists."
        )

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
            What the scans are for. A scan of a subject that is there already gets the role of that
            subject.
        modality : {"MR", "CT"}, optional
            Overrides the header (DICOM) or the guess from the values.
        anyway : bool
            Add label maps and single slices too. Labels are told by their values together with
            another sign: a name such as ``liver_seg``, a folder such as ``labelsTr``, or a scan on
            the same grid. What only has values like labels is taken, with a word about it.
        stop : StopFlag, optional
            Set it to stop between two scans; those that were added stay.

        Yields
        ------
        Event
            Progress, Message, and last Done with the
            :class:`~napari_sslseg.core.project.add.AddedScans`.
        """
        from napari_sslseg.core.project.add import iter_add

        self._check_role(role)
        yield from iter_add(self, paths, role, modality, anyway, stop)

    add_scans = as_function(iter_add_scans)

    def remove_scan(self, name: str) -> Path | None:
        """Forget a scan. No file is deleted: its labels are put aside, and this is where.

        ``import_labels`` takes them back, should the scan be added again.
        """
        with self._labelling:
            labels = self.labels_path(name)
            self.change(
                lambda record: changed(
                    record, scans=tuple(scan for scan in record.scans if scan.name != name)
                )
            )
            self._forget(name)
            return self._put_aside(labels, move=True) if labels.exists() else None

    def scan_path(self, name: str) -> Path:
        """File or folder of a scan: as seen from the project, or else where it was."""
        return found_path(self.entry(name), self.folder)

    def labels_path(self, name: str) -> Path:
        """File of the labels of a scan, which need not exist."""
        return self.folder / LABELS / f"{self.entry(name).name}.nii.gz"

    def set_role(self, name: str, role: Role) -> tuple[str, ...]:
        """Say what a scan is for, and with it all scans of its subject.

        Returns
        -------
        tuple of str
            Names of all scans whose role changed.
        """
        self._check_role(role)
        subject = self.entry(name).subject
        before = {scan.name for scan in self._record.scans if scan.role != role}
        record = self.change(
            lambda record: changed(
                record,
                scans=tuple(
                    changed(scan, role=role) if scan.subject == subject else scan
                    for scan in record.scans
                ),
            )
        )
        return tuple(s.name for s in record.scans if s.subject == subject and s.name in before)

    def set_subject(self, name: str, subject: str) -> Role:
        """Say whose scan it is, where the name of the file says it wrongly.

        Returns
        -------
        {"train", "test"}
            Role of the scan, which becomes that of the subject if it is there already.
        """
        others = [s for s in self._record.scans if s.subject == subject and s.name != name]
        role = others[0].role if others else self.entry(name).role
        self._change_scan(name, subject=subject, role=role)
        return role

    def _check_role(self, role: str) -> None:
        if role not in get_args(Role):
            raise ProjectError(f"There is no role {role!r}; choose train or test.")

    def series(self, name: str) -> Series:
        """A scan that is not loaded, under its name, subject and modality in the project.

        Raises
        ------
        ProjectError
            If it is missing, was changed since it was added, or cannot be read.
        """
        problem = self._scan_problem(name)
        if problem is not None:
            raise ProjectError(problem)
        with self._looking:
            entry = self.entry(name)
            key = entry.model_dump_json(exclude={"done", "role", "accepted"})
            known = self._opened.get(name)
            if known is None or known[0] != key:
                known = (key, find_series(entry, found_path(entry, self.folder)))
                self._opened[name] = known
            return known[1]

    def load(self, name: str) -> Volume:
        """Load a scan."""
        return read_scan(self.series(name))[0]

    def problem(self, name: str) -> str | None:
        """Why a scan or its labels cannot be used now, in one sentence; None if they can.

        Sizes and times of its files are compared. Only where they differ it is read, and compared
        with what it was when it was added.
        """
        return self._scan_problem(name) or self._labels_problem(name)

    def _labels_problem(self, name: str) -> str | None:
        path = self.labels_path(name)
        if not self.entry(name).done or path.is_file():
            return None
        return (
            f"The labels of {name} are missing: {path} is not there, but slices of it are done; "
            "put the file back, or unmark them."
        )

    def _scan_problem(self, name: str) -> str | None:
        entry = self.entry(name)
        path = found_path(entry, self.folder)
        now = stamp(path, entry.files)
        if now is None:
            return (
                f"The scan {name} is missing: {printable(path, 300)} is not there, or not whole; "
                "put it back, or say where it is now."
            )
        if now != entry.stamp:
            with self._looking:
                if name not in self._changed or self._changed[name][0] != now:
                    # Kept, so that it is not read at each look.
                    self._changed[name] = now, self._difference(entry, path)
                told = self._changed[name][1]
            if told is not None:
                return told
            self._change_scan(name, stamp=now)
        return None

    def _difference(self, entry: ScanEntry, path: Path) -> str | None:
        try:
            volume, _ = read_scan(find_series(entry, path))
        except (SslsegError, OSError) as error:
            why = printable(reason(error), 500)
            return f"The scan {entry.name} cannot be read any more: {why}"
        if content(volume) == entry.content:
            return None
        return (
            f"The scan {entry.name} was changed since it was added: {printable(path, 300)} holds "
            "other values; put the file back, or remove the scan and add it as it is now."
        )

    def iter_problems(self, stop: StopFlag | None = None) -> Iterator[Event]:
        """Look at every scan; Done brings the problems by name of the scan, empty if all is well.

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

    problems = as_function(iter_problems)

    def relocate(self, name: str, path: str | Path) -> None:
        """Say where a scan is now; it must hold the same values as when it was added.

        Parameters
        ----------
        name : str
            The scan.
        path : path-like
            The file, or the folder of the DICOM series.
        """
        entry = self.entry(name)
        path = Path(path).absolute()
        found = list_series([path])
        same = [s for s in found if (s.name, s.frame) == (entry.series, entry.frame)]
        series = same[0] if len(same) == 1 else as_series(path)
        volume, _ = read_scan(series)
        if content(volume) != entry.content:
            raise ProjectError(
                f"{path} is not the scan {name}: it holds other values than that had when it was "
                "added; choose its file, or add this one as another scan."
            )
        files = files_within(series)
        relative, absolute = stored_paths(series.path, self.folder)
        self._forget(name)
        self._change_scan(
            name,
            path=relative,
            absolute=absolute,
            files=files,
            series=series.name,
            frame=series.frame,
            stamp=stamp(series.path, files) or entry.stamp,
        )

    def _forget(self, name: str) -> None:
        with self._looking:
            self._opened.pop(name, None)
            self._changed.pop(name, None)

    def _change_scan(self, name: str, **changes: Any) -> ScanEntry:
        """Change what is known about a scan, on disk too."""

        def change(record: ProjectRecord) -> ProjectRecord:
            if name not in {scan.name for scan in record.scans}:
                raise self._unknown(name)
            return changed(
                record,
                scans=tuple(
                    changed(scan, **changes) if scan.name == name else scan for scan in record.scans
                ),
            )

        self.change(change)
        return self.entry(name)

    def taken_names(self) -> set[str]:
        """Names of scans and of label files, which no new scan may have; folded."""
        files = (self.folder / LABELS).glob("*.nii.gz")
        return {folded(name) for name in self.names} | {
            folded(file.name.removesuffix(".nii.gz")) for file in files
        }

    def _put_aside(self, labels: Path, *, move: bool) -> Path:
        """Keep a label file under another name, as it is; with ``move`` not under its own."""
        self._check_there()
        folder = self.folder / LABELS / ASIDE
        taken = {folded(file.name.removesuffix(".nii.gz")) for file in folder.glob("*.nii.gz")}
        target = folder / f"{free_name(labels.name.removesuffix('.nii.gz'), taken)}.nii.gz"
        with atomic_path(target) as temporary:
            temporary.write_bytes(labels.read_bytes())
        if move:
            labels.unlink()
        return target
