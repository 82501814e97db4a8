"""Find the truth of each prediction in folders, by the same rules as the labels of a training."""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from napari_sslseg.core.common.errors import DataError, ScanWarning
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.scans.classes.class_codes import is_structure
from napari_sslseg.core.scans.matching.label_folder import find_label_files, scans_among_labels
from napari_sslseg.core.scans.matching.label_names import without_label_words
from napari_sslseg.core.scans.matching.other_patient import warn_about_other_patient
from napari_sslseg.core.scans.matching.pair_scans import scans_to_pair
from napari_sslseg.core.scans.matching.pairing import LabelFiles, Pairing
from napari_sslseg.core.scans.matching.patients import Patients, guess_together, with_patients
from napari_sslseg.core.scans.matching.sequences import choose_sequence
from napari_sslseg.core.scans.matching.subjects import guess_subject, of_other_moments
from napari_sslseg.core.scans.names import scan_name, unique_by_name
from napari_sslseg.core.scans.series import Series


@dataclass(frozen=True, eq=False)
class FolderPair:
    """The prediction and the truth of a scan.

    Attributes
    ----------
    scan : Series
        The scan, with its patient. It is not opened if only its prediction is known.
    prediction, truth : Path or tuple of Path
        Their files.
    """

    scan: Series
    prediction: LabelFiles
    truth: LabelFiles


def pair_folders(
    predictions: Path,
    truth: Path,
    images: Path | None = None,
    *,
    sequence: str | None = None,
    patients: Patients | None = None,
) -> tuple[list[FolderPair], list[str]]:
    """Find the truth of each prediction.

    Parameters
    ----------
    predictions, truth, images, sequence, patients
        As in :func:`~napari_sslseg.core.results.evaluate.evaluate_folders`.

    Returns
    -------
    list of FolderPair
        One for each prediction that has a truth, sorted by name; a warning names others.
    list of str
        Names of the truths without a prediction.

    Raises
    ------
    DataError
        If no prediction has a truth, or it is not clear which one.
    """
    for path in (predictions, truth):
        if not path.exists():
            raise DataError(f"{path} does not exist; check the path.")
    known = scans_among_labels(truth) if images is None else scans_to_pair(images, truth)
    images = images or truth
    found, of_scans = _predictions(predictions, known, images)
    if sequence:
        kept = choose_sequence([scan for scan, _ in found], sequence)
        found = [(scan, files) for scan, files in found if scan in kept]
    scans = _with_patients([scan for scan, _ in found], patients)
    if predictions.is_file() and truth.is_file() and len(scans) == 1:
        warn_about_other_patient(truth, scans[0].name, scans[0].path, scans[0].subject)
        return [FolderPair(scans[0], found[0][1], truth)], []
    others = [scan for scan in known if scan not in of_scans]
    root = images if known else predictions
    pairing = Pairing([*scans, *others], root, truth, preferred=range(len(scans)))
    true = pairing.pairs()
    missing = [scan.name for number, scan in enumerate(scans) if number not in true]
    unpredicted = [scan.name for number, scan in enumerate(others, len(scans)) if number in true]
    unpredicted += _orphan_names(pairing.orphans, truth)
    if missing and len(missing) < len(scans):
        _refuse_misspelt(missing, unpredicted, truth)
        warnings.warn(
            f"Not scored: {len(missing)} of {len(scans)} predictions have no truth in {truth} "
            f"({join_names(missing)}).{_other_moments(missing, unpredicted)}",
            ScanWarning,
            stacklevel=3,
        )
    elif missing:
        hint = ""
        if images is truth and not known:
            hint = ", or give the folder of the scans with --images (in Python images=)"
        raise DataError(
            f"No truth in {truth} for {len(missing)} of {len(scans)} predictions, such as "
            f"{missing[0]}; choose the folder of their truth, or give both the same name{hint}."
            f"{_other_moments(missing, unpredicted)}"
        )
    pairs = [
        FolderPair(scan, files, true[number])
        for number, (scan, (_, files)) in enumerate(zip(scans, found, strict=True))
        if number in true
    ]
    return pairs, unpredicted


