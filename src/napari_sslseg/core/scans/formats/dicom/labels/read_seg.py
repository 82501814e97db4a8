"""Read DICOM segmentations (SEG): binary, fractional and label maps."""

import re
import warnings
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from napari_sslseg.core.common.errors import ScanWarning, VolumeError
from napari_sslseg.core.scans.formats.dicom.datasets import reraise_dicom_errors
from napari_sslseg.core.scans.formats.dicom.identity.persons import without_persons
from napari_sslseg.core.scans.formats.dicom.labels.placing import (
    LabelFrame,
    LabelGrid,
    grid_of_frames,
)
from napari_sslseg.core.scans.formats.dicom.labels.write_seg import MANUFACTURER, VALUE_TEXT
from napari_sslseg.core.scans.formats.dicom.values.pixels import DAMAGED
from napari_sslseg.core.scans.formats.dicom.volume import MOST_PIXELS
from napari_sslseg.core.scans.formats.labels.painting import paint_labels
from napari_sslseg.core.scans.geometry import Geometry

_VALUE = re.compile(VALUE_TEXT.format(r"(\d{1,10})"))


def segment_values(dataset: Dataset) -> dict[int, int]:
    """Return label values by segment number: equal, or as stored if this package wrote the file."""
    segments = dataset.get("SegmentSequence") or []
    numbers = [int(segment.SegmentNumber) for segment in segments]
    if dataset.get("Manufacturer") == MANUFACTURER:
        texts = [_VALUE.fullmatch(str(s.get("SegmentDescription", ""))) for s in segments]
        values = [int(text[1]) for text in texts if text]
        if len(values) == len(set(values)) == len(numbers):
            return dict(zip(numbers, values, strict=True))
    return {number: number for number in numbers}


def read_segmentation(
    path: Path, dataset: Dataset, like: Geometry | None, header: object
) -> tuple[np.ndarray, Geometry]:
    """Read the labels of a segmentation on the grid of a scan, or on its own grid.

    Parameters
    ----------
    path : Path
        The file.
    dataset : Dataset
        Attributes of the file, without the pixels.
    like : Geometry or None
        Grid of the scan; None for the grid of the frames.
    header : object
        Header of the scan.

    Returns
    -------
    labels : ndarray
        Labels in the source grid.
    geometry : Geometry
        The grid.
    """
    with reraise_dicom_errors(path, "header"):
        frames, numbers = _frames(path, dataset)
        values = segment_values(dataset)
        names = {
            values[int(segment.SegmentNumber)]: without_persons(
                segment.get("SegmentLabel"), dataset
            )
            for segment in dataset.get("SegmentSequence") or []
        }
    grid = LabelGrid(like or grid_of_frames(frames, path), header if like is not None else None)
    found: dict[int, list[np.ndarray]] = defaultdict(list)
    with closing(_pixels(path, dataset, frames[0].shape, len(frames))) as all_pixels:
        for index, pixels in enumerate(all_pixels):
            for number, inside in _parts(pixels, numbers[index] if numbers else None, dataset):
                if number not in values:
                    raise VolumeError(
                        f"{path} holds the segment {number} without a description; export it again."
                    )
                voxels = grid.indices(frames[index], inside, path, f"Frame {index + 1}")
                found[values[number]].append(voxels)
    labels = paint_labels(
        grid.shape, {v: np.concatenate(parts) for v, parts in found.items()}, path, names
    )
    return grid.regular(labels), grid.geometry


