"""Labels for tests of DICOM segmentations, and their places in the patient."""

import numpy as np
from pydicom import dcmread


def draw(volume, values=(1, 2), seed=0, share=0.2):
    """Return random labels in the display grid of a volume, without the last two source slices."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(volume.data.shape, np.int32)
    for value in values:
        labels[rng.random(labels.shape) < share] = value
    source = volume.geometry.to_source(labels)
    source[:, :, -2:] = 0
    return labels


def world_of(volume, labels, value):
    """Return the sorted centres of the voxels of a value in LPS mm."""
    affine = volume.geometry.display_affine
    points = np.argwhere(labels == value) @ affine[:3, :3].T + affine[:3, 3]
    return in_order(points * [-1, -1, 1])


def in_order(points):
    return points[np.lexsort(np.round(points, 4).T)]


def unpacked(path):
    """Return the centres of the set bits of each segment in LPS mm, decoded by the standard."""
    ds = dcmread(path)
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    size = ds.Rows * ds.Columns
    shared = ds.SharedFunctionalGroupsSequence[0]
    iop = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    found = {}
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame = bits[number * size : (number + 1) * size].reshape(ds.Rows, ds.Columns)
        row, column = np.nonzero(frame)
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        points = (
            position + column[:, None] * spacing[1] * iop[:3] + row[:, None] * spacing[0] * iop[3:]
        )
        source = group if "SegmentIdentificationSequence" in group else shared
        segment = source.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found.setdefault(segment, []).append(points)
    return {segment: in_order(np.concatenate(parts)) for segment, parts in found.items()}
