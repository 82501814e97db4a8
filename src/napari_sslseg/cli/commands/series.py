"""Command: list the scans in files and folders."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sslseg.cli.console import records, say
from napari_sslseg.cli.options import Json, Patients
from napari_sslseg.cli.training import say_patients
from napari_sslseg.core.common.text import count_phrase, join_names

if TYPE_CHECKING:
    from napari_sslseg.core.scans.series import Series

MOST_GUESSES = 20
"""Files whose values are read to guess their modality, since that takes time."""

LABEL_MAP = "label map"


def series(
    paths: Annotated[list[Path], typer.Argument(help="Scans, DICOM files, folders.")],
    patients: Patients = None,
    as_json: Json = False,
) -> None:
    """List the scans in files and folders, their patients, and what cannot be used and why."""
    from napari_sslseg.core.scans.find import list_series
    from napari_sslseg.core.scans.matching.patients import with_patients
    from napari_sslseg.core.scans.names import files_below

    found = list_series(paths)
    if patients:
        found = with_patients(found, patients)
    good = [item for item in found if item.problem is None]
    guesses = _guesses(good)
    maps = [item for item in good if guesses.get(item.path) == LABEL_MAP]
    if as_json:
        print(json.dumps([_as_dict(item, guesses.get(item.path)) for item in found]))
        return
    if good:
        titles = ["scan", "patient", "modality", "slices × rows × columns", "mm", "folder"]
        notes = any(item.notes for item in good)
        rows = [_row(item, guesses.get(item.path), paths, notes) for item in good]
        records(titles + ["note"] * notes, rows)
    for line in _describe_problems([item for item in found if item.problem is not None]):
        say(f"Not usable: {line}")
    say(
        f"Usable: {len(good) - len(maps)} of {len(found)}, by their headers; voxel values are "
        "checked when they are read."
    )
    if maps:
        say(
            f"Not scans: {count_phrase(len(maps), 'file')} with the values of a label map "
            f"({join_names([item.name for item in maps])}), which commands refuse as a scan; give "
            "them as labels, or leave them out."
        )
    if any(item.modality is None for item in good):
        say(
            "Modality: without a header that gives it, it is guessed from the values of at most "
            f"{MOST_GUESSES} files; --modality of the other commands says it."
        )
    if good:
        say_patients(good, patients)
    listed = {file for item in found for file in item.files}
    below = [file for path in paths if path.is_dir() for file in files_below(path)]
    below = [file for file in below if file not in listed]
    if below:
        say(
            f"Not listed: {len(below)} volume files in sub-folders, such as {below[0]}; files with "
            "names of labels are no scans, and other sub-folders are listed if you name them."
        )


def _guesses(items: Iterable["Series"]) -> dict[Path, str]:
    """Guess from values what the first files without a modality in their header are."""
    from napari_sslseg.core.common.errors import SslsegError
    from napari_sslseg.core.scans.matching.label_guess import has_label_values
    from napari_sslseg.core.scans.matching.label_names import has_label_words
    from napari_sslseg.core.scans.volume import guess_modality

    found: dict[Path, str] = {}
    for item in items:
        if item.modality is None and item.path not in found and len(found) < MOST_GUESSES:
            try:
                values = item.opened().values(item.frame)
                is_map = has_label_values(values, named=has_label_words(item.name))
                found[item.path] = LABEL_MAP if is_map else f"{guess_modality(values)} (guess)"
            except SslsegError as error:
                found[item.path] = "unknown"
                say(f"Not readable: {error}")
    return found


def _row(item: "Series", guess: str | None, paths: list[Path], notes: bool) -> list[Any]:
    geometry = item.geometry
    assert geometry is not None
    shape = " × ".join(map(str, geometry.display_shape))
    spacing = " × ".join(f"{value:.3g}" for value in geometry.spacing)
    root = Path(os.path.commonpath([path.resolve() for path in paths]))
    folder = item.path if item.path.is_dir() else item.path.parent
    place = os.path.relpath(folder.resolve(), root if root.is_dir() else root.parent)
    row = [item.name, item.subject, item.modality or guess, shape, spacing, place]
    return [*row, *["; ".join(item.notes)] * notes]


def _describe_problems(items: Iterable["Series"]) -> list[str]:
    """Describe unusable series in one line for each reason in each folder."""
    groups: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for item in items:
        problem = str(item.problem)
        reason = problem.removeprefix(f"{item.path} ")
        groups[item.path.parent, reason].append(problem)
    return [
        # The parts of a series have the same problem.
        problems[0]
        if len(set(problems)) == 1
        else f"{len(problems)} files in {parent}, each of which {reason}"
        for (parent, reason), problems in groups.items()
    ]


def _as_dict(item: "Series", guess: str | None) -> dict[str, Any]:
    geometry = item.geometry
    return {
        "name": item.name,
        "subject": item.subject,
        "path": str(item.path),
        "files": len(item.files),
        "modality": item.modality,
        # Not known of files whose values were not read.
        "label_map": None if guess is None else guess == LABEL_MAP,
        "shape": None if geometry is None else geometry.display_shape,
        "spacing_mm": None if geometry is None else geometry.spacing,
        "orientation": None if geometry is None else geometry.orientation,
        "problem": item.problem,
        "notes": item.notes,
    }