def _parts(
    pixels: np.ndarray, number: int | None, dataset: Dataset
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the segments in a frame with the flat indices of their pixels."""
    if number is not None:
        if pixels.any():
            yield number, np.flatnonzero(pixels)
        return
    background = {0, int(dataset.get("PixelPaddingValue") or 0)}
    for value in set(np.unique(pixels).tolist()) - background:
        yield int(value), np.flatnonzero(pixels == value)


def _frames(path: Path, dataset: Dataset) -> tuple[list[LabelFrame], list[int] | None]:
    """Return the frames and their segment numbers; None if the pixels are segment numbers."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    tiled = str(dataset.get("DimensionOrganizationType", "")).startswith("TILED")
    if tiled or "TotalPixelMatrixRows" in dataset or "PlanePositionSlideSequence" in _first(groups):
        raise VolumeError(
            f"{path} is a segmentation of a tiled microscopy image, not of a volume; choose one of "
            "an MR or CT scan."
        )
    count = int(dataset.get("NumberOfFrames") or 1)
    if not groups or len(groups) != count:
        raise VolumeError(
            f"{path} describes {len(groups)} frames but holds {count}; export it again."
        )
    shape = (int(dataset.Rows), int(dataset.Columns))
    if min(shape) < 1 or shape[0] * shape[1] > MOST_PIXELS:
        raise VolumeError(
            f"{path} has {shape[0]} × {shape[1]} pixels by its header, which is damaged."
        )
    shared = _first(dataset.get("SharedFunctionalGroupsSequence") or [])
    frames = [_frame(path, shape, group, shared) for group in groups]
    if str(dataset.get("SegmentationType")) == "LABELMAP":
        return frames, None
    numbers = [
        _find("SegmentIdentificationSequence", "ReferencedSegmentNumber", group, shared)
        for group in groups
    ]
    if None in numbers:
        raise VolumeError(f"{path} does not give the segment of each frame; export it again.")
    return frames, [int(number) for number in numbers]


def _first(groups: Any) -> Dataset:
    return groups[0] if len(groups) else Dataset()


def _find(sequence: str, keyword: str, *groups: Dataset) -> Any:
    """Return the value in the group of the frame, or else in the shared group."""
    for group in groups:
        for item in (group.get(sequence) or [])[:1]:
            if item.get(keyword) not in (None, ""):
                return item.get(keyword)
    return None


def _frame(path: Path, shape: tuple[int, int], group: Dataset, shared: Dataset) -> LabelFrame:
    place = [
        _find("PlanePositionSequence", "ImagePositionPatient", group, shared),
        _find("PlaneOrientationSequence", "ImageOrientationPatient", group, shared),
        _find("PixelMeasuresSequence", "PixelSpacing", group, shared),
    ]
    if None in place or [len(value) for value in place] != [3, 6, 2]:
        raise VolumeError(
            f"{path} does not give the place of its frames in the patient; export it with its "
            "geometry."
        )
    position, orientation, spacing = (tuple(float(x) for x in value) for value in place)
    numbers = np.array([*position, *orientation, *spacing])
    directions = np.array(orientation).reshape(2, 3)
    if (
        not np.isfinite(numbers).all()
        or min(spacing) <= 0
        or np.abs(directions @ directions.T - np.eye(2)).max() > 1e-2
    ):
        raise VolumeError(f"{path} places its frames by numbers that are none; export it again.")
    lengths = [
        abs(float(_find("PixelMeasuresSequence", keyword, group, shared) or 0))
        for keyword in ("SpacingBetweenSlices", "SliceThickness")
    ]
    distance, thickness = (value if 0 < value < np.inf else None for value in lengths)
    return LabelFrame(position, orientation, spacing, shape, distance, thickness)


def _pixels(
    path: Path, dataset: Dataset, shape: tuple[int, int], count: int
) -> Generator[np.ndarray, None, None]:
    """Yield the frames: segment numbers of a label map, else masks of one segment."""
    most = None
    if str(dataset.get("SegmentationType")) == "FRACTIONAL":
        most = int(dataset.get("MaximumFractionalValue") or 255)
        warnings.warn(
            f"{path} is fractional; voxels with a fraction of at least one half are labelled.",
            ScanWarning,
            stacklevel=5,
        )
    advice = f"{DAMAGED}, or convert it to an uncompressed one"
    with reraise_dicom_errors(path, "pixels", advice=advice):
        number = 0
        for number, pixels in enumerate(_stored(path, dataset, shape), 1):
            if pixels.shape != shape or number > count:
                raise VolumeError(f"{path} holds other frames than it describes; export it again.")
            yield pixels if most is None else 2 * pixels.astype(int) >= most
        if number != count:
            raise VolumeError(f"{path} holds {number} of {count} frames; {DAMAGED}.")


def _stored(path: Path, dataset: Dataset, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the stored values of each frame."""
    from pydicom.pixels import iter_pixels

    syntax = dataset.file_meta.TransferSyntaxUID
    packed = int(dataset.get("BitsAllocated") or 0) == 1 and not syntax.is_compressed
    if not packed or not syntax.is_little_endian:
        yield from iter_pixels(path, raw=True)
        return
    # pydicom 3.0 loses the last pixels of a frame that starts within a byte.
    bits = np.frombuffer(dcmread(path, specific_tags=["PixelData"]).PixelData, np.uint8)
    size = shape[0] * shape[1]
    for start in range(0, size * int(dataset.get("NumberOfFrames") or 1), size):
        part = bits[start // 8 : (start + size + 7) // 8]
        pixels = np.unpackbits(part, bitorder="little")[start % 8 : start % 8 + size]
        yield pixels.reshape(shape)
