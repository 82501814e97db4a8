"""Read the stored values of image planes, before rescaling."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import as_pixel_options, get_decoder, pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.datasets import (
    GE_BIG_ENDIAN_PIXELS,
    PRIVATE_NATIVE,
    read_dataset,
    read_deflated,
    reraise_dicom_errors,
)
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane

DAMAGED = "the file is truncated or damaged, so copy or export it again"

# Tags of Pixel Data and of an item, as they are stored in the file.
PIXEL_DATA = struct.pack("<HH", 0x7FE0, 0x0010)
ITEM = struct.pack("<HH", 0xFFFE, 0xE000)
UNDEFINED = 0xFFFFFFFF
VALUE = 12
"""Bytes of the element Pixel Data before its compressed value."""


def stored_values(planes: Sequence[ImagePlane]) -> Iterator[np.ndarray]:
    """Yield the stored values of each plane; a file of many tiles is decoded once.

    Raises
    ------
    VolumeError
        If a file is damaged, or the image has another size than in its header.
    """
    last: tuple[Path, int | None] | None = None
    image: np.ndarray | None = None
    source: Path | Dataset | _Frames | None = None
    for plane in planes:
        if (plane.path, plane.frame) != last or image is None:
            if source is None or last is None or plane.path != last[0]:
                source = _source(plane)
            image = _uncompressed(plane) if plane.tile is None else None
            image = _decoded(plane, source) if image is None else image
            last = plane.path, plane.frame
        row, column = plane.tile or (0, 0)
        tile = image[row : row + plane.shape[0], column : column + plane.shape[1]]
        if tile.shape != plane.shape or (plane.tile is None and image.shape != plane.shape):
            raise VolumeError(
                f"{plane.path} holds an image of {image.shape} pixels, but its header gives "
                f"{plane.shape}; {DAMAGED}."
            )
        yield tile


def refuse_private_encoding(plane: ImagePlane) -> None:
    """Refuse compressed or unusual pixels in a private transfer syntax.

    Raises
    ------
    VolumeError
        If their encoding is unknown.
    """
    if plane.stored.syntax in PRIVATE_NATIVE and _uncompressed(plane) is None:
        raise VolumeError(
            f"{plane.path} holds pixels in the private transfer syntax {plane.stored.syntax} that "
            "are not plain 16-bit values, so their encoding is unknown; export it uncompressed, in "
            "Explicit VR Little Endian."
        )


def _uncompressed(plane: ImagePlane) -> np.ndarray | None:
    """Read uncompressed 16-bit values directly; None if pydicom must decode them.

    This saves half of the time for a series, which pydicom spends on parsing headers again.
    """
    stored = plane.stored
    if stored.syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, *PRIVATE_NATIVE):
        return None
    order = ">" if stored.syntax == GE_BIG_ENDIAN_PIXELS else "<"
    if stored.allocated != 16 or not 0 < stored.bits <= 16:
        return None
    count = plane.shape[0] * plane.shape[1]
    with reraise_dicom_errors(plane.path, "pixels", advice=DAMAGED), plane.path.open("rb") as file:
        file.seek(stored.start)
        head = file.read(12)
        # Unusual files are left to pydicom, which recognises damaged ones.
        if head[:4] != PIXEL_DATA or len(head) < 12:
            return None
        explicit = head[4:6] in (b"OW", b"OB")
        length = struct.unpack("<I", head[8:] if explicit else head[4:8])[0]
        first = 2 * count * (plane.frame or 0)
        if length == UNDEFINED or length < first + 2 * count:
            return None
        file.seek(stored.start + (12 if explicit else 8) + first)
        values = np.empty(plane.shape, order + ("i2" if stored.signed else "u2"))
        if file.readinto(values.view(np.uint8).data.cast("B")) != values.nbytes:
            return None
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    unused = 16 - stored.bits
    if unused:
        # Older scanners store overlays in the bits above the values.
        np.left_shift(values, unused, out=values)
        np.right_shift(values, unused, out=values)
    return values


def _source(plane: ImagePlane) -> "Path | Dataset | _Frames":
    """Return what is decoded: the path, or a file that was read as a whole.

    In a deflated file given as path, pydicom looks for the pixels in the compressed bytes; and it
    parses the header of a multi-frame file again for each frame.
    """
    syntax = UID(plane.stored.syntax)
    if syntax == DeflatedExplicitVRLittleEndian:
        return read_deflated(plane.path)
    if plane.frame is None:
        return plane.path
    if syntax.is_encapsulated:
        return _Frames(plane, syntax)
    with reraise_dicom_errors(plane.path, "pixels", advice=DAMAGED):
        return dcmread(plane.path)


class _Frames:
    """The compressed frames of a file, found once: pydicom searches each from the first one.

    Raises
    ------
    VolumeError
        If the file is damaged, or there is no decoder.
    """

    def __init__(self, plane: ImagePlane, syntax: UID) -> None:
        _check_decoder(plane, syntax)
        self._decoder = get_decoder(syntax)
        with reraise_dicom_errors(plane.path, "pixels", advice=DAMAGED):
            _check_complete(plane)
            options = as_pixel_options(read_dataset(plane.path, everything=True))
            offsets = options.pop("extended_offsets", None)
            with plane.path.open("rb") as file:
                file.seek(plane.stored.start + VALUE)
                count = options["number_of_frames"]
                frames = generate_frames(file, number_of_frames=count, extended_offsets=offsets)
                self._encoded = list(frames)
        self._options = options | {
            "number_of_frames": 1,
            "pixel_keyword": "PixelData",
            "pixel_vr": "OB",
        }

    def decode(self, frame: int) -> np.ndarray:
        """Decode a frame; raises an IndexError if the file has fewer frames."""
        return self._decoder.as_array(encapsulate([self._encoded[frame]]), **self._options)[0]


def _decoded(plane: ImagePlane, source: "Path | Dataset | _Frames") -> np.ndarray:
    with reraise_dicom_errors(plane.path, "pixels", advice=DAMAGED):
        syntax = UID(plane.stored.syntax)
        if syntax.is_encapsulated and not isinstance(source, _Frames):
            _check_decoder(plane, syntax)
            _check_complete(plane)
        try:
            if isinstance(source, _Frames):
                return source.decode(plane.frame or 0)
            return pixel_array(source, index=plane.frame)
        except BaseException as error:
            # The RLE decoder is written in Rust, whose panics do not derive from Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise ValueError("the decoder failed") from error


def _check_decoder(plane: ImagePlane, syntax: UID) -> None:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise VolumeError(
            f"{plane.path} is compressed as {syntax.name}, which cannot be decoded here; "
            "export it uncompressed."
        )


def _check_complete(plane: ImagePlane) -> None:
    """Check that compressed pixels are complete: decoders would fill in missing data."""
    size = plane.path.stat().st_size
    with plane.path.open("rb") as file:
        place = plane.stored.start + VALUE
        while place + 8 <= size:
            file.seek(place)
            tag, length = struct.unpack("<4sI", file.read(8))
            if tag != ITEM:
                return
            place += 8 + length
        if place > size:
            raise EOFError
