"""Pair the scans of a folder with their labels, for training and scores."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from napari_sslseg.core.common.errors import (
    PATH,
    DataError,
    ScanWarning,
    SslsegError,
    check_type,
)
from napari_sslseg.core.common.text import count_phrase, printable
from napari_sslseg.core.scans.classes.class_map import ClassMapLike
from napari_sslseg.core.scans.classes.partial_labels import (
    LabelledClasses,
    check_unknown_value,
    class_values,
)
from napari_sslseg.core.scans.classes.scan_classes import match_labels
from napari_sslseg.core.scans.find import find_scans
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.matching.label_guess import looks_like_labels
from napari_sslseg.core.scans.matching.label_names import is_named_as_labels
from napari_sslseg.core.scans.matching.pairing import Pairing, missing_labels
from napari_sslseg.core.scans.matching.sequences import choose_sequence
from napari_sslseg.core.scans.names import unique_by_name
from napari_sslseg.core.scans.scan_lists import by_scan
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.slices.annotated import annotated_of_all
from napari_sslseg.core.scans.volume import load_volume


def pair_scans(
    images: str | Path,
    labels: str | Path,
    annotated: dict[str, tuple[int, ...]] | Literal["labelled", "all"] | None = None,
    *,
    every_image: bool = True,
    class_map: ClassMapLike = None,
    match_classes: bool = True,
    sequence: str | None = None,
    ignore: int | None = None,
    background: int = 0,
    labelled_classes: LabelledClasses | None = None,
) -> list[LabelledScan]:
    """Pair the scans of a folder with labels, by the names of files and folders.

    See :mod:`~napari_sslseg.core.scans.matching.pairing` for the names that fit.

    Parameters
    ----------
    images, labels : path-like
        Folders, or single files; one folder for both if the names of labels say so. A label file
        has the name of its scan, or is in the folder of its patient.
    annotated : dict, "labelled" or "all", optional
        Annotated slices by name of the scan, see :func:`read_annotated`; other scans are ignored.
        Or the slices with labels, or all slices, of all scans; see :class:`LabelledScan`.
    every_image : bool
        Whether a scan without labels is an error; otherwise it is ignored.
    class_map : ClassMap, path-like or mapping, optional
        Which structure in the files is which class, see :func:`match_labels`.
    match_classes : bool
        Whether to match the classes of the files; a resumed run has them in its record.
    sequence : str, optional
        End of the names of the scans to use if a case has several, such as ``T1w`` or ``0000``.
    ignore, background : int
        Values in the files of unknown voxels and of the background, see :class:`LabelledScan`.
    labelled_classes : mapping of str to sequence of int or str, optional
        Classes, by value or name, that are labelled in a scan, by its name; all in other scans.
        See :func:`~napari_sslseg.core.scans.classes.partial_labels.read_labelled_classes`.

    Raises
    ------
    DataError
        If a scan has no labels, labels have no scan, or there is no pair.
    ClassesError
        If it is not clear which structure is which class.
    """
    for name, folder in (("images", images), ("labels", labels)):
        check_type(folder, PATH, name, "a folder or a file, as in pair_scans('images', 'labels')")
    images, labels = Path(images), Path(labels)
    whole: Any = None
    if not isinstance(annotated, Mapping):
        whole, annotated = annotated_of_all(annotated), None
    check_unknown_value(ignore, background)
    scans = scans_to_pair(images, labels, sequence)
    pairing = Pairing(scans, images, labels)
    if not pairing.files:
        advice = "add labels, or give the folder of the labels"
        if images.resolve() == labels.resolve():
            advice = "give them such names, or give two folders"
        raise DataError(
            f"No file in {labels} is a DICOM segmentation or structure set, or has a name of "
            f"labels, such as p0_seg; {advice}."
        )
    files = pairing.pairs()
    numbers = {scan.name: number for number, scan in enumerate(scans)}
    if annotated is not None:
        annotated = by_scan(annotated, numbers, "annotated slices")
        if not annotated:
            raise DataError("The list of annotated slices is empty; annotate at least one slice.")
    wanted = [numbers[name] for name in annotated] if annotated is not None else []
    missing = [number for number in wanted if number not in files]
    if every_image and annotated is None:
        missing = missing_labels(scans, files)
    if missing:
        scan = scans[missing[0]]
        raise DataError(
            f"The scan {scan.path} has no labels{_more(len(missing), len(scans))}: {labels} has no "
            f"file named {scan.name}, such as {scan.name}.nii.gz"
            f"{_similar(scan.name, pairing.files)}; add labels, or give --some-labelled to "
            "leave these scans out (in Python every_image=False)."
            f"{_swapped(pairing.files[0])}"
        )
    pairs = [
        LabelledScan(
            scans[number],
            file,
            annotated[scans[number].name] if annotated else whole,
            ignore=ignore,
            background=background,
        )
        for number, file in files.items()
        if annotated is None or number in wanted
    ]
    if pairing.orphans and images.is_file() and pairs:
        others = count_phrase(len(pairing.orphans), "label file")
        warnings.warn(
            f"Left out: {others} in {labels} of other scans than {images}, since --images is one "
            "scan; give its folder to use all.",
            ScanWarning,
            stacklevel=2,
        )
    elif pairing.orphans and images.is_file():
        raise DataError(
            f"No labels in {labels} have the name of the scan {images}; give its label file "
            "itself, or the folder of the scans."
        )
    elif pairing.orphans:
        raise DataError(
            f"The labels {pairing.orphans[0]} have no scan: {images} holds no file of that name; "
            f"add it, or move the labels to another folder.{_swapped(pairing.orphans[0])}"
        )
    if not pairs:
        raise DataError(f"No scan in {images} has labels in {labels}; give both the same name.")
    if not match_classes:
        return pairs
    matched, match = match_labels(pairs, class_map)
    for note in match.notes:
        warnings.warn(note, ScanWarning, stacklevel=2)
    if labelled_classes is None:
        return matched
    values = class_values(labelled_classes, match.names, [item.name for item in matched])
    return [replace(item, labelled_classes=values.get(item.name)) for item in matched]


def scans_to_pair(images: Path, labels: Path, sequence: str | None = None) -> list[Series]:
    """Return the scans of a folder, sorted by name, without files in the folder of the labels.

    Parameters
    ----------
    images, labels, sequence
        As in :func:`pair_scans`.

    Raises
    ------
    SslsegError
        If there is no scan, or two have the same name.
    """
    inside = labels.resolve() != images.resolve() and labels.resolve().is_relative_to(
        images.resolve()
    )
    scans = find_scans(images)
    if inside:
        root = labels.resolve()
        scans = [scan for scan in scans if not scan.path.resolve().is_relative_to(root)] or scans
    if labels.resolve() == images.resolve():
        files = [scan for scan in scans if scan.path.is_file()]
        named = [scan for scan in files if is_named_as_labels(scan.path, images)]
        # If all have such names, they are no sign of labels.
        scans = [scan for scan in scans if scan not in named] or scans
    if sequence:
        scans = choose_sequence(scans, sequence)
    by_name = unique_by_name(scans, lambda scan: scan.name, lambda scan: scan.path, images)
    return list(by_name.values())


def _more(missing: int, count: int) -> str:
    """How many scans have the same problem."""
    return f" ({missing} of {count} scans have none)" if missing > 1 else ""


def _swapped(file: Path) -> str:
    """Ask whether scans and labels are swapped if a label file looks like a scan."""
    if is_dicom(file):
        return ""
    try:
        is_scan = not looks_like_labels(load_volume(file))
    except SslsegError:  # What is wrong with the file is said where it is needed.
        return ""
    return f" {file.name} looks like a scan; are scans and labels swapped?" if is_scan else ""


def _similar(name: str, files: Sequence[Path]) -> str:
    """Name the label file whose name is most like that of a scan, if one is."""
    from difflib import get_close_matches

    found = get_close_matches(name, [file.name for file in files], n=1, cutoff=0.5)
    return f" (it has {printable(found[0], 100)})" if found else ""