def _refuse_misspelt(missing: Sequence[str], truths: Sequence[str], folder: Path) -> None:
    """Refuse predictions without a truth if a truth without a prediction has a similar name.

    Names with other numbers, phases or visits are those of other scans.
    """
    for name in missing:
        alike = [
            other
            for other in truths
            if _numbers(other) == _numbers(name) and not of_other_moments(other, name)
        ]
        if found := get_close_matches(name, alike, n=1, cutoff=0.5):
            raise DataError(
                f"The prediction {name} has no truth in {folder}, but {found[0]} there has no "
                "prediction; if they are of the same scan, give them the same name, else move one "
                "of them away."
            )


def _other_moments(missing: Sequence[str], truths: Sequence[str]) -> str:
    """Say that truths without a prediction are of other phases or visits; empty if none is."""
    for name in missing:
        found = [
            other
            for other in truths
            if of_other_moments(other, name) and guess_subject(other) == guess_subject(name)
        ]
        if found:
            return (
                f" {join_names(found)} there is of the same patient as {name}, but of another "
                "phase or visit, so it is not taken for its truth."
            )
    return ""


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _predictions(
    folder: Path, known: Sequence[Series], images: Path
) -> tuple[list[tuple[Series, LabelFiles]], list[Series]]:
    """Return the predictions with their scans, and the scans among them that are known."""
    by_scan: dict[int, LabelFiles] = {}
    files = find_label_files(folder, {file.absolute() for s in known for file in s.files})
    if known:
        pairing = Pairing(known, images, folder)
        by_scan = pairing.pairs()
        files = pairing.orphans
    if not files and not by_scan:
        raise DataError(f"The folder {folder} holds no labels; put label files there.")
    of_scans = [known[number] for number in by_scan]
    found = [*zip(of_scans, by_scan.values(), strict=True), *_unknown_scans(files, folder)]
    named = unique_by_name(found, lambda item: item[0].name, lambda item: _first(item[1]), folder)
    return [named[name] for name in sorted(named)], of_scans


def _unknown_scans(files: Sequence[Path], folder: Path) -> list[tuple[Series, LabelFiles]]:
    """Return predictions of which no scan is known, each as a scan of its name.

    Several files in the folder of each patient are one structure each.
    """
    homes: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        homes[_patient_folder(file, folder)].append(file)
    often = Counter(scan_name(file) for file in files)
    found: list[tuple[Series, LabelFiles]] = []
    for home, group in homes.items():
        names = [scan_name(file) for file in group]
        again = len(group) > 1 and all(often[name] > 1 for name in names)
        if home != folder and (all(map(is_structure, names)) or again):
            found.append((_unknown(home.name, home, group), tuple(group)))
            continue
        for name, file in zip(names, group, strict=True):
            clear = often[name] == 1 or home == folder
            full = name if clear else f"{home.name}_{name}"
            found.append((_unknown(full, file, [file]), file))
    return found


def _unknown(name: str, path: Path, files: Sequence[Path]) -> Series:
    return Series(name, name, path, tuple(files), subject_guess=name)


def _patient_folder(file: Path, folder: Path) -> Path:
    """Return the folder around a file that is not one such as ``segmentations``."""
    home = file.parent
    while home != folder and folder in home.parents and not without_label_words(home.name):
        home = home.parent
    return home


def _with_patients(scans: list[Series], patients: Patients | None) -> list[Series]:
    return guess_together(scans) if patients is None else with_patients(scans, patients)


def _first(files: LabelFiles) -> Path:
    return files if isinstance(files, Path) else files[0]


def _orphan_names(files: Sequence[Path], truth: Path) -> list[str]:
    """Return names of truths without a scan; those of one folder of structures have its name."""
    found = _unknown_scans(files, truth if truth.is_dir() else truth.parent)
    return sorted(scan.name for scan, _ in found)
