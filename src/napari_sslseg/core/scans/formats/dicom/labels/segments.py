"""Structures in DICOM segmentations and structure sets: their values, names and codes."""

from collections.abc import Iterable
from pathlib import Path

from pydicom.dataset import Dataset

from napari_sslseg.core.scans.classes.segment import Segment, clean_name, code_text
from napari_sslseg.core.scans.formats.dicom.datasets import reraise_dicom_errors
from napari_sslseg.core.scans.formats.dicom.headers import STRUCTURES
from napari_sslseg.core.scans.formats.dicom.identity.persons import without_persons
from napari_sslseg.core.scans.formats.dicom.labels.read import open_label_file
from napari_sslseg.core.scans.formats.dicom.labels.read_rtstruct import structure_values
from napari_sslseg.core.scans.formats.dicom.labels.read_seg import segment_values


def read_dicom_segments(path: Path) -> list[Segment]:
    """Read the structures of a DICOM segmentation or structure set, without the background."""
    dataset, kind = open_label_file(path)
    with reraise_dicom_errors(path, "header"):
        return _structures(dataset) if kind == STRUCTURES else _segments(dataset)


def _segments(dataset: Dataset) -> list[Segment]:
    values = segment_values(dataset)
    found = []
    for item in dataset.get("SegmentSequence") or []:
        kind = _first(item.get("SegmentedPropertyTypeCodeSequence"))
        side = _first(kind.get("SegmentedPropertyTypeModifierCodeSequence"))
        region = _first(item.get("AnatomicRegionSequence"))
        code = code_text(_code(kind), _code(side), _code(region))
        value = values[int(item.SegmentNumber)]
        found.append(
            Segment(
                value,
                clean_name(without_persons(item.get("SegmentLabel"), dataset)),
                code,
            )
        )
    return [segment for segment in found if segment.value != 0]


def _structures(dataset: Dataset) -> list[Segment]:
    values = structure_values(dataset)
    codes = {}
    for item in dataset.get("RTROIObservationsSequence") or []:
        kind = _first(item.get("RTROIIdentificationCodeSequence"))
        number = item.get("ReferencedROINumber")
        if number is not None:
            codes[int(number)] = code_text(_code(kind))
    return [
        Segment(
            values[int(region.ROINumber)],
            clean_name(without_persons(region.get("ROIName"), dataset)),
            codes.get(int(region.ROINumber), ""),
        )
        for region in dataset.get("StructureSetROISequence") or []
    ]


def _first(items: Iterable[Dataset] | None) -> Dataset:
    return next(iter(items or ()), Dataset())


def _code(item: Dataset) -> tuple[str, str]:
    return str(item.get("CodeValue") or ""), str(item.get("CodingSchemeDesignator") or "")
