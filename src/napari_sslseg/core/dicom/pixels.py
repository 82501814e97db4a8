"""Values of image planes as they are stored, before rescaling."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from napari_sslseg.core.dicom.planes import Plane, quietly
from napari_sslseg.core.errors import VolumeError
from napari_sslseg.core.reading import refusing

DAMAGED = "the file is cut short or damaged, so copy or export it again"

# Group and element of Pixel Data, as the first bytes of the element.
PIXEL_DATA = struct.pack("<HH", 0x7FE0, 0x0010)


def stored_values(planes: Sequence[Plane]) -> Iterator[np.ndarray]:
    """Yield the stored values of each plane; a file of many tiles is decoded once.

    Raises
    ------
    VolumeError
        If a file is damaged, or holds an image of another size than its header says.
    """
    last: tuple[Path, int | None] | None = None
    image: np.ndarray | None = None
    for plane in planes:
        if (plane.path, plane.frame) != last or image is None:
            image = _uncompressed(plane) if plane.tile is None else None
            image = _decoded(plane) if image is None else image
            last = plane.path, plane.frame
        row, column = plane.tile or (0, 0)
        tile = image[row : row + plane.shape[0], column : column + plane.shape[1]]
        if tile.shape != plane.shape or (plane.tile is None and image.shape != plane.shape):
            raise VolumeError(
                f"{plane.path} holds an image of {image.shape} pixels where its header says "
                f"{plane.shape}; {DAMAGED}."
            )
        yield tile


def _uncompressed(plane: Plane) -> np.ndarray | None:
    """Read 16-bit values that stand in the file as they are; None if pydicom must decode them.

    Half of the time of reading a series goes into decoding headers a second time otherwise.
    """
    if plane.raw is None:
        return None
    start, unused, signed = plane.raw
    count = plane.shape[0] * plane.shape[1]
    with refusing(plane.path, "a DICOM image", advice=DAMAGED), plane.path.open("rb") as file:
        file.seek(start)
        head = file.read(12)
        explicit = head[4:6] in (b"OW", b"OB")
        # Anything odd is left to pydicom, which tells it from a damaged file.
        if head[:4] != PIXEL_DATA or len(head) < 12:
            return None
        length = struct.unpack("<I", head[8:] if explicit else head[4:8])[0]
        first = 2 * count * (plane.frame or 0)
        if length == 0xFFFFFFFF or length < first + 2 * count:
            return None
        file.seek(start + (12 if explicit else 8) + first)
        values = np.empty(plane.shape, "<i2" if signed else "<u2")
        if file.readinto(values.data.cast("B")) != values.nbytes:
            return None
    if unused:
        # Older scanners put overlays above the bits of the values.
        np.left_shift(values, unused, out=values)
        np.right_shift(values, unused, out=values)
    return values


def _decoded(plane: Plane) -> np.ndarray:
    from pydicom.pixels import pixel_array

    with refusing(plane.path, "a DICOM image", advice=DAMAGED), quietly():
        return pixel_array(plane.path, index=plane.frame)
