"""A DICOM volume: sorted planes on a regular grid, whose values are read on demand."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.datasets import read_dataset
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.planes.sorting import plane_name, positions
from napari_sslseg.core.scans.formats.dicom.regular_grid import (
    fit_regular_grid,
    grid_affine,
    resample,
)
from napari_sslseg.core.scans.formats.dicom.values.padding import PaddingMask
from napari_sslseg.core.scans.formats.dicom.values.pixels import stored_values
from napari_sslseg.core.scans.formats.dicom.values.scaling import Scaling, scaling_notes
from napari_sslseg.core.scans.formats.image_file import check_finite
from napari_sslseg.core.scans.geometry import Geometry

# Images larger than those of any scanner mean that the header is damaged.
MOST_PIXELS = 2**28
MOST_VOXELS = 2**32


def _values_note(planes: Sequence[ImagePlane], where: str, *, ct: bool) -> list[str]:
    """Return a note if the values of a CT may not be HU.

    Raises
    ------
    VolumeError
        If only some of the planes are rescaled, so that their values differ in meaning.
    """
    missing = [plane for plane in planes if not plane.is_rescaled]
    if 0 < len(missing) < len(planes):
        # A rescaling that changes nothing may be left out.
        if any(plane.rescale != (1.0, 0.0) for plane in planes if plane.is_rescaled):
            raise VolumeError(
                f"{where} holds values of two meanings: {len(missing)} of its {len(planes)} "
                f"slices, such as {plane_name(missing[0])}, give no rescale intercept; export the "
                "series again."
            )
        return []
    if missing and ct:
        return [
            "its header gives no rescale intercept, so the values are used as stored, and may not "
            "be HU"
        ]
    return []


class DicomVolume:
    """Sorted planes of one direction as a volume; see ImageFile.

    Parameters
    ----------
    planes : sequence of ImagePlane
        Planes of one direction and size with different positions, in any order.
    where : str
        Name of the series in messages.
    path : Path
        The file, or the folder of the files.
    notes : sequence of str
        What is to be said about the choice of the planes.
    ct : bool
        Whether the values are HU.

    Raises
    ------
    VolumeError
        If slices are missing.
    """

    frames = 1

    def __init__(
        self,
        planes: Sequence[ImagePlane],
        where: str,
        path: Path,
        *,
        notes: Sequence[str] = (),
        ct: bool = False,
    ) -> None:
        order = np.argsort(positions(planes), kind="stable")
        self.planes = tuple(planes[index] for index in order)
        self.path = path
        self._notes = (
            *notes,
            *_values_note(self.planes, where, ct=ct),
            *scaling_notes(
                [Scaling(p.rescale[0], p.rescale[1], unit=p.unit) for p in self.planes],
                [plane.other_scalings for plane in self.planes],
            ),
        )
        self._padding_note: str | None = None
        self._ct = ct
        self.layout = fit_regular_grid(self.planes, where)
        rows, columns = np.array(self.planes[0].shape) + self.layout.margin.sum(0)
        if rows * columns > MOST_PIXELS or rows * columns * self.layout.count > MOST_VOXELS:
            raise VolumeError(
                f"{where} has {self.layout.count} slices of {rows} × {columns} pixels by its "
                "headers, which are damaged; export it again."
            )
        self.geometry = Geometry(
            grid_affine(self.planes, self.layout), (int(columns), int(rows), self.layout.count)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was inferred or changed; about padding only once the values have been read."""
        padding = () if self._padding_note is None else (self._padding_note,)
        return (*self._notes, *self.layout.notes, *padding)

    @property
    def header(self) -> "DicomVolume":
        """The stack itself, to which a DICOM SEG of this volume refers."""
        return self

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files in the order of the slices, without duplicates."""
        return tuple(dict.fromkeys(plane.path for plane in self.planes))

    def datasets(self) -> list[Dataset]:
        """Read all attributes except the pixels of each file, in the order of the slices."""
        return [read_dataset(path, everything=True) for path in self.files]

    def values(self, frame: int = 0) -> np.ndarray:
        """Read the rescaled values (HU for CT) in the source grid (column, row, slice).

        They are integers if the slope is 1, the intercept is a whole number, and nothing is
        resampled; otherwise float32. Padding that would look like tissue has the lowest value.
        """
        slopes = {plane.rescale[0] for plane in self.planes}
        whole = all(float(plane.rescale[1]).is_integer() for plane in self.planes)
        kind = np.int16 if slopes == {1.0} and whole else np.float32
        out = np.empty((len(self.planes), *self.planes[0].shape), kind)
        padding = PaddingMask(ct=self._ct)
        for number, values in enumerate(stored_values(self.planes)):
            plane = self.planes[number]
            padding.add(number, values, plane.stored.padding)
            if out.dtype.kind == "i" and values.dtype.kind == "f":
                out = out.astype(np.float32)
            if out.dtype.kind == "f":
                np.multiply(values, plane.rescale[0], out=out[number], casting="unsafe")
                out[number] += plane.rescale[1]
                continue
            offset = int(plane.rescale[1])
            if not plane.fits(out.dtype):
                low, high = int(values.min()) + offset, int(values.max()) + offset
                if low < np.iinfo(out.dtype).min or high > np.iinfo(out.dtype).max:
                    out = out.astype(np.int32 if max(-low, high) < 2**31 else np.int64)
            np.add(values, offset, out=out[number], casting="unsafe", dtype=out.dtype)
        self._padding_note = padding.replace(out)
        if self._padding_note and out.dtype.kind == "i":
            limits = np.iinfo(np.int16)
            if limits.min <= out.min() and out.max() <= limits.max:
                out = out.astype(np.int16, copy=False)
        if self.layout.resampled:
            out = resample(out, self.layout)
        return check_finite(out, self.path).transpose(2, 1, 0)
