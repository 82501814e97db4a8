"""Crops around paired organs in scans with masks: the samples of the left/right task.

After Dhere & Sivaswamy 2021: scans are resampled and normalised as a whole, and a region of fixed
size is cut around each organ.
"""

from collections.abc import Generator, Sequence

import numpy as np

from napari_sslseg.core.common.compute.memory import release_memory
from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.events import Progress, StopFlag
from napari_sslseg.core.pretext.contrast.organ_boxes import (
    OrganBox,
    organ_boxes,
    organ_crop,
    whole_organ,
)
from napari_sslseg.core.samples.crops import CropStore
from napari_sslseg.core.samples.files.crop_files import VolumeArrays
from napari_sslseg.core.samples.placement import Placement, volume_placement
from napari_sslseg.core.samples.preprocess import prepare_labels, prepare_volume
from napari_sslseg.core.samples.store import LoadedScan, StoredScan, add_record
from napari_sslseg.core.scans.classes.partial_labels import refuse_unknown_organ
from napari_sslseg.core.scans.classes.renumber import values_in
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, as_volume, scan_geometry
from napari_sslseg.core.scans.volume import Modality, Volume
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing
from napari_sslseg.core.settings.pretext.siamese_sides import SiameseSides

FIRST, SECOND = 1, 2


def iter_organ_crops(
    scans: Sequence[Scan],
    settings: VolumePreprocessing,
    task: SiameseSides,
    *,
    modality: Modality | None = None,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, CropStore | None]:
    """Cut the organs out of scans one at a time; returns None if stopped.

    Parameters
    ----------
    scans : sequence of LabelledScan, Volume, Path or Series
        Scans with masks of the organs. Scans that show only one organ, such as crops of a
        hippocampus, need no mask: the crop is then around the middle of the scan.
    settings : VolumePreprocessing
        Spacing, window and normalisation; ``size`` is not used.
    task : SiameseSides
        Label values of each side, size of the crops, and background.
    modality, stop
        As in :func:`~napari_sslseg.core.samples.slices.iter_store`.

    Yields
    ------
    Progress
        Number of scans read.

    Raises
    ------
    DataError
        If a scan has no mask but needs one, or no scan shows the organ.
    """
    images: list[np.ndarray] = []
    sides: list[int] = []
    records: list[StoredScan] = []
    for number, scan in enumerate(scans):
        if stop is not None and stop.is_set:
            return None
        labels = None
        if isinstance(scan, LabelledScan):
            volume, mask = scan.load(modality)
            labels = _sides_of(mask.data, task)
            known = LoadedScan(volume, labels, np.ones(len(labels), bool))
        else:
            volume = as_volume(scan, modality)
            known = LoadedScan(volume)
        place = volume_placement(scan_geometry(scan), settings)
        image = prepare_volume(volume, settings, place)
        boxes = _boxes(volume, labels, place, task)
        add_record(records, known, len(boxes))
        fill = image.min(axis=(1, 2, 3), keepdims=True) if settings.padding == "lowest" else 0.0
        for box in boxes:
            cut = organ_crop(image, box, task.crop, fill=fill, background=task.background)
            images.append(cut)
            sides.append(box.side)
        release_memory()
        yield Progress("Cutting out organs", number + 1, len(scans))
    if not images:
        raise DataError(
            "No scan shows the organ: no mask contains its label values; correct the label "
            "values, or give other masks."
        )
    places = np.column_stack([np.arange(len(images)), np.zeros((len(images), 3), int)])
    arrays = VolumeArrays(images, [None] * len(images))
    kept = [record for record in records if record.n_slices]
    return CropStore(arrays, places, kept, task.crop, settings, (), np.array(sides, np.int8))


def _sides_of(labels: np.ndarray, task: SiameseSides) -> np.ndarray:
    """Return 1 in the left organ (or in either), 2 in the right organ, 0 elsewhere."""
    found = np.zeros(labels.shape, np.uint8)
    if task.left and task.right:
        found[np.isin(labels, task.left)] = FIRST
        found[np.isin(labels, task.right)] = SECOND
    elif task.organ:
        found[np.isin(labels, task.organ)] = FIRST
    else:
        refuse_unknown_organ(values_in(labels))
        found[labels > 0] = FIRST
    return found


def _boxes(
    volume: Volume, labels: np.ndarray | None, place: Placement, task: SiameseSides
) -> list[OrganBox]:
    """Return the boxes of the organs on the canvas."""
    one_a_scan = task.sides == "mirror" or task.case_sides is not None
    if labels is None:
        if not one_a_scan:
            raise DataError(
                f"{volume.name} has no mask of its left and right organ; give masks, or choose "
                "another pretext task."
            )
        # The box is the whole scan.
        inside = [
            ((large - small) // 2, small)
            for small, large in zip(place.resampled, place.canvas, strict=True)
        ]
        (z, depth), (y, height), (x, width) = inside
        return [OrganBox(-1, (z, y, x), (z + depth, y + height, x + width))]
    on_canvas = prepare_labels(labels[None], place)[0]
    if one_a_scan:
        box = whole_organ(on_canvas, FIRST)
        return [box] if box is not None else []
    if task.left and task.right:
        return organ_boxes(on_canvas, left=FIRST, right=SECOND)
    return organ_boxes(on_canvas, organ=FIRST)
