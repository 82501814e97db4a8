"""DICOM segmentations are written on a series, and read by this and other packages."""

import gzip
import logging
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings, strategies as st
from pydicom import dcmread
from pydicom.sr.codedict import Collection

from dicom_files import CORONAL, SAGITTAL, ramp, write_series
from napari_sslseg.core import (
    SegmentClass,
    Volume,
    list_series,
    load_labels,
    load_volume,
    read_segment_names,
    save_labels,
)
from napari_sslseg.core.common.errors import ConfigError, ScanWarning, VolumeError
from napari_sslseg.core.scans.classes.class_codes import ABNORMALITIES, STRUCTURES
from seg_points import draw, in_order, unpacked, world_of

PATIENT = ("Sesame", "Ottoline", "MRN-4711-X", "19610412")


@st.composite
def orientations(draw_from):
    angles = [draw_from(st.floats(-180, 180, allow_nan=False)) for _ in range(3)]
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles)):
        turn = np.eye(3)
        one, other = [i for i in range(3) if i != axis]
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return (*matrix[:, 0], *matrix[:, 1])


@settings(max_examples=25, deadline=None)
@given(
    orientation=orientations(),
    origin=st.tuples(*[st.floats(-500, 500).map(lambda x: round(x, 3))] * 3),
    spacing=st.tuples(*[st.floats(0.2, 3).map(lambda x: round(x, 4))] * 2),
    values=st.lists(st.integers(1, 3000), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 999),
)
def test_labels_keep_values_and_place(orientation, origin, spacing, values, seed):
    with tempfile.TemporaryDirectory() as folder:
        series = Path(folder, "series")
        write_series(series, ramp(5, 7, 9), orientation=orientation, origin=origin, spacing=spacing)
        volume = load_volume(series)
        labels = draw(volume, values, seed)
        path = save_labels(labels, Path(folder, "seg.dcm"), like=volume)
        np.testing.assert_array_equal(load_labels(path, like=volume).data, labels)
        bits = unpacked(path)
        for segment, value in enumerate(sorted(set(np.unique(labels)) - {0}), 1):
            np.testing.assert_allclose(bits[segment], world_of(volume, labels, value), atol=1e-6)


@pytest.mark.parametrize("orientation", [CORONAL, SAGITTAL, (0.6, 0.8, 0, -0.8, 0.6, 0)])
def test_highdicom_and_simpleitk_see_the_same_voxels(tmp_path, orientation):
    write_series(tmp_path / "series", ramp(6, 8, 12), orientation=orientation)
    volume = load_volume(tmp_path / "series")
    labels = draw(volume, (1,))
    path = save_labels(labels, tmp_path / "seg.dcm", like=volume)
    wanted = world_of(volume, labels, 1)

    theirs = highdicom.seg.segread(path).get_volume(combine_segments=True)
    points = np.argwhere(theirs.array == 1) @ theirs.affine[:3, :3].T + theirs.affine[:3, 3]
    np.testing.assert_allclose(in_order(points), wanted, atol=1e-6)

    image = SimpleITK.ReadImage(str(path))
    voxels = np.argwhere(SimpleITK.GetArrayFromImage(image))[:, ::-1]
    points = [image.TransformIndexToPhysicalPoint(voxel.tolist()) for voxel in voxels]
    np.testing.assert_allclose(in_order(np.array(points)), wanted, atol=1e-5)


def test_each_frame_refers_to_its_slice(tmp_path):
    files = write_series(tmp_path / "series", ramp(6, 8, 12))
    volume = load_volume(tmp_path / "series")
    labels = draw(volume, (3, 9))
    path = save_labels(labels, tmp_path / "seg.dcm", like=volume)
    segmentation = highdicom.seg.segread(path)
    by_place = sorted((dcmread(file) for file in files), key=lambda d: d.ImagePositionPatient[2])
    pixels = segmentation.get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in by_place], combine_segments=True
    )
    stored = volume.geometry.to_source(labels).transpose(2, 1, 0)
    np.testing.assert_array_equal(pixels, np.searchsorted([0, 3, 9], stored))
    references = segmentation.ReferencedSeriesSequence[0]
    assert references.SeriesInstanceUID == by_place[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in references.ReferencedInstanceSequence} == {
        source.SOPInstanceUID for source in by_place
    }
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        item = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert item.ReferencedSOPClassUID == by_place[0].SOPClassUID
        assert "ReferencedFrameNumber" not in item
    # Slices without labels have no frame: two values on four of six slices.
    assert segmentation.NumberOfFrames == 8


