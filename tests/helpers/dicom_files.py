"""Write DICOM files for tests with pydicom, like those of scanners."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = (1.0, 0, 0, 0, 1, 0)
CORONAL = (1.0, 0, 0, 0, 0, -1)
SAGITTAL = (0.0, 1, 0, 0, 0, -1)


def ramp(slices=6, rows=7, columns=9, seed=0):
    """Return stored values that are all different, shape (slices, rows, columns)."""
    rng = np.random.default_rng(seed)
    return rng.permutation(slices * rows * columns).reshape(slices, rows, columns).astype(np.int16)


def write_series(
    folder: Path,
    values: np.ndarray | None = None,
    *,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    spacing: tuple[float, float] = (0.8, 0.6),
    distance: float = 2.5,
    places: Sequence[Sequence[float]] | None = None,
    modality: str = "CT",
    edit: Callable[[FileDataset, int], None] | None = None,
    series: str | None = None,
    study: str | None = None,
    frame_of_reference: str | None = None,
    name: str = "IM{:04d}.dcm",
    slope: float = 1.0,
    intercept: float = -1024.0,
) -> list[Path]:
    """Write a classic series; the order of the files differs from that of the slices.

    Parameters
    ----------
    places : sequence of positions, optional
        Position of each slice in LPS mm; ``distance`` apart along the normal if not given.
    edit : callable, optional
        Changes a dataset before it is written; called with the dataset and the slice index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = ramp() if values is None else values
    normal = np.cross(orientation[:3], orientation[3:])
    if places is None:
        places = [np.array(origin) + index * distance * normal for index in range(len(values))]
    # The images of one series are of one study.
    study = study or (f"{series}.1" if series else generate_uid())
    series = series or generate_uid()
    frame_of_reference = frame_of_reference or generate_uid()
    order = np.random.default_rng(7).permutation(len(values))
    paths = []
    for number, index in enumerate(order):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        path = folder / name.format(number)
        ds = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = (
            meta.MediaStorageSOPClassUID,
            meta.MediaStorageSOPInstanceUID,
        )
        ds.PatientName, ds.PatientID = "Sesame^Ottoline", "MRN-4711-X"
        ds.PatientBirthDate, ds.PatientSex = "19610412", "F"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.FrameOfReferenceUID = frame_of_reference
        ds.StudyID, ds.StudyDate, ds.StudyTime = "1", "20260101", "101500"
        ds.AccessionNumber, ds.ReferringPhysicianName = "", ""
        ds.Modality, ds.SeriesNumber, ds.SeriesDescription = modality, 3, "Abdomen 2.5"
        ds.Manufacturer = "Test"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.InstanceNumber = int(number) + 1
        ds.ImagePositionPatient = [f"{value:.9g}" for value in places[index]]
        ds.ImageOrientationPatient = [f"{value:.9g}" for value in orientation]
        ds.PixelSpacing = [f"{value:.9g}" for value in spacing]
        ds.SliceThickness = f"{distance:.9g}"
        ds.PositionReferenceIndicator = ""
        ds.Rows, ds.Columns = values.shape[1:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.PixelRepresentation = 1
        ds.RescaleSlope, ds.RescaleIntercept = f"{slope:.9g}", f"{intercept:.9g}"
        ds.PixelData = np.ascontiguousarray(values[index], "<i2").tobytes()
        if edit:
            edit(ds, int(index))
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
