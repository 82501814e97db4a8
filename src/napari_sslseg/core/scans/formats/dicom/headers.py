"""Read the header of a DICOM file, and decide whether it belongs to a scan."""

from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.datasets import (
    read_dataset,
    refuse_unknown_syntax,
    reraise_dicom_errors,
)
from napari_sslseg.core.scans.formats.dicom.planes.mosaic import is_mosaic
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.planes.read_planes import read_planes

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY = "1.2.840.10008.1.3.10"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
NO_SCAN = {
    "RTDOSE": "a dose distribution",
    "SM": "a microscopy image",
}


@dataclass(frozen=True)
class Header:
    """Header of a DICOM file, with its image planes or the reason why it has none."""

    path: Path
    dataset: Dataset = field(repr=False)
    planes: tuple[ImagePlane, ...] = ()
    problem: str | None = None
    is_scan: bool = True
    mosaic: bool = False

    def text(self, keyword: str) -> str:
        """Return an attribute as text; empty if it is absent or damaged."""
        try:
            with reraise_dicom_errors(self.path, "header"):
                value = self.dataset.get(keyword)
        except VolumeError:
            return ""
        return "" if value is None else str(value).strip()


def read_header(path: Path) -> Header:
    """Read the header of a file; an error is stored as ``problem``."""
    try:
        dataset = read_dataset(path)
    except VolumeError as error:
        return Header(path, Dataset(), problem=str(error))
    try:
        with reraise_dicom_errors(path, "header"):
            other = _no_scan(dataset)
            if not other or "SOPClassUID" not in dataset:
                refuse_unknown_syntax(path, str(dataset.file_meta.get("TransferSyntaxUID", "")))
            _check_whole(path, dataset)
            if other:
                return Header(path, dataset, problem=f"{path} {other}.", is_scan=False)
            planes = read_planes(path, dataset)
    except VolumeError as error:
        return Header(path, dataset, problem=str(error))
    return Header(path, dataset, planes, mosaic=is_mosaic(dataset))


def _check_whole(path: Path, dataset: Dataset) -> None:
    """Check that a header does not end before it says what the file is.

    Such a file may be a slice of a scan, so leaving it out must not pass in silence.

    Raises
    ------
    VolumeError
        If the kind of object is missing, or the size of an image.
    """
    if "DirectoryRecordSequence" in dataset or (dataset.get("Rows") and dataset.get("Columns")):
        return
    kind = UID(str(dataset.get("SOPClassUID", "")))
    if not kind or "Image Storage" in kind.name:
        raise VolumeError(
            f"{path} gives no size of an image, as a file that was cut off or damaged; if it "
            "belongs to a scan, copy the whole series again."
        )


def _no_scan(dataset: Dataset) -> str | None:
    """Describe a file that is not a scan; None for a scan."""
    kind = str(dataset.get("SOPClassUID", ""))
    modality = str(dataset.get("Modality", ""))
    image_type = [str(part).upper() for part in dataset.get("ImageType") or []]
    if kind.startswith(SEGMENTATIONS):
        return "is a segmentation, not a scan; open it as labels of its scan"
    if kind == STRUCTURES:
        return "holds contours of structures (RTSTRUCT), not a scan; open it as labels of its scan"
    if kind == DIRECTORY or "DirectoryRecordSequence" in dataset:
        return "is a list of files (DICOMDIR), not a scan"
    if modality in NO_SCAN:
        return f"is {NO_SCAN[modality]}, not a scan"
    if not dataset.get("Rows") or not dataset.get("Columns"):
        name = UID(kind).name
        if name == kind:  # unknown UID
            return "holds an unknown kind of object"
        return f"holds {name}, not an image"
    if kind == SECONDARY_CAPTURE or kind.startswith(SECONDARY_CAPTURE + "."):
        return "is a secondary capture, such as a screenshot or a result, not a scan"
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        return "is a localizer (scout) for planning a scan; choose the scan itself"
    if "PROJECTION IMAGE" in image_type:
        return "is a projection of a scan; choose the scan itself"
    if dataset.get("SamplesPerPixel", 1) != 1 or "PALETTE" in str(
        dataset.get("PhotometricInterpretation", "")
    ):
        return "is a colour image; choose the grey values that it was made from"
    return None