def test_segments_have_names_codes_colours_and_algorithms(tmp_path):
    write_series(tmp_path / "series")
    volume = load_volume(tmp_path / "series")
    labels = draw(volume, (5, 7, 9, 11))
    path = save_labels(
        labels,
        tmp_path / "seg.dcm",
        like=volume,
        classes={
            5: "Kidney_left",
            7: SegmentClass("Tumor", algorithm="MANUAL", color=(255, 0, 0)),
            9: SegmentClass(
                "Fossa",
                type=("1234", "99LOCAL", "Fossa"),
                algorithm="AUTOMATIC",
                algorithm_name="My U-Net",
            ),
            20: "spleen",
        },
    )
    ds = dcmread(path)
    assert read_segment_names(path) == {
        5: "Kidney_left",
        7: "Tumor",
        9: "Fossa",
        11: "class 11",
        20: "spleen",
    }
    assert [segment.SegmentNumber for segment in ds.SegmentSequence] == [1, 2, 3, 4, 5]
    kidney, tumor, fossa, plain, _ = ds.SegmentSequence
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("64033007", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert kidney.SegmentAlgorithmType == "MANUAL"
    assert tumor.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert tumor.SegmentAlgorithmType == "MANUAL"
    assert "SegmentAlgorithmName" not in tumor
    assert highdicom.color.CIELabColor.from_dicom_value(
        tumor.RecommendedDisplayCIELabValue
    ).to_rgb() == (255, 0, 0)
    assert fossa.SegmentedPropertyTypeCodeSequence[0].CodeValue == "1234"
    assert (fossa.SegmentAlgorithmType, fossa.SegmentAlgorithmName) == ("AUTOMATIC", "My U-Net")
    assert plain.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert len({segment.TrackingUID for segment in ds.SegmentSequence}) == 5
    assert ds.Manufacturer == "napari-sslseg"
    np.testing.assert_array_equal(load_labels(path, like=volume).data, labels)


@dataclass
class Found:
    """Labels found by a method, like a prediction."""

    labels: np.ndarray
    volume: Volume


@pytest.mark.parametrize(
    ("predicted", "given", "written"),
    [
        (False, None, "MANUAL"),
        (False, "AUTOMATIC", "AUTOMATIC"),
        (False, "SEMIAUTOMATIC", "SEMIAUTOMATIC"),
        (True, None, "AUTOMATIC"),
        (True, "SEMIAUTOMATIC", "SEMIAUTOMATIC"),
        (True, "MANUAL", "MANUAL"),
    ],
)
def test_the_algorithm_type_is_written_and_a_name_unless_manual(
    tmp_path, predicted, given, written
):
    write_series(tmp_path / "series")
    volume = load_volume(tmp_path / "series")
    labels = Found(draw(volume), volume) if predicted else draw(volume)
    path = save_labels(labels, tmp_path / "seg.dcm", like=volume, algorithm=given)
    for segment in dcmread(path).SegmentSequence:
        assert segment.SegmentAlgorithmType == written
        assert ("SegmentAlgorithmName" in segment) == (written != "MANUAL")
        named = "SegmentationAlgorithmIdentificationSequence" in segment
        assert named == (written != "MANUAL")
    with pytest.raises(ConfigError, match="AUTOMATIC, SEMIAUTOMATIC, MANUAL"):
        save_labels(labels, tmp_path / "b.nii", like=volume, algorithm="manual")


def test_every_code_is_in_snomed():
    from pydicom.sr.codedict import codes

    meanings = {}
    for name in codes.SCT.dir():
        code = getattr(codes.SCT, name)
        meanings.setdefault(code.value, set()).add(code.meaning.lower())
    for table in (STRUCTURES, ABNORMALITIES):
        for key, (value, meaning) in table.items():
            assert value in meanings, key
            assert any(
                meaning.lower() in text or text in meaning.lower() for text in meanings[value]
            )
    categories = Collection("CID7150").concepts.values()
    assert {"91723000", "49755003", "85756007"} <= {code.value for code in categories}


@pytest.mark.parametrize(
    ("name", "meaning", "side"),
    [
        ("liver", "Liver", None),
        ("Left Ventricle", "Left ventricle", None),
        ("right_kidney", "Kidney", "Right"),
        ("aorta 2", "Aorta", None),
        ("urinary bladder", "Bladder", None),
        ("my own thing", "Tissue", None),
        ("left liver", "Liver", None),
    ],
)
def test_common_names_have_codes(name, meaning, side):
    item = SegmentClass(name).coded()
    assert item.type[2] == meaning
    assert (item.side and item.side[2]) == side


def test_invalid_classes_are_refused(tmp_path):
    write_series(tmp_path / "series")
    volume = load_volume(tmp_path / "series")
    with pytest.raises(ConfigError, match="empty name"):
        save_labels(draw(volume), tmp_path / "seg.dcm", like=volume, classes={1: " "})
    with pytest.raises(ConfigError, match="negative"):
        save_labels(draw(volume), tmp_path / "seg.dcm", like=volume, classes={-1: "liver"})
    with pytest.raises(ConfigError, match="colour"):
        SegmentClass("liver", color=(0, 0, 256))
    assert not (tmp_path / "seg.dcm").exists()


def test_empty_labels_make_a_valid_empty_file(tmp_path):
    write_series(tmp_path / "series")
    volume = load_volume(tmp_path / "series")
    empty = np.zeros(volume.data.shape, np.uint8)
    path = save_labels(empty, tmp_path / "seg.dcm", like=volume, classes={4: "lesion"})
    assert not load_labels(path, like=volume).data.any()
    assert read_segment_names(path) == {4: "lesion"}
    assert dcmread(path).NumberOfFrames == 1
    path = save_labels(empty, tmp_path / "bare.dcm", like=volume)
    assert read_segment_names(path) == {1: "class 1"}


def test_a_single_labelled_slice_keeps_the_slice_distance(tmp_path):
    write_series(tmp_path / "series", distance=2.5)
    volume = load_volume(tmp_path / "series")
    labels = np.zeros(volume.data.shape, np.uint8)
    labels[2, 1:3, 2:4] = 1
    alone = load_labels(save_labels(labels, tmp_path / "seg.dcm", like=volume))
    assert alone.spacing == pytest.approx(volume.spacing)
    np.testing.assert_allclose(
        world_of(alone, alone.data, 1), world_of(volume, labels, 1), atol=1e-6
    )
    labels[4, 1:3, 2:4] = 1
    alone = load_labels(save_labels(labels, tmp_path / "seg.dcm", like=volume, overwrite=True))
    assert alone.data.shape[0] == 3  # the slice between them is filled in


@pytest.mark.parametrize("places", ["tilted", "uneven"])
def test_labels_of_a_resampled_scan_are_on_acquired_slices(tmp_path, places):
    if places == "tilted":  # each slice 0.25 pixels further along its columns
        spots = [(-10, -20 + 0.2 * z, 30 + 2.5 * z) for z in range(8)]
    else:
        spots = [(-10, -20, z) for z in (0, 2, 4.2, 6.2, 8, 10.1, 12, 14)]
    write_series(tmp_path / "series", ramp(8, 9, 11), places=spots)
    with pytest.warns(ScanWarning):
        volume = load_volume(tmp_path / "series")
    labels = np.zeros(volume.data.shape, np.uint8)
    labels[2:5, 3:6, 4:7] = 1
    path = save_labels(labels, tmp_path / "seg.dcm", like=volume)
    written = {
        tuple(np.round([float(x) for x in g.PlanePositionSequence[0].ImagePositionPatient], 6))
        for g in dcmread(path).PerFrameFunctionalGroupsSequence
    }
    assert len(written) == 3
    assert written <= {tuple(np.round(spot, 6)) for spot in spots}
    np.testing.assert_array_equal(load_labels(path, like=volume).data, labels)
    # Labels are those of the nearest voxels, so no point is off by more than half a voxel.
    here, there = world_of(volume, labels, 1), unpacked(path)[1]
    assert len(here) == len(there)
    assert np.abs(here - there).max() < 0.5 * 0.8


def test_labels_outside_the_images_of_a_tilted_scan_are_counted(tmp_path):
    # Each slice 2 pixels further along its columns, so the grid is 14 rows higher than a plane.
    spots = [(-10, -20 + 1.6 * z, 30 + 2.5 * z) for z in range(8)]
    write_series(tmp_path / "series", ramp(8, 9, 11), places=spots)
    with pytest.warns(ScanWarning, match="tilted"):
        volume = load_volume(tmp_path / "series")
    source = volume.geometry.to_source(np.zeros(volume.data.shape, np.uint8)).copy()
    assert source.shape == (11, 9 + 14, 8)
    for number in range(8):
        source[2:4, 2 * number : 2 * number + 9, number] = 1  # on the plane
    inside = volume.geometry.to_display(source).copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        path = save_labels(inside, tmp_path / "seg.dcm", like=volume, overwrite=True)
    np.testing.assert_array_equal(load_labels(path, like=volume).data, inside)
    source[5, 9:12, 0], source[5, 0, 3:5] = 2, 2  # outside the plane: three voxels and two
    with pytest.warns(ScanWarning, match=r"^5 labelled voxels") as caught:
        path = save_labels(volume.geometry.to_display(source), path, like=volume, overwrite=True)
    assert [Path(str(item.filename)) for item in caught] == [Path(__file__)]
    np.testing.assert_array_equal(load_labels(path, like=volume).data, inside)


def write_multiframe(path, source, order):
    """Copy a multi-frame file with its frames in another order."""
    ds = dcmread(source)
    pixels = ds.pixel_array[list(order)]
    ds.PerFrameFunctionalGroupsSequence = [
        ds.PerFrameFunctionalGroupsSequence[index] for index in order
    ]
    ds.PixelData = pixels.tobytes()
    ds.save_as(path)


def test_frames_of_a_multiframe_file_are_referenced_by_number(tmp_path, data_dir):
    source = data_dir / "dicom/qiicr_dcmqi/data/segmentations/24x38x3/multiframe/mf.dcm"
    write_multiframe(tmp_path / "mf.dcm", source, (2, 0, 1))
    volume = load_volume(tmp_path / "mf.dcm")
    labels = np.zeros(volume.data.shape, np.uint8)
    labels[0, :4], labels[2, 5:9] = 2, 1
    path = save_labels(labels, tmp_path / "seg.dcm", like=volume)
    original = dcmread(tmp_path / "mf.dcm").PerFrameFunctionalGroupsSequence
    numbers = []
    ds = dcmread(path)
    for group in ds.PerFrameFunctionalGroupsSequence:
        item = group.DerivationImageSequence[0].SourceImageSequence[0]
        numbers.append(item.ReferencedFrameNumber)
        place = original[item.ReferencedFrameNumber - 1].PlanePositionSequence[0]
        assert group.PlanePositionSequence[0].ImagePositionPatient == place.ImagePositionPatient
    assert len(set(numbers)) == 2
    assert len(ds.SourceImageSequence) == 1
    np.testing.assert_array_equal(load_labels(path, like=volume).data, labels)


SERIES = [
    "dicom/mr_ge_papaya_20",
    "dicom/rt_utils/tests/mock_data",
    "dicom/rt_utils/tests/oriented_data",
    "dicom/qiicr_dcmqi/data/segmentations/ct-3slice",
    "dicom/qiicr_dcmqi/data/segmentations/23x38x3/image",
    "dicom/qiicr_dcmqi/data/segmentations/23x38x3/multiframe",
    "dicom/highdicom/data/test_files/ct_image.dcm",
    "dicom/pydicom_data/data_store/data/eCT_Supplemental.dcm",
]


@pytest.mark.parametrize("folder", SERIES)
def test_real_series_take_labels(tmp_path, data_dir, folder):
    series = next(item for item in list_series(data_dir / folder) if item.problem is None)
    volume = load_volume(series)
    labels = np.zeros(volume.data.shape, np.uint8)
    slices, rows, columns = labels.shape
    labels[slices // 2 :, rows // 4 : rows // 2, columns // 4 : columns // 2] = 3
    labels[0, : rows // 3] = 8
    path = save_labels(labels, tmp_path / "seg.dcm", like=volume, classes={3: "liver"})
    np.testing.assert_array_equal(load_labels(path, like=volume).data, labels)
    alone = load_labels(path)
    here, there = world_of(volume, labels, 3), world_of(alone, alone.data, 3)
    assert len(here) == len(there)
    # Headers are rounded; in this data by up to half a slice distance and a tenth of a pixel.
    np.testing.assert_allclose(here, there, atol=0.15)


def test_a_series_without_identifiers_is_refused(tmp_path, data_dir):
    volume = load_volume(data_dir / "dicom/ct_totalseg_20")
    with pytest.raises(VolumeError, match=r"SOP Class UID.*anonymisation.*\.nii\.gz") as caught:
        save_labels(draw(volume), tmp_path / "seg.dcm", like=volume)
    assert str(caught.value).count(". ") == 0
    assert not list(tmp_path.iterdir())


OPTIONAL = ["StudyID", "AccessionNumber", "PatientSex", "PatientBirthDate", "PatientName"]
OPTIONAL += ["PatientID", "StudyDate", "StudyTime", "ReferringPhysicianName", "SliceThickness"]
OPTIONAL += ["SeriesNumber", "Manufacturer", "PositionReferenceIndicator", "FrameOfReferenceUID"]


def test_missing_optional_attributes_are_accepted(tmp_path):
    def strip(ds, index):
        for keyword in OPTIONAL:
            delattr(ds, keyword)

    write_series(tmp_path / "series", edit=strip)
    volume = load_volume(tmp_path / "series")
    labels = draw(volume)
    path = save_labels(labels, tmp_path / "seg.dcm", like=volume)
    np.testing.assert_array_equal(load_labels(path, like=volume).data, labels)
    ds = dcmread(path)
    assert (ds.PatientName, ds.PatientID, ds.PatientSex, ds.StudyID) == ("", "", "", "")


def test_unusual_patient_values_are_kept_and_never_printed(tmp_path, caplog, capfd):
    def spoil(ds, index):
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.PatientName = "Grünspan^Zoë^^^^^^"
        ds.PatientID = "4711 " * 20
        ds["PatientBirthDate"]._value = "12 April 1961"
        ds["PatientSex"]._value = "FEMALE"
        ds.SOPClassUID = "1.3.46.670589.11.0.0.12.1"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom on writing these values
        write_series(tmp_path / "series", edit=spoil)
        volume = load_volume(tmp_path / "series")
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        path = save_labels(
            draw(volume), tmp_path / "seg.dcm", like=volume, classes={1: "Milz (脾臓)"}
        )
        assert read_segment_names(path)[1] == "Milz (脾臓)"
        load_labels(path, like=volume)
    shown = caplog.text + "".join(capfd.readouterr()) + "".join(str(w.message) for w in caught)
    for secret in ("Grünspan", "Zoë", "4711", "1961", "FEMALE"):
        assert secret not in shown
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = dcmread(path)
        assert str(ds.PatientName).startswith("Grünspan^Zoë")
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert ds.PatientBirthDate == "12 April 1961"
        assert ds.SourceImageSequence[0].ReferencedSOPClassUID == "1.3.46.670589.11.0.0.12.1"


def test_only_the_segmentation_contains_the_patient(tmp_path):
    write_series(tmp_path / "series")
    volume = load_volume(tmp_path / "series")
    labels = draw(volume)
    ds = dcmread(save_labels(labels, tmp_path / "seg.dcm", like=volume))
    assert (ds.PatientName, ds.PatientID) == ("Sesame^Ottoline", "MRN-4711-X")
    assert (ds.PatientBirthDate, ds.PatientSex) == ("19610412", "F")
    source = dcmread(next((tmp_path / "series").iterdir()))
    assert ds.StudyInstanceUID == source.StudyInstanceUID
    assert ds.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert ds.SeriesInstanceUID != source.SeriesInstanceUID
    for suffix in (".nii", ".nrrd", ".mha"):
        plain = save_labels(labels, tmp_path / f"labels{suffix}", like=volume).read_bytes()
        for secret in PATIENT:
            assert secret.encode() not in plain
            assert secret not in volume.name + volume.subject


def test_a_mosaic_is_refused(tmp_path, data_dir):
    folder = data_dir / "dicom/nibabel_nicom/nibabel/nicom/tests/data"
    mosaic = tmp_path / "mosaic.dcm"
    mosaic.write_bytes(gzip.decompress((folder / "siemens_dwi_0.dcm.gz").read_bytes()))
    volume = load_volume(mosaic)
    with pytest.raises(VolumeError, match=r"is a mosaic.*\.nii\.gz"):
        save_labels(draw(volume), tmp_path / "seg.dcm", like=volume)


def test_labels_without_a_series_are_refused(tmp_path):
    write_series(tmp_path / "series")
    volume = load_volume(tmp_path / "series")
    labels = draw(volume)
    plain = load_labels(save_labels(labels, tmp_path / "labels.nii.gz", like=volume))
    with pytest.raises(VolumeError, match=r"DICOM series.*\.nii\.gz"):
        save_labels(plain.data, tmp_path / "seg.dcm", like=plain)
    shutil.rmtree(tmp_path / "series")
    with pytest.raises(VolumeError, match="does not exist"):
        save_labels(labels, tmp_path / "seg.dcm", like=volume)
    assert not (tmp_path / "seg.dcm").exists()


def test_a_segmentation_fits_the_converted_scan_in_any_axis_order(tmp_path):
    import nibabel as nib

    write_series(tmp_path / "series", orientation=(0.6, 0.8, 0, -0.8, 0.6, 0))
    volume = load_volume(tmp_path / "series")
    labels = draw(volume)
    path = save_labels(labels, tmp_path / "seg.dcm", like=volume)
    image = nib.Nifti1Image(
        volume.geometry.to_source(volume.data).astype(np.int16), volume.geometry.affine
    )
    turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "scan.nii.gz")
    back = load_labels(path, like=load_volume(tmp_path / "scan.nii.gz"))
    np.testing.assert_array_equal(back.data, labels)
    np.testing.assert_array_equal(load_labels(path, like=back.geometry).data, labels)
