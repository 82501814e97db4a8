"""The scans of a project: series on the disk, roles, subjects, and problems with their files."""

import threading
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import get_args

from napari_sslseg.core.common.errors import ProjectError, SslsegError
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.project.folder import ProjectFolder
from napari_sslseg.core.project.record import ProjectRecord, Role, ScanEntry, with_changes
from napari_sslseg.core.project.sources import (
    content_hash,
    describe_error,
    file_stamp,
    files_within,
    find_path,
    find_series,
    read_scan,
    stored_paths,
)
from napari_sslseg.core.scans.find import as_series, list_series
from napari_sslseg.core.scans.formats.registry import has_dicom_name
from napari_sslseg.core.scans.matching.subjects import (
    SubjectGuess,
    describe_subjects,
    guess_subjects,
)
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Modality, Volume


class ProjectScans:
    """The scans of a project and their files.

    Parameters
    ----------
    folder : ProjectFolder
        The project.
    """

    def __init__(self, folder: ProjectFolder) -> None:
        self._folder = folder
        self._series: dict[str, tuple[str, Series]] = {}
        self._differences: dict[str, tuple[str, str | None]] = {}
        self._reading = threading.RLock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all scans, in the order in which they were added."""
        return tuple(scan.name for scan in self._folder.record.scans)

    def scan_path(self, name: str) -> Path:
        """File or folder of a scan: relative to the project, or else at its absolute path."""
        return find_path(self._folder.entry(name), self._folder.path)

    def set_modality(self, name: str, modality: Modality) -> None:
        """Correct the modality of a scan, which is a guess unless the file names it.

        Parameters
        ----------
        name : str
            The scan.
        modality : {"MR", "CT"}
            Its modality. The values of CT are taken for HU.
        """
        if modality not in get_args(Modality):
            raise ProjectError(f"{modality!r} is no modality; choose MR or CT.")
        self._folder.change_entry(name, modality=modality)

    def set_role(self, name: str, role: Role) -> tuple[str, ...]:
        """Set what a scan is used for, together with all scans of its subject.

        Returns
        -------
        tuple of str
            Names of all scans whose role changed.
        """
        check_role(role)
        subject = self._folder.entry(name).subject
        changed: list[str] = []

        def change(record: ProjectRecord) -> ProjectRecord:
            changed[:] = [s.name for s in record.scans if s.subject == subject and s.role != role]
            scans = (
                with_changes(scan, role=role) if scan.name in changed else scan
                for scan in record.scans
            )
            return with_changes(record, scans=tuple(scans))

        self._folder.change(change)
        return tuple(changed)

    def set_subject(self, name: str, subject: str) -> Role:
        """Set the subject of a scan, where the name of the file is misleading.

        Returns
        -------
        {"train", "test"}
            Role of the scan, which becomes that of the other scans of the subject, if any.
        """
        others = [s for s in self._folder.record.scans if s.subject == subject and s.name != name]
        role = others[0].role if others else self._folder.entry(name).role
        self._folder.change_entry(name, subject=subject, role=role)
        return role

    def series(self, name: str) -> Series:
        """A scan without its voxels, with its name, subject and modality in the project.

        Raises
        ------
        ProjectError
            If the scan is missing, was changed since it was added, or cannot be read.
        """
        problem = self.problem(name)
        if problem is not None:
            raise ProjectError(problem)
        with self._reading:
            entry = self._folder.entry(name)
            key = repr(entry.model_dump(exclude={"done", "role", "accepted"}))
            known = self._series.get(name)
            if known is None or known[0] != key:
                known = (key, find_series(entry, find_path(entry, self._folder.path)))
                self._series[name] = known
            return known[1]

    def load(self, name: str) -> Volume:
        """Load a scan."""
        return read_scan(self.series(name))[0]

    def problem(self, name: str) -> str | None:
        """Why a scan cannot be used, in one sentence; None if it can.

        Sizes and times of its files are compared. Only where they differ, the scan is read and
        compared with its contents when it was added.
        """
        entry = self._folder.entry(name)
        path = find_path(entry, self._folder.path)
        stamp = file_stamp(path, entry.files)
        if stamp is None:
            return (
                f"The scan {name} is missing: {printable(path, 300)} does not exist or lacks "
                "files; put it back, or choose where it is now."
            )
        if stamp == entry.stamp:
            return None
        with self._reading:
            if name not in self._differences or self._differences[name][0] != stamp:
                # Kept, so that the scan is not read at each call.
                self._differences[name] = stamp, self._difference(entry, path)
            difference = self._differences[name][1]
        if difference is None:
            self._folder.change_entry(name, stamp=stamp)
        return difference

    def _difference(self, entry: ScanEntry, path: Path) -> str | None:
        """Why a scan whose files were changed cannot be used; None if its values are the same."""
        try:
            volume, _ = read_scan(find_series(entry, path))
        except (SslsegError, OSError) as error:
            reason = printable(describe_error(error), 500)
            return f"The scan {entry.name} can no longer be read: {reason}"
        if content_hash(volume) == entry.content:
            return None
        return (
            f"The scan {entry.name} was changed since it was added: {printable(path, 300)} has "
            "other values; put the file back, or remove the scan and add it again."
        )

    def relocate(self, name: str, path: str | Path) -> None:
        """Set where a scan is now; it must have the same values as when it was added.

        Parameters
        ----------
        name : str
            The scan.
        path : path-like
            The file, or the folder of the DICOM series.
        """
        entry = self._folder.entry(name)
        path = Path(path).absolute()
        found = list_series([path])
        same = [s for s in found if (s.name, s.frame) == (entry.series, entry.frame)]
        series = same[0] if len(same) == 1 else as_series(path)
        volume, _ = read_scan(series)
        if content_hash(volume) != entry.content:
            raise ProjectError(
                f"{path} is not the scan {name}: its values differ from those when the scan was "
                "added; choose the file of the scan, or add this one as another scan."
            )
        files = files_within(series)
        relative, absolute = stored_paths(series.path, self._folder.path)
        self.forget(name)
        self._folder.change_entry(
            name,
            path=relative,
            absolute=absolute,
            files=files,
            series=series.name,
            frame=series.frame,
            stamp=file_stamp(series.path, files) or entry.stamp,
        )

    def forget(self, name: str) -> None:
        """Discard the cached state of the files of a scan."""
        with self._reading:
            self._series.pop(name, None)
            self._differences.pop(name, None)


def check_role(role: str) -> None:
    """Refuse a role that does not exist."""
    if role not in get_args(Role):
        raise ProjectError(f"There is no role {role!r}; choose train or test.")


def guess_in_project(
    series: Sequence[Series], entries: Sequence[ScanEntry]
) -> tuple[list[Series], list[str]]:
    """Guess the patients of new scans among the names of all scans.

    Scans in the project keep their patients, which the user may have corrected. A new scan of the
    same patient by its name gets that patient.

    Parameters
    ----------
    series : sequence of Series
        New scans.
    entries : sequence of ScanEntry
        Scans in the project.

    Returns
    -------
    list of Series, list of str
        The scans with their subjects, and sentences about doubtful ones; see also
        :func:`doubts_of_names`.
    """
    known = [entry for entry in entries if _is_named_by_file(entry)]
    new = [n for n, item in enumerate(series) if item.subject == item.subject_guess]
    places = [*(PurePath(entry.absolute) for entry in known), *(series[n].path for n in new)]
    guess = guess_subjects(places)
    chosen: dict[str, list[ScanEntry]] = defaultdict(list)
    for entry, subject in zip(known, guess.subjects, strict=False):
        chosen[subject].append(entry)
    found = list(series)
    notes: list[str] = []
    unclear = [item.subject_note for item in series if item.subject_note]
    notes += [
        f"{unclear.count(note)} of {len(series)} series: {note}." for note in dict.fromkeys(unclear)
    ]
    for number, subject in zip(new, guess.subjects[len(known) :], strict=True):
        item, beside = series[number], chosen[subject]
        patients = sorted({entry.subject for entry in beside})
        if patients:
            subject = patients[0]
        if len(patients) > 1:
            notes.append(
                f"By its name {item.name} is of the same patient as {beside[0].name} and "
                f"{beside[-1].name}, which have two patients in the project; it was given to "
                f"{subject}."
            )
        found[number] = replace(item, subject=subject, subject_guess=subject)
    return found, list(dict.fromkeys(notes))


def doubts_of_names(entries: Sequence[ScanEntry], added: Collection[str]) -> tuple[str, ...]:
    """Say what else the names of scans could mean, if patients of new scans are guessed from them.

    Parameters
    ----------
    entries : sequence of ScanEntry
        Scans in the project. Label files that were listed with them are no part of it, so that
        their names, which are often those of the scans, raise no doubt.
    added : collection of str
        Names of the new scans.
    """
    named = [entry for entry in entries if _is_named_by_file(entry)]
    if not any(entry.name in added for entry in named):
        return ()
    return guess_subjects(PurePath(entry.absolute) for entry in named).doubts


def describe_project_patients(entries: Sequence[ScanEntry]) -> str:
    """Describe how many patients a project has.

    What the names could mean otherwise is described as long as the patients are those guessed from
    the names of the files.
    """
    named = [entry for entry in entries if _is_named_by_file(entry)]
    guess = guess_subjects(PurePath(entry.absolute) for entry in named)
    as_guessed = _same_partition([entry.subject for entry in named], guess)
    return describe_subjects(
        [entry.subject for entry in entries],
        guess.doubts if as_guessed else (),
        {entry.subject for entry in entries if not _is_named_by_file(entry)},
    )


def _same_partition(subjects: Sequence[str], guess: SubjectGuess) -> bool:
    pairs = set(zip(subjects, guess.subjects, strict=True))
    return len(pairs) == len(set(subjects)) == len(set(guess.subjects))


def _is_named_by_file(entry: ScanEntry) -> bool:
    """Whether the patient was guessed from the name of the file, not read from a DICOM header."""
    return not entry.files and not has_dicom_name(entry.absolute)
