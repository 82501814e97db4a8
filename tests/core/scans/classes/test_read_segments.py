"""Names, values and codes of the structures in label files of every kind."""

import json
import unicodedata

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from dicom_files import ramp, write_series
from named_labels import write_slicer, write_structures
from napari_sslseg.core.common.errors import DataError, VolumeError
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.scan_classes import match_labels
from napari_sslseg.core.scans.classes.segment import Segment
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.labels import save_labels
from napari_sslseg.core.scans.matching.pair_scans import pair_scans
from napari_sslseg.core.scans.volume import load_volume

SMALL = ((10, 24, 24), (20.0, 15.0, 15.0))


@pytest.fixture(scope="module")
def patient():
    return make_patient(0, "MR", *SMALL)


def test_a_segmentation_of_slicer_names_its_structures(patient, tmp_path):
    scan, labels = patient
    name = unicodedata.normalize("NFD", "Gefäß  groß")
    path = write_slicer(
        tmp_path / "p.seg.nrrd", labels.data, scan, {1: "liver", 2: name},
        {1: "SCT^10200004^Liver"},
    )  # fmt: skip
    assert read_segments(path) == (
        Segment(1, "liver", "SCT:10200004"),
        Segment(2, "Gefäß groß"),
    )


def test_a_nrrd_of_another_program_names_none(patient, tmp_path):
    scan, labels = patient
    assert read_segments(save_labels(labels.data, tmp_path / "p.nrrd", like=scan)) == ()


def test_a_segment_without_a_value_is_refused(patient, tmp_path):
    scan, labels = patient
    path = write_slicer(tmp_path / "p.nrrd", labels.data, scan, {1: "liver", 2: "spleen"})
    path.write_bytes(path.read_bytes().replace(b"Segment1_LabelValue", b"Segment1_LabelVallue"))
    with pytest.raises(VolumeError, match="no label value"):
        read_segments(path)


def test_a_dicom_segmentation_has_names_and_codes(tmp_path):
    write_series(tmp_path / "ct", ramp())
    scan = load_volume(tmp_path / "ct")
    labels = np.zeros(scan.data.shape, np.uint8)
    labels[1, 1:3], labels[2, 1:3] = 4, 9
    path = save_labels(labels, tmp_path / "s.dcm", like=scan, classes={4: "left kidney", 9: "Öl"})
    assert read_segments(path) == (
        Segment(4, "left kidney", "SCT:64033007/SCT:7771000"),
        Segment(9, "Öl"),
    )
    # In files of other programs the segment numbers are the values; old ones have SRT codes.
    ds = dcmread(path)
    ds.Manufacturer = "Another"
    kind = ds.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    kind.CodeValue, kind.CodingSchemeDesignator = "T-62000", "SRT"
    ds.save_as(path)
    assert read_segments(path)[1] == Segment(2, "Öl", "SCT:10200004")


def test_a_structure_set_has_names_and_codes(tmp_path):
    path = write_structures(
        tmp_path / "rs.dcm", [(7, "Leber ", []), (3, "", [])], {7: ("10200004", "SCT")}
    )
    assert read_segments(path) == (Segment(1, ""), Segment(2, "Leber", "SCT:10200004"))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.json", {"0": "background", "1": "liver", "2": "Milz"}),
        ("labels/classes.json", {"1": "liver", "2": "Milz"}),
        ("dataset.json", {"labels": {"0": "background", "1": "liver", "2": "Milz"}}),
        ("dataset.json", {"labels": {"background": 0, "liver": 1, "Milz": 2, "all": [1, 2]}}),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_beside_label_files_names_their_structures(patient, tmp_path, file, text, mark):
    scan, labels = patient
    path = save_labels(labels.data, tmp_path / "labels/p.nii.gz", like=scan)
    (tmp_path / file).write_text(mark + json.dumps(text), encoding="utf-8")
    assert read_segments(path) == (Segment(1, "liver"), Segment(2, "Milz"))


def test_a_list_around_another_folder_is_not_meant(patient, tmp_path):
    scan, labels = patient
    path = save_labels(labels.data, tmp_path / "patient_3/p.nii.gz", like=scan)
    (tmp_path / "dataset.json").write_text('{"labels": {"liver": 1}}')
    assert read_segments(path) == ()


def test_a_damaged_list_is_refused(patient, tmp_path):
    scan, labels = patient
    path = save_labels(labels.data, tmp_path / "p.nii.gz", like=scan)
    (tmp_path / "dataset.json").write_text('{"labels": ')
    with pytest.raises(DataError, match=r"dataset\.json"):
        read_segments(path)


