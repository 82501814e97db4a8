"""Find the labels of each scan by the names of files and folders.

The same rule holds for the command line, for Python and, by :func:`count_matching_parts`, for
projects. DICOM segmentations and structure sets belong to the series that they refer to. For other
files, and where no reference fits, in this order:

1. A label file with the name of the scan: ``p0`` for ``p0``.
2. A label file whose name is that of the scan with words for labels, or with a structure:
   ``p0-label``, ``p0.seg``, ``p0_liver``; or ``case_1`` for the channel ``case_1_0000``.
3. Of scans that several patients have (``ct``), the one in the same folder, or in the folder of
   the same name: ``s0000/ct`` and ``s0000/segmentations/liver``, ``images/p0/t1`` and
   ``labels/p0/seg``.
4. The only scan of the case or patient that the label file names: ``BraTS_000_t1`` and
   ``BraTS_000_seg``. Labels of another phase or visit do not fit: ``P01_ED`` and ``P01_ES``.

Several label files of one scan are one structure each, named by the file. A label file that fits
several scans, and scans with several whole label maps, are refused with all names.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from napari_sslseg.core.common.errors import DataError, ScanWarning
from napari_sslseg.core.common.text import count_phrase, join_names
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.matching.label_folder import find_label_files
from napari_sslseg.core.scans.matching.label_names import (
    count_matching_parts,
    is_named_as_labels,
    is_of_case,
    structure_name,
    without_label_words,
)
from napari_sslseg.core.scans.matching.other_patient import warn_about_other_patient
from napari_sslseg.core.scans.matching.sequences import name_of_sequence
from napari_sslseg.core.scans.matching.subjects import guess_subject, of_other_moments
from napari_sslseg.core.scans.names import scan_name
from napari_sslseg.core.scans.series import Series

LabelFiles = Path | tuple[Path, ...]
"""The labels of a scan: a label map, or files of one structure each."""

# Words by which several label maps of one scan differ.
_VERSION = re.compile(
    r"(?:rater|reader|expert|observer|manual|auto|automatic|pred|prediction|final|corrected|old|new"
    r"|copy|version|v|r)?_?\d*",
    re.IGNORECASE,
)


def best_match(labels: str, scans: Iterable[str]) -> list[str]:
    """Return the names of the scans that a label name fits best; one if it is clear.

    Parameters
    ----------
    labels : str
        Name of a label file.
    scans : iterable of str
        Names of scans.
    """
    names = list(dict.fromkeys(scans))
    if labels in names:
        return [labels]
    counts = {name: count_matching_parts(labels, name) for name in names}
    most = max(counts.values(), default=0)
    if most:
        return [name for name in names if counts[name] == most]
    case = [name for name in names if is_of_case(labels, name)]
    patient = guess_subject(labels)
    if case or patient == labels:
        return case
    return [
        name
        for name in names
        if guess_subject(name) == patient and not of_other_moments(labels, name)
    ]


class Pairing:
    """Pairs the scans of a folder with label files.

    Parameters
    ----------
    scans : sequence of Series
        The scans.
    images, labels : Path
        Where the scans and the labels were looked for; may be the same folder.
    preferred : collection of int, optional
        Numbers of the scans to prefer where a label file fits several, such as those that were
        predicted.
    shared : bool
        Whether a label file may belong to several scans, as an organ mask to all sequences of a
        patient; otherwise such a file is refused.

    Attributes
    ----------
    files : list of Path
        The label files.
    orphans : list of Path
        Those that belong to no scan, after :meth:`pairs`.
    """

    def __init__(
        self,
        scans: Sequence[Series],
        images: Path,
        labels: Path,
        preferred: Collection[int] = (),
        *,
        shared: bool = False,
    ) -> None:
        self.scans = list(scans)
        self.images, self.labels = images, labels
        self.preferred, self.shared = preferred, shared
        # Predictions stand for scans that are not opened; they may be compared with themselves.
        opened = [scan for scan in self.scans if scan.image is not None]
        same = _is_within(images, labels) and bool(opened)
        known = self.scans if images.resolve() != labels.resolve() else opened
        own = {file.absolute() for scan in known for file in scan.files}
        others = find_label_files(labels, own)
        self.files = [
            file
            for file in others
            if not same or is_named_as_labels(file, images) or is_dicom(file)
        ]
        # Perhaps a second set of labels; what is in the folder of the scans may be a scan.
        self._unclear = [
            file for file in others if file not in self.files and not _is_within(file, images)
        ]
        self.orphans: list[Path] = []

    def pairs(self) -> dict[int, LabelFiles]:
        """Return the labels by the number of the scan.

        Raises
        ------
        DataError
            If it is not clear which labels belong to which scan.
        """
        found: dict[int, list[Path]] = defaultdict(list)
        self.orphans = []
        if self.files and self._unclear:
            warnings.warn(
                f"Left out: {count_phrase(len(self._unclear), 'file')} in {self.labels} of no scan "
                f"in {self.images} and without a name of labels, such as {self._unclear[0]}.",
                ScanWarning,
                stacklevel=3,
            )
        for file in self.files:
            numbers = self._scans_of(file)
            if not numbers:
                self.orphans.append(file)
            elif not self.shared:
                numbers = [self._one(file, numbers)]
            for number in numbers:
                found[number].append(file)
        chosen = {number: self._exact(number, files) for number, files in sorted(found.items())}
        for number, files in chosen.items():
            if any(map(self._is_given_pair, files)):
                scan = self.scans[number]
                warn_about_other_patient(files, scan.name, scan.path, scan.subject)
        names = {number: self._structures(number, files) for number, files in chosen.items()}
        every = {name for several in names.values() for name in several}
        # A liver alone for one patient and a spleen alone for another are no map of all structures.
        differ = len(every) > 1 and not any(char.isdigit() for name in every for char in name)
        parts = differ or any(len(files) > 1 for files in chosen.values())
        return {
            number: self._together(number, files, names[number], parts)
            for number, files in chosen.items()
        }

    def _scans_of(self, file: Path) -> Sequence[int]:
        """Return the numbers of the scans that a label file fits."""
        if is_dicom(file) and (referenced := self._referenced(file)):
            return self._nearest(file, referenced) or referenced
        if self._is_given_pair(file):
            return [0]
        label = scan_name(file)
        names = [
            scan.name if scan.name == label or scan.path.is_dir() else scan_name(scan.path)
            for scan in self.scans
        ]
        wanted = best_match(label, names)
        fit = [number for number, name in enumerate(names) if name in wanted]
        return fit if len(fit) == 1 else self._nearest(file, fit or range(len(names))) or fit

    def _one(self, file: Path, numbers: Sequence[int]) -> int:
        """Return the only scan of those that a label file fits.

        Raises
        ------
        DataError
            If there are several; the message says how to choose.
        """
        numbers = [number for number in numbers if number in self.preferred] or numbers
        if len(numbers) == 1:
            return numbers[0]
        scans = [self.scans[number] for number in numbers]
        names = join_names([scan.name for scan in scans], 4)
        if len({scan.path for scan in scans}) == 1:
            last = scans[-1].name.rpartition("_")[2]
            raise DataError(
                f"The labels {file} belong to {scans[0].path}, which contains {len(scans)} volumes "
                f"along its fourth axis ({names}); choose one of them for all scans, such as "
                f"--sequence {last} for the last (in Python sequence={last!r})."
            )
        end = _ending(*(name_of_sequence(scan.name) for scan in scans[:2]))
        raise DataError(
            f"The labels {file} fit {len(scans)} scans ({names}); choose one scan of each case by "
            f"the end of its name, such as --sequence {end} (in Python sequence={end!r})."
        )

    def _is_given_pair(self, file: Path) -> bool:
        """Whether one scan and one label file were given, whatever their names."""
        given = self.images.is_file() or is_dicom(file)
        return given and self.labels.is_file() and len(self.scans) == 1

    def _referenced(self, file: Path) -> list[int]:
        """Return the scans that a DICOM file of labels refers to."""
        from napari_sslseg.core.scans.formats.dicom.labels.read import (
            referenced_names,
            referenced_series,
        )

        series = referenced_series(file, self.scans)
        if series:
            return [number for number, scan in enumerate(self.scans) if scan in series]
        # Predictions have the names of the series, but not their headers.
        unread = [scan.name for scan in self.scans if scan.image is None]
        names = referenced_names(file, unread) if unread else []
        return [number for number, scan in enumerate(self.scans) if scan.name in names]

    def _nearest(self, file: Path, numbers: Iterable[int]) -> list[int]:
        """Return the scans in the same folder as a file, or in folders of the same names.

        Empty if the folders tell nothing.
        """
        left = list(numbers)
        images, labels = self.images.absolute(), self.labels.absolute()
        between = [f for f in file.absolute().parents if f != labels and f.is_relative_to(labels)]
        narrowed = False
        for folder in between:
            here = [n for n in left if self._home(n).is_relative_to(folder)]
            here = here or [n for n in left if folder.name in self._folders(n)]
            here = here or [
                n
                for n in left
                if count_matching_parts(folder.name, self.scans[n].name)
                or is_of_case(folder.name, self.scans[n].name)
            ]
            if here:
                left, narrowed = here, True
        # Labels in a folder within that of a single scan, such as s0000/segmentations.
        inside = [
            n
            for n in left
            if labels.is_relative_to(self._home(n))
            and labels != images
            and self.scans[n].image is not None
        ]
        elsewhere = any(char.isdigit() for folder in between for char in folder.name)
        if not narrowed and len(self.scans) == 1 and not elsewhere:
            named = without_label_words(scan_name(file))
            return inside or ([] if named else left)
        return left if narrowed else []

    def _home(self, number: int) -> Path:
        path = self.scans[number].path.absolute()
        return path if path.is_dir() else path.parent

    def _folders(self, number: int) -> tuple[str, ...]:
        home = self._home(number)
        root = self.images.absolute()
        return home.relative_to(root).parts if home.is_relative_to(root) else ()

    def _exact(self, number: int, files: list[Path]) -> list[Path]:
        """Return the label file with exactly the name of the scan, or all files."""
        scan = self.scans[number]
        exact = [file for file in files if scan_name(file) in (scan.name, scan_name(scan.path))]
        if len(exact) != 1 or len(files) == 1:
            return files
        others = join_names([file.name for file in files if file not in exact])
        warnings.warn(
            f"{exact[0].name} has the name of the scan {scan.name} and is used as its labels; "
            f"{others} are left out.",
            ScanWarning,
            stacklevel=4,
        )
        return exact

    def _structures(self, number: int, files: Sequence[Path]) -> list[str]:
        """Return what the names of label files say beside the scan; empty for a label map."""
        scan = self.scans[number]
        owners = (scan.name, scan_name(scan.path), scan.subject, *self._folders(number)[::-1])
        return [structure_name(file, *owners) for file in files]

    def _together(
        self, number: int, files: Sequence[Path], structures: Sequence[str], parts: bool
    ) -> LabelFiles:
        """Return a label map, or files of one structure each."""
        if len(files) == 1:
            return tuple(files) if parts and structures[0] else files[0]
        alike = len({name.casefold() for name in structures}) < len(files)
        if alike or any(_VERSION.fullmatch(name) for name in structures):
            raise DataError(
                f"The scan {self.scans[number].name} has {len(files)} label files, "
                f"{join_names([str(file) for file in files], 3)}; keep one of them, or name each "
                "after the only structure in it."
            )
        return tuple(files)


def missing_labels(scans: Sequence[Series], paired: Mapping[int, object]) -> list[int]:
    """Return the numbers of scans without labels whose patient has no labelled scan either.

    The others, such as further sequences of a patient, are left out with a warning.
    """
    labelled = {scans[number].subject for number in paired}
    missing = [n for n in range(len(scans)) if n not in paired]
    further = [n for n in missing if scans[n].subject in labelled]
    if further:
        warnings.warn(
            f"Left out: {count_phrase(len(further), 'further scan')} without labels, of patients "
            f"with labels, such as {scans[further[0]].name}.",
            ScanWarning,
            stacklevel=3,
        )
    return [n for n in missing if n not in further]


def _ending(first: str, second: str) -> str:
    """Return the part of a name by which it differs from another one."""
    parts, others = (re.split(r"[\W_]+", name) for name in (first, second))
    differing = [
        number
        for number, part in enumerate(parts)
        if number >= len(others) or others[number] != part
    ]
    # A number, such as that of a DICOM series, may be another one in the next patient.
    words = [number for number in differing if not parts[number].isdecimal()]
    return "_".join(parts[(words or differing or [-1])[0] :])


def _is_within(inner: Path, outer: Path) -> bool:
    """Whether scans and labels are looked for in the same place."""
    return inner.resolve() == outer.resolve() or (
        outer.is_dir() and inner.resolve().is_relative_to(outer.resolve())
    )
