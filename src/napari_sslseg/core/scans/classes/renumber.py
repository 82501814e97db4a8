"""Replace the label values of a file by those of the classes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.scans.volume import Volume


def renumber(labels: Volume, values: Mapping[int, int] | None) -> Volume:
    """Replace label values.

    Parameters
    ----------
    labels : Volume
        Labels of a file.
    values : mapping of int to int, optional
        Class of each value other than 0; 0 for a value that becomes background. Unchanged labels
        if not given.

    Returns
    -------
    Volume
        Labels with the smallest integer type that holds all classes.

    Raises
    ------
    DataError
        If the labels have a value that is not among ``values``.
    """
    if values is None:
        return labels
    where = f"{labels.name} ({labels.path or 'in memory'})"
    return replace(labels, data=renumber_array(labels.data, values, where))


def renumber_array(data: np.ndarray, values: Mapping[int, int], where: str) -> np.ndarray:
    """Replace label values in an array, see :func:`renumber`; ``where`` is for the message."""
    found = np.unique(data)
    unknown = [value for value in found.tolist() if value and value not in values]
    if unknown:
        raise DataError(
            f"The labels of {where} contain the value {unknown[0]:g}, which has no name there and "
            "thus no class; give the class with --class-map (in Python class_map=), or correct "
            "the file."
        )
    classes = np.array([values[value] if value else 0 for value in found.tolist()])
    classes = classes.astype(np.min_scalar_type(int(classes.max())))
    out = np.empty(data.shape, classes.dtype)
    # Plane by plane, since the places take eight bytes for each voxel.
    for plane, target in zip(data, out, strict=True):
        target[:] = classes[np.searchsorted(found, plane)]
    return out


def compose(
    first: Mapping[int, int] | None, second: Mapping[int, int] | None
) -> dict[int, int] | None:
    """Return the values after two replacements."""
    if first is None or second is None:
        found = second if first is None else first
        return None if found is None else dict(found)
    return {value: second[middle] if middle else 0 for value, middle in first.items()}


def values_in(data: np.ndarray) -> list[int]:
    """Return the label values that occur, without the background."""
    return [int(value) for value in np.unique(data) if value]
