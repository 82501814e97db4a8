"""Write label files that name their structures: of 3D Slicer, and structure sets."""

from pathlib import Path

import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from napari_sslseg.core.scans.labels import save_labels

TISSUE = "SCT^85756007^Tissue"


def write_slicer(path: Path, labels: np.ndarray, like, names: dict[int, str], kinds=None) -> Path:
    """Write labels as 3D Slicer does, with names and codes in key/value pairs of the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_labels(labels, path, like=like)
    image = SimpleITK.ReadImage(str(path))
    for number, (value, name) in enumerate(names.items()):
        kind = (kinds or {}).get(value, TISSUE)
        pairs = {
            "ID": f"Segment_{number + 1}",
            "Name": name,
            "LabelValue": str(value),
            "Layer": "0",
            "Tags": "Segmentation.Status:inprogress|TerminologyEntry:Segmentation category and "
            f"type - 3D Slicer General Anatomy list~{TISSUE}~{kind}~^^~Anatomic codes - DICOM "
            "master list~^^~^^|",
        }
        for key, text in pairs.items():
            image.SetMetaData(f"Segment{number}_{key}", text)
    SimpleITK.WriteImage(image, str(path), useCompression=True)
    return path


def write_structures(path: Path, regions, codes=None) -> Path:
    """Write a structure set; regions are (number, name, contours), points in LPS mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    ds.Modality = "RTSTRUCT"
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    ds.RTROIObservationsSequence = []
    for number, name, contours in regions:
        region, drawn = Dataset(), Dataset()
        region.ROINumber, region.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.6f}" for value in np.ravel(points)]
            drawn.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(region)
        ds.ROIContourSequence.append(drawn)
        if codes and number in codes:
            observed, kind = Dataset(), Dataset()
            observed.ReferencedROINumber = number
            kind.CodeValue, kind.CodingSchemeDesignator = codes[number]
            kind.CodeMeaning = name
            observed.RTROIIdentificationCodeSequence = [kind]
            ds.RTROIObservationsSequence.append(observed)
    ds.save_as(path, enforce_file_format=True)
    return path
