"""NRRD and MetaImage files, read and written through SimpleITK."""

from pathlib import Path

import numpy as np

from napari_sslseg.core.geometry import Geometry


class ItkFile:
    """An opened NRRD or MetaImage file; see ImageFile."""

    def __init__(self, path: Path) -> None:
        raise NotImplementedError


def write_itk(source: np.ndarray, geometry: Geometry, header: object, path: Path) -> None:
    """Write labels of the source grid as NRRD or MetaImage."""
    raise NotImplementedError
