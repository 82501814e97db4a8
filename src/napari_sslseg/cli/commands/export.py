"""Command: write labels in another format."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sslseg.cli.console import say
from napari_sslseg.cli.options import ClassMapOption, ClassNames, Json, OverwriteFile
from napari_sslseg.core.common.errors import ConfigError

if TYPE_CHECKING:
    from napari_sslseg.core.scans.classes.class_codes import Algorithm
    from napari_sslseg.core.scans.series import Series
    from napari_sslseg.core.scans.volume import Volume

ALGORITHMS: dict[str, "Algorithm"] = {
    "manual": "MANUAL",
    "semiautomatic": "SEMIAUTOMATIC",
    "automatic": "AUTOMATIC",
}
PSEUDONYM = re.compile(r"patient-[0-9a-f]{8}")
"""Pseudonym of a DICOM patient in the names of scans and of their labels."""


def _parse_algorithm(name: str) -> "Algorithm":
    """How the labels were made, by its DICOM name."""
    if name.lower() not in ALGORITHMS:
        raise ConfigError(f"There is no algorithm {name}; choose {', '.join(ALGORITHMS)}.")
    return ALGORITHMS[name.lower()]


def export(
    labels: Annotated[Path, typer.Argument(help="Label file.")],
    like: Annotated[
        Path, typer.Option(help="The scan that the labels belong to: a file, or a folder.")
    ],
    out: Annotated[Path, typer.Option(help="File to write: .nii.gz, .nii, .nrrd, .mha or .dcm.")],
    series: Annotated[
        str | None,
        typer.Option(
            help="Name of the scan if --like contains several; the command series lists the names."
        ),
    ] = None,
    class_names: ClassNames = None,
    class_map: ClassMapOption = None,
    algorithm: Annotated[
        str,
        typer.Option(
            help="How the labels were made: manual, semiautomatic or automatic; for DICOM SEG."
        ),
    ] = "manual",
    overwrite: OverwriteFile = False,
    as_json: Json = False,
) -> None:
    """Write labels in another format, on the grid of their scan; .dcm is DICOM SEG."""
    from napari_sslseg.core.common.atomic import remove_leftovers
    from napari_sslseg.core.common.errors import DataError, StorageError
    from napari_sslseg.core.common.safe_files import refuse_existing
    from napari_sslseg.core.scans.classes.class_list import read_class_names
    from napari_sslseg.core.scans.classes.matching import LabelFile, match_segments
    from napari_sslseg.core.scans.classes.read import read_segments
    from napari_sslseg.core.scans.classes.renumber import renumber, values_in
    from napari_sslseg.core.scans.classes.write_class_list import agree_with_folder
    from napari_sslseg.core.scans.formats.image_file import check_present
    from napari_sslseg.core.scans.formats.registry import stores_classes
    from napari_sslseg.core.scans.labels import load_labels, read_segment_names, save_labels
    from napari_sslseg.core.scans.replacement import may_be_scan, refuse_to_replace_scan

    refuse_existing(out, overwrite=overwrite)
    given_names = None if class_names is None else read_class_names(class_names)
    dicom_algorithm = _parse_algorithm(algorithm)
    # Before the scan is looked for, since only a label file leads to it.
    check_present(labels, "label file")
    chosen = _find_scan(labels, like, series)
    remarks = _compare_patients(labels, chosen, by_name=series is not None)
    own = {file.resolve() for file in chosen.files}
    if labels.resolve() in own and may_be_scan(labels.resolve()):
        raise DataError(f"{labels} is the scan itself; give its label file.")
    if out.resolve() in own:
        raise StorageError(
            f"{out} is the scan itself and must not be replaced; choose another name."
        )
    refuse_to_replace_scan(out)
    scan = _without_values(chosen)
    found = load_labels(labels, like=scan)
    names = read_segment_names(labels)
    if class_map is not None:
        segments = read_segments(labels)
        file = LabelFile(labels.name, segments, lambda: values_in(found.data))
        match = match_segments([file], class_map)
        found, names = renumber(found, match.values[0]), match.names
        for note in match.notes:
            say(f"Note: {note}")
    if given_names is not None:
        names = given_names
    if not (names and stores_classes(out)):
        found, names, more = agree_with_folder(found, names, out)
        remarks += more
    remove_leftovers(out.parent)  # Of an export that was killed.
    save_labels(
        found.data,
        out,
        like=scan,
        classes=names,
        algorithm=dicom_algorithm,
        overwrite=overwrite,
    )
    for remark in (*remarks, *_compare_names(names, values_in(found.data))):
        say(f"Note: {remark}")
    if as_json:
        print(json.dumps({"labels": str(out), "scan": chosen.name}))
    else:
        say(f"Labels: {out}")


def _compare_names(names: Mapping[int, str], values: Iterable[int]) -> list[str]:
    """Describe label values without a name, and class names without a voxel."""
    present = {int(value) for value in values} - {0}
    unnamed, absent = sorted(present - set(names)), sorted(set(names) - present)
    remarks = []
    if names and unnamed:
        remarks.append(f"The label values {', '.join(map(str, unnamed))} have no class name.")
    if absent:
        missing = ", ".join(f"{names[value]} ({value})" for value in absent)
        remarks.append(f"No voxel is labelled {missing}.")
    return remarks


def _find_scan(labels: Path, like: Path, name: str | None) -> "Series":
    """Find the scan of labels: the only one, the named one, or the one a DICOM SEG refers to."""
    from napari_sslseg.core.scans.find import whole_series
    from napari_sslseg.core.scans.formats.dispatch import is_dicom

    found = whole_series(like)
    if name is not None:
        named = [item for item in found if item.name == name]
        if not named:
            raise ConfigError(f"{like} contains no scan named {name}, only {_names(found)}.")
        return named[0]
    scans = [item for item in found if item.is_scan] or found
    if len(scans) > 1 and is_dicom(labels):
        from napari_sslseg.core.scans.formats.dicom.labels.read import referenced_series

        referenced = referenced_series(labels, scans)
        scans = referenced if len(referenced) == 1 else scans
    if len(scans) > 1:
        matching = _named_alike(labels, scans)
        scans = matching if len(matching) == 1 else scans
    if len(scans) != 1:
        raise ConfigError(
            f"{like} contains {len(scans)} scans ({_names(scans)}); choose the scan of the labels "
            "with --series."
        )
    return scans[0]


def _named_alike(labels: Path, scans: "Sequence[Series]") -> list["Series"]:
    """Return the scans that the name of a label file fits best."""
    from napari_sslseg.core.scans.matching.pairing import best_match
    from napari_sslseg.core.scans.names import scan_name

    fitting = best_match(scan_name(labels), [item.name for item in scans])
    return [item for item in scans if item.name in fitting]


def _compare_patients(labels: Path, scan: "Series", *, by_name: bool) -> list[str]:
    """Compare the name of a label file, or its DICOM header, with that of the scan.

    Returns
    -------
    list of str
        A remark if the name is that of another scan, which is of the same patient, or if the user
        chose this scan ``by_name``.

    Raises
    ------
    DataError
        If the labels are of another patient by their name or their DICOM header.
    """
    from napari_sslseg.core.common.errors import DataError

    other, same_patient = _other_scan(labels, scan)
    if not other:
        return []
    if not same_patient and not by_name:
        raise DataError(
            f"{labels.name} belongs to {other} by its name or header, and the scan is {scan.name}; "
            f"choose the scan of the labels, or give --series {scan.name} if it is right."
        )
    return [f"{labels.name} belongs to {other} by its name, but it is placed on {scan.name}."]


def _other_scan(labels: Path, scan: "Series") -> tuple[str, bool]:
    """The scan or patient that a label file has the name of, if not this; and if it is the same."""
    from napari_sslseg.core.scans.formats.dispatch import is_dicom
    from napari_sslseg.core.scans.matching.label_names import is_named_as_labels
    from napari_sslseg.core.scans.matching.pairing import best_match
    from napari_sslseg.core.scans.matching.subjects import guess_subjects
    from napari_sslseg.core.scans.names import scan_name, volume_files

    if scan.path.is_dir() or is_dicom(scan.path):
        named = set(PSEUDONYM.findall(labels.name)) or _patient_of(labels, scan)
        is_other = named and PSEUDONYM.fullmatch(scan.subject) and scan.subject not in named
        return (min(named), False) if is_other else ("", True)
    folder = scan.path.absolute().parent
    beside = [
        file
        for file in volume_files(folder)
        if file.resolve() != labels.resolve() and not is_named_as_labels(file, folder)
    ]
    subjects = {
        scan_name(file): subject
        for file, subject in zip(beside, guess_subjects(beside).subjects, strict=True)
    }
    fitting, own = best_match(scan_name(labels), subjects), scan_name(scan.path)
    if len(fitting) != 1 or fitting[0] == own or own not in subjects:
        return "", True
    return fitting[0], subjects[fitting[0]] == subjects[own]


def _patient_of(labels: Path, scan: "Series") -> set[str]:
    """The patient of DICOM labels that do not refer to a scan; empty for others."""
    from napari_sslseg.core.scans.find import list_series
    from napari_sslseg.core.scans.formats.dispatch import is_dicom

    if not is_dicom(labels):
        return set()
    from napari_sslseg.core.scans.formats.dicom.labels.read import referenced_series

    if referenced_series(labels, [scan]):
        return set()
    return {item.subject for item in list_series([labels])}


def _names(found: list["Series"]) -> str:
    """Up to four names; scans that can be used first."""
    names = [item.name for item in sorted(found, key=lambda item: item.problem is not None)]
    return (", ".join(names[:4]) or "none") + (", …" if len(names) > 4 else "")


def _without_values(series: "Series") -> "Volume":
    """Make a volume with the geometry and header of the scan, without decoding its images."""
    import numpy as np

    from napari_sslseg.core.scans.volume import Volume

    image = series.opened()
    for note in series.notes:
        say(f"Note: {series.path}: {note}")
    return Volume(
        data=np.broadcast_to(np.uint8(0), image.geometry.display_shape),
        geometry=image.geometry,
        subject=series.subject,
        name=series.name,
        path=series.path,
        header=image.header,
        notes=series.notes,
    )
