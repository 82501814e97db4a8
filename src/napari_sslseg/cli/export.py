"""Command line: labels in other formats."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sslseg.cli.console import say
from napari_sslseg.cli.options import Json
from napari_sslseg.core.common.errors import ConfigError

if TYPE_CHECKING:
    from napari_sslseg.core.scans.class_codes import Algorithm
    from napari_sslseg.core.scans.series import Series
    from napari_sslseg.core.scans.volume import Volume

ClassNames = Annotated[
    Path | None,
    typer.Option(help='JSON of class names, {"1": "liver"}; for DICOM SEG.'),
]
FORMATS = ("nii.gz", "nii", "nrrd", "mha", "dcm")
ALGORITHMS: dict[str, "Algorithm"] = {
    "manual": "MANUAL",
    "semiautomatic": "SEMIAUTOMATIC",
    "automatic": "AUTOMATIC",
}


def suffix_of(name: str) -> str:
    """Suffix of a format by its name."""
    plain = name.lower().removeprefix(".")
    if plain not in FORMATS:
        raise ConfigError(f"There is no label format {name}; choose {', '.join(FORMATS)}.")
    return f".{plain}"


def algorithm_of(name: str) -> "Algorithm":
    """How labels came about, by the name of it."""
    if name.lower() not in ALGORITHMS:
        raise ConfigError(f"There is no algorithm {name}; choose {', '.join(ALGORITHMS)}.")
    return ALGORITHMS[name.lower()]


def export(
    labels: Annotated[Path, typer.Argument(help="Label file.")],
    like: Annotated[
        Path, typer.Option(help="The scan that the labels lie on: a file, or a folder.")
    ],
    out: Annotated[Path, typer.Option(help="File to write: .nii.gz, .nii, .nrrd, .mha or .dcm.")],
    series: Annotated[
        str | None,
        typer.Option(help="Name of the scan, where --like holds several; from the command series."),
    ] = None,
    class_names: ClassNames = None,
    algorithm: Annotated[
        str,
        typer.Option(
            help="How the labels came about: manual, semiautomatic or automatic; for DICOM SEG."
        ),
    ] = "manual",
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Write labels in another format, on the grid of their scan; .dcm is DICOM SEG."""
    import numpy as np

    from napari_sslseg.core.common.errors import StorageError
    from napari_sslseg.core.scans.labelled import read_class_names
    from napari_sslseg.core.scans.labels import load_labels, read_segment_names, save_labels

    if out.exists() and not overwrite:
        raise StorageError(f"{out} exists already; choose another name, or pass --overwrite.")
    if class_names is not None and not class_names.is_file():
        raise ConfigError(f"The file of class names {class_names} does not exist; check the path.")
    how = algorithm_of(algorithm)
    chosen = _scan_of(labels, like, series)
    if out.resolve() in {file.resolve() for file in chosen.files}:
        raise StorageError(
            f"{out} is the scan itself, which labels must not replace; choose another name."
        )
    scan = _without_values(chosen)
    names = read_class_names(class_names) if class_names else read_segment_names(labels)
    data = load_labels(labels, like=scan).data
    save_labels(data, out, like=scan, classes=names or None, algorithm=how)
    for remark in _misfits(names, np.unique(data)):
        say(f"Note: {remark}")
    if as_json:
        print(json.dumps({"labels": str(out), "scan": chosen.name}))
    else:
        say(f"Labels: {out}")


def _misfits(names: Mapping[int, str], values: Iterable[int]) -> list[str]:
    """What class names and label values do not have in common, where there are names."""
    present = {int(value) for value in values} - {0}
    unnamed, absent = sorted(present - set(names)), sorted(set(names) - present)
    remarks = []
    if names and unnamed:
        remarks.append(f"The label values {', '.join(map(str, unnamed))} have no class name.")
    if absent:
        told = ", ".join(f"{names[value]} ({value})" for value in absent)
        remarks.append(f"No voxel is labelled {told}.")
    return remarks


def _scan_of(labels: Path, like: Path, name: str | None) -> "Series":
    """The scan that labels lie on: the only one, that of a name, or the one they refer to."""
    from napari_sslseg.core.scans.find import whole_series
    from napari_sslseg.core.scans.formats.dispatch import is_dicom

    found = whole_series(like)
    if name is not None:
        named = [item for item in found if item.name == name]
        if not named:
            raise ConfigError(f"{like} holds no scan named {name}; it holds {_names(found)}.")
        return named[0]
    scans = [item for item in found if item.is_scan] or found
    if len(scans) > 1 and is_dicom(labels):
        from napari_sslseg.core.scans.formats.dicom.labels.read import referenced_series

        meant = referenced_series(labels, scans)
        scans = meant if len(meant) == 1 else scans
    if len(scans) != 1:
        raise ConfigError(
            f"{like} holds {len(scans)} scans ({_names(scans)}); pass the name of the one that the "
            "labels lie on as --series."
        )
    return scans[0]


def _names(found: list["Series"]) -> str:
    names = [item.name for item in sorted(found, key=lambda item: item.problem is not None)]
    return (", ".join(names[:4]) or "none") + (", …" if len(names) > 4 else "")


def _without_values(series: "Series") -> "Volume":
    """A volume whose place and header alone serve, so that no image is decoded."""
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
