"""Estimate the memory of a prediction before it begins."""

from math import prod

from napari_sslseg.core.common.compute.memory import available_memory, gigabytes
from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.samples.placement import resampled_shape
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, VolumePreprocessing

BATCH = 512 * 1024**2
"""Largest size in bytes of the slices that pass through a network at once, and their features."""

FEATURES = 128
"""Bytes per voxel of features; in small scans all slices pass through the network at once."""

SCAN = 4
"""Bytes per voxel of a scan in float32; integers take fewer."""

LABELS = 4
"""Bytes per voxel of the labels, their copy in the grid of the file, and the compressed file."""


def prediction_memory(
    geometry: Geometry,
    settings: AnyPreprocessing,
    classes: int,
    *,
    probabilities: bool = False,
    uncertainty: bool = False,
) -> int:
    """Estimate the memory that the prediction of a scan takes, from its geometry.

    Parameters
    ----------
    geometry : Geometry
        Geometry of the scan.
    settings : Preprocessing or VolumePreprocessing
        Preprocessing of the network.
    classes : int
        Number of classes, including the background.
    probabilities, uncertainty : bool
        Whether these are kept as well.

    Returns
    -------
    int
        Bytes, including the scan itself.
    """
    voxels = prod(geometry.display_shape)
    batch = min(BATCH, FEATURES * voxels)
    each = SCAN + LABELS + 2 * uncertainty + 4 * classes * probabilities
    if not isinstance(settings, VolumePreprocessing):
        return voxels * each + batch
    # The prepared scan, the sum of the scores of overlapping crops, and the result in the grid of
    # the scan.
    resampled = prod(resampled_shape(geometry, settings))
    canvas = resampled * 4 * (2 * settings.channels + 2 * classes)
    return voxels * (each + 4 * classes) + canvas + batch


def check_memory(name: str, need: int) -> None:
    """Refuse a prediction for which there is not enough memory.

    Parameters
    ----------
    name : str
        Name of the scan.
    need : int
        Bytes, see :func:`prediction_memory`.

    Raises
    ------
    VolumeError
        If less memory is free. Without this check the system might stop the program.
    """
    free = available_memory()
    if free is not None and need > free:
        raise VolumeError(
            f"To segment {name} takes about {gigabytes(need)} of memory, but {gigabytes(free)} are "
            "free; close other programs, crop the scan, or use a machine with more memory."
        )


def memory_message(needs: dict[str, int]) -> str:
    """Describe the memory that the largest of several scans takes.

    Parameters
    ----------
    needs : dict of str to int
        Bytes by the name of the scan.
    """
    name = max(needs, key=lambda key: needs[key])
    free = available_memory()
    text = f"Memory: the largest scan, {name}, takes about {gigabytes(needs[name])}"
    return f"{text}." if free is None else f"{text}, of {gigabytes(free)} free."