def test_labels_are_converted_to_the_classes_that_their_names_say(patient, tmp_path):
    scan, labels = patient
    swapped = np.array([0, 2, 1, *range(3, 10)], np.uint8)[labels.data]
    names = {int(v): f"organ {chr(96 + int(v))}" for v in np.unique(labels.data) if v}
    for name, data, classes in (
        ("a", labels.data, names),
        ("b", swapped, names | {1: names[2], 2: names[1]}),
    ):
        save_labels(scan.data, tmp_path / f"images/{name}.nii.gz", like=scan)
        write_slicer(tmp_path / f"labels/{name}.nrrd", data, scan, classes)
    a, b = pair_scans(tmp_path / "images", tmp_path / "labels")
    np.testing.assert_array_equal(a.load()[1].data, labels.data)
    np.testing.assert_array_equal(b.load()[1].data, labels.data)
    np.testing.assert_array_equal(b.load_labels().data, labels.data)
    assert a.class_names == b.class_names == names


def test_a_value_that_a_file_does_not_name_is_refused(patient, tmp_path):
    scan, labels = patient
    path = write_slicer(tmp_path / "a.nrrd", labels.data, scan, {1: "liver"})
    (item,), _ = match_labels([LabelledScan(scan, path)])
    with pytest.raises(DataError, match="value 2, which has no name"):
        item.load()


CASES = "field_cases/01-names-ignored-classes-mixed"


@pytest.mark.parametrize(("kind", "file"), [("rt", "RS.dcm"), ("seg", "seg.dcm")])
def test_structures_of_real_dicom_files_have_one_class(data_dir, kind, file):
    folder = data_dir / CASES / kind
    scans = [LabelledScan(folder / f"p{n}/CT", folder / f"p{n}/{file}") for n in (0, 1)]
    matched, match = match_labels(scans)
    means = []
    for item in matched:
        scan, labels = item.load()
        means.append(
            {
                match.names[int(v)]: scan.data[labels.data == v].mean()
                for v in np.unique(labels.data)[1:]
            }
        )
    assert {"Liver"} < set(means[0]) & set(means[1])
    for name in set(means[0]) & set(means[1]):
        # Means of the same organ, in HU, differ less than those of different organs.
        assert abs(means[0][name] - means[1][name]) < 6


def test_structures_of_real_slicer_files_have_one_class(data_dir):
    folder = data_dir / CASES / "s_order"
    for item in pair_scans(folder / "images", folder / "lab2"):
        scan, labels = item.load()
        assert item.class_names == {1: "liver", 2: "spleen"}
        assert scan.data[labels.data == 1].mean() > 500 > scan.data[labels.data == 2].mean()


@pytest.mark.parametrize("text", ["<![CDATA[liver & co]]>", "liver &amp; co"])
def test_a_table_in_a_nifti_header_names_the_structures(patient, tmp_path, text):
    """As TotalSegmentator and Connectome Workbench write it."""
    _, labels = patient
    source = labels.geometry.to_source(labels.data)
    image = nib.Nifti1Image(source, labels.geometry.affine)
    table = (
        '<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0">'
        '<LabelTable><Label Key="0" Red="0"><![CDATA[???]]></Label>'
        f'<Label Key="1" Red="1" Green="0" Blue="0" Alpha="1">{text}</Label>'
        '<Label Key="5" Red="1"><![CDATA[Milz]]></Label></LabelTable></VolumeInformation>'
        "</CaretExtension>"
    )
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, table.encode()))
    path = tmp_path / "p.nii.gz"
    nib.save(image, path)
    assert read_segments(path) == (Segment(1, "liver & co"), Segment(5, "Milz"))


def test_lists_that_the_window_exports_are_read(patient, tmp_path):
    scan, labels = patient
    path = save_labels(labels.data, tmp_path / "p.nii.gz", like=scan)
    (tmp_path / "labels_classes.json").write_text('{"1": "liver"}')
    (tmp_path / "finetune-001_classes.json").write_text('{"1": "Liver", "2": "spleen"}')
    assert read_segments(path) == (Segment(1, "Liver"), Segment(2, "spleen"))
    (tmp_path / "labels_classes.json").write_text('{"1": "spleen"}')
    with pytest.raises(DataError, match="differently"):
        read_segments(path)
