"""Draw structures that may overlap into one label map."""

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.common.text import count_phrase


def paint_labels(
    shape: tuple[int, ...],
    voxels: Mapping[int, np.ndarray],
    path: Path,
    names: Mapping[int, str],
) -> np.ndarray:
    """Draw structures, which may overlap, into one label map; smaller structures take precedence.

    So a lesion in an organ, or an organ in the body, is kept whatever the order in the file.

    Parameters
    ----------
    shape : tuple of int
        Shape of the label map.
    voxels : mapping of int to ndarray
        Flat indices of the voxels by label value.
    path : Path
        The file, for the warning.
    names : mapping of int to str
        Names of the label values, for the warning.

    Warns
    -----
    ScanWarning
        If structures overlap: how many voxels each of them lost, and which ones are hidden.
    """
    labels = np.zeros(int(np.prod(shape)), np.min_scalar_type(max(voxels, default=0)))
    lost: Counter[int] = Counter()
    for value in sorted(voxels, key=lambda value: (-voxels[value].size, value)):
        hidden, counts = np.unique(labels[voxels[value]], return_counts=True)
        lost.update(dict(zip(hidden.tolist(), counts.tolist(), strict=True)))
        labels[voxels[value]] = value
    del lost[0]
    if lost:
        parts = ", ".join(f"{structure_name(v, names)} ({n})" for v, n in sorted(lost.items()))
        warnings.warn(
            f"{path}: structures overlap in {count_phrase(lost.total(), 'voxel')}; the smaller one "
            f"was kept there. Voxels lost: {parts}.",
            ScanWarning,
            stacklevel=5,
        )
    drawn = [value for value in sorted(lost) if not (labels == value).any()]
    if drawn:
        warnings.warn(
            f"{path}: smaller or equal structures cover all voxels of "
            f"{', '.join(structure_name(value, names) for value in drawn)}, which has no label "
            "left; import it alone if you need it.",
            ScanWarning,
            stacklevel=5,
        )
    return labels.reshape(shape)


def structure_name(value: int, names: Mapping[int, str]) -> str:
    """Return the name of a structure for messages."""
    name = names.get(value)
    return f"label {value}" if not name else f"{name!r}"
