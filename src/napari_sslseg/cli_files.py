"""Command line: what lies in files, and labels in other formats."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sslseg.console import say, table
from napari_sslseg.core.errors import ConfigError

ClassNames = Annotated[
    Path | None,
    typer.Option(help='JSON of class names, {"1": "liver"}; for DICOM SEG.'),
]
FORMATS = ("nii.gz", "nii", "nrrd", "mha", "dcm")


def suffix_of(name: str) -> str:
    """Suffix of a format by its name."""
    plain = name.lower().removeprefix(".")
    if plain not in FORMATS:
        raise ConfigError(f"There is no label format {name}; choose {', '.join(FORMATS)}.")
    return f".{plain}"


def series(
    paths: Annotated[list[Path], typer.Argument(help="Scans, DICOM files, folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List the scans in files and folders, and what cannot be used and why."""
    from napari_sslseg.core.series import Series, list_series

    found = list_series(paths)
    if as_json:
        print(json.dumps([_described(item) for item in found]))
        return

    def row(item: Series) -> list[Any]:
        assert item.geometry is not None
        shape = " × ".join(map(str, item.geometry.display_shape))
        spacing = " × ".join(f"{value:.3g}" for value in item.geometry.spacing)
        return [item.name, item.modality, shape, spacing, len(item.files), "; ".join(item.notes)]

    good = [item for item in found if item.problem is None]
    if good:
        titles = ["scan", "modality", "slices × rows × columns", "mm", "files", "note"]
        table(titles, [row(item) for item in good])
    for item in found:
        if item.problem is not None:
            say(f"Not usable: {item.problem}")


def export(
    labels: Annotated[Path, typer.Argument(help="Label file.")],
    like: Annotated[Path, typer.Option(help="The scan that the labels lie on.")],
    out: Annotated[Path, typer.Option(help="File to write: .nii.gz, .nii, .nrrd, .mha or .dcm.")],
    class_names: ClassNames = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
) -> None:
    """Write labels in another format, on the grid of their scan; .dcm is DICOM SEG."""
    from napari_sslseg.core.errors import StorageError
    from napari_sslseg.core.label_maps import load_labels, save_labels
    from napari_sslseg.core.labelled import read_class_names
    from napari_sslseg.core.volumes import load_volume

    if out.exists() and not overwrite:
        raise StorageError(f"{out} exists already; choose another name, or pass --overwrite.")
    if class_names is not None and not class_names.is_file():
        raise ConfigError(f"The file of class names {class_names} does not exist; check the path.")
    # The values of the scan are not needed, but its kind is: any serves.
    scan = load_volume(like, modality="MR")
    names = read_class_names(class_names) if class_names else None
    save_labels(load_labels(labels, like=scan).data, out, like=scan, classes=names)
    say(f"Labels: {out}")


def _described(item: Any) -> dict[str, Any]:
    geometry = item.geometry
    return {
        "name": item.name,
        "subject": item.subject,
        "path": str(item.path),
        "files": len(item.files),
        "modality": item.modality,
        "shape": None if geometry is None else geometry.display_shape,
        "spacing_mm": None if geometry is None else geometry.spacing,
        "orientation": None if geometry is None else geometry.orientation,
        "problem": item.problem,
        "notes": item.notes,
    }
