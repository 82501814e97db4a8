"""Read DICOM segmentations of other packages, and damaged ones."""

import copy

import highdicom
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_files import ramp, write_series
from napari_sslseg.core import (
    list_series,
    load_labels,
    load_volume,
    read_segment_names,
    save_labels,
)
from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.scans.formats.dicom.labels.read import referenced_series
from seg_points import draw, in_order, world_of


def points_of_nrrd(path):
    image = SimpleITK.ReadImage(str(path))
    voxels = np.argwhere(SimpleITK.GetArrayFromImage(image))[:, ::-1]
    points = [image.TransformIndexToPhysicalPoint(voxel.tolist()) for voxel in voxels]
    return in_order(np.array(points))


@pytest.mark.parametrize(
    ("name", "twin", "scans"),
    [
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd", ["23x38x3/image"]),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd", ["23x38x3/multiframe"]),
        ("24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd", ["24x38x3/image"]),
        ("liver.dcm", "liver_seg.nrrd", ["ct-3slice"]),
        ("sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd", ["24x38x3/image"]),
    ],
)
def test_files_of_dcmqi_equal_their_nrrd(data_dir, name, twin, scans):
    folder = data_dir / "dicom/qiicr_dcmqi/data/segmentations"
    wanted = points_of_nrrd(folder / twin)
    for like in (None, *(load_volume(folder / scan) for scan in scans)):
        labels = load_labels(folder / name, like=like)
        found = world_of(labels, labels.data, 1)
        assert len(found) == np.count_nonzero(labels.data)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert read_segment_names(folder / name) == {1: "Liver"}


def test_the_padding_of_a_label_map_is_background(data_dir):
    folder = data_dir / "dicom/qiicr_dcmqi/data/segmentations"
    labels = load_labels(folder / "sparse-labelmap-ppv5.dcm")
    assert np.bincount(labels.data.ravel()).tolist() == [2106, 630]


def test_smaller_structures_take_precedence(data_dir):
    folder = data_dir / "dicom/qiicr_dcmqi/data/segmentations"
    scan = load_volume(folder / "ct-3slice")
    with pytest.warns(ScanWarning, match="overlap in 3,134 voxels"):
        labels = load_labels(folder / "partial_overlaps.dcm", like=scan)
    parts = [
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / f"partial_overlaps-{n}.nrrd")))
        for n in (1, 2, 3)
    ]
    masks = {value: np.any([part == value for part in parts], axis=0) for value in range(1, 6)}
    wanted = np.zeros(parts[0].shape, int)
    for value in sorted(masks, key=lambda value: -masks[value].sum()):
        wanted[masks[value]] = value
    np.testing.assert_array_equal(scan.geometry.to_source(labels.data).transpose(2, 1, 0), wanted)
    assert list(read_segment_names(folder / "partial_overlaps.dcm").values())[:2] == [
        "GREEN",
        "ORANGE",
    ]


def test_fractions_of_at_least_one_half_are_labelled(tmp_path):
    files = write_series(tmp_path / "series", ramp(2, 4, 5))
    sources = sorted((dcmread(f) for f in files), key=lambda d: d.ImagePositionPatient[2])
    fractions = np.linspace(0, 1, 40).reshape(2, 4, 5)
    fractions[0, 0] = 0.5
    description = highdicom.seg.SegmentDescription(
        1,
        "lung",
        highdicom.sr.CodedConcept("91723000", "SCT", "Anatomical Structure"),
        highdicom.sr.CodedConcept("39607008", "SCT", "Lung"),
        "MANUAL",
    )
    highdicom.seg.Segmentation(
        sources, fractions, "FRACTIONAL", [description], generate_uid(), 1, generate_uid(), 1,
        "maker", "model", "1", "1", max_fractional_value=200,
    ).save_as(tmp_path / "seg.dcm")  # fmt: skip
    volume = load_volume(tmp_path / "series")
    with pytest.warns(ScanWarning, match="one half"):
        labels = load_labels(tmp_path / "seg.dcm", like=volume)
    stored = volume.geometry.to_source(labels.data).transpose(2, 1, 0)
    np.testing.assert_array_equal(stored, np.round(fractions * 200) >= 100)


@pytest.mark.parametrize("name", ["liver_j2k", "liver_expb", "liver_nonbyte_aligned"])
def test_transfer_syntaxes_give_the_same_labels(data_dir, name):
    folder = data_dir / "dicom/pydicom_data/data_store/data"
    plain = load_labels(folder / "liver.dcm")
    other = load_labels(folder / f"{name}.dcm")
    np.testing.assert_array_equal(world_of(other, other.data, 1), world_of(plain, plain.data, 1))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("highdicom/data/test_files/seg_image_sm_control.dcm", "microscopy"),
        ("highdicom/data/test_files/seg_image_sm_dots_tiled_full.dcm", "microscopy"),
        ("highdicom/data/test_files/seg_image_cr_binary.dcm", "place of its frames"),
        ("highdicom/data/test_files/ct_image.dcm", "neither a DICOM segmentation nor"),
        ("pydicom_data/data_store/data/liver_rle.dcm", "uncompressed"),
    ],
)
def test_other_objects_are_refused(data_dir, name, why):
    with pytest.raises(VolumeError, match=why):
        load_labels(data_dir / "dicom" / name)


def edited(path, target, edit):
    ds = dcmread(path)
    edit(ds)
    ds.save_as(target)
    return target


def move(ds, by):
    for group in ds.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = [
            round(float(old) + new, 6)
            for old, new in zip(place.ImagePositionPatient, by, strict=True)
        ]


@pytest.fixture
def written(tmp_path):
    """A volume, labels and their segmentation."""
    write_series(tmp_path / "series")
    volume = load_volume(tmp_path / "series")
    labels = draw(volume)
    return volume, labels, save_labels(labels, tmp_path / "seg.dcm", like=volume)


def test_the_difference_from_the_scan_is_named(tmp_path, written):
    _, _, path = written
    write_series(tmp_path / "finer", ramp(6, 14, 18), spacing=(0.4, 0.3))
    with pytest.raises(GeometryError, match=r"pixels of 0.6 × 0.8 mm, .* 0.3 × 0.4 mm"):
        load_labels(path, like=load_volume(tmp_path / "finer"))
    write_series(tmp_path / "turned", orientation=(0.8, 0.6, 0, -0.6, 0.8, 0))
    with pytest.raises(GeometryError, match="turned against the slices"):
        load_labels(path, like=load_volume(tmp_path / "turned"))


def test_frames_of_a_tilted_gantry_need_their_scan(tmp_path):
    places = [(-10, -20 + 0.9 * index, 30 + 2.5 * index) for index in range(6)]
    write_series(tmp_path / "series", places=places)
    volume = load_volume(tmp_path / "series")
    inside = np.zeros(volume.geometry.shape, int)
    inside[2:5, 5:8, 1:5] = 1
    labels = volume.geometry.to_display(inside)
    path = save_labels(labels, tmp_path / "seg.dcm", like=volume)
    np.testing.assert_array_equal(load_labels(path, like=volume).data, labels)
    with pytest.raises(GeometryError, match=r"tilted gantry.*like="):
        load_labels(path)


def test_frames_off_the_slices_are_refused(tmp_path, written):
    volume, labels, path = written
    near = edited(path, tmp_path / "near.dcm", lambda ds: move(ds, (0.004, 0, 0.01)))
    np.testing.assert_array_equal(load_labels(near, like=volume).data, labels)
    for by, why in (
        ((0, 0, 1.0), "not on a slice of the scan, but 0.4 slices"),
        ((0.3, 0, 0), "between those of the scan, 0.5 voxels"),
        ((0, 0, -25), "outside"),
        ((600, 0, 0), "outside"),
    ):
        far = edited(path, tmp_path / "far.dcm", lambda ds, by=by: move(ds, by))
        with pytest.raises(GeometryError, match=why):
            load_labels(far, like=volume)


def test_a_segmentation_of_another_scan_warns(tmp_path, written):
    volume, labels, path = written

    def another(ds):
        ds.FrameOfReferenceUID = generate_uid()
        ds.ReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()

    other = edited(path, tmp_path / "other.dcm", another)
    with pytest.warns(ScanWarning, match="another scan"):
        np.testing.assert_array_equal(load_labels(other, like=volume).data, labels)


def test_segment_numbers_of_other_packages_are_label_values(tmp_path, written):
    volume, labels, path = written
    path = save_labels(np.where(labels == 2, 7, labels), path, like=volume, overwrite=True)
    assert set(read_segment_names(path)) == {1, 7}
    theirs = edited(path, tmp_path / "theirs.dcm", lambda ds: setattr(ds, "Manufacturer", "Else"))
    assert set(read_segment_names(theirs)) == {1, 2}
    np.testing.assert_array_equal(load_labels(theirs, like=volume).data, labels)


def spoil_count(ds):
    ds.NumberOfFrames = 3


def spoil_position(ds):
    ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [1, 2]


def spoil_segment(ds):
    group = ds.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0]
    group.ReferencedSegmentNumber = 44


def spoil_size(ds):
    ds.Rows = ds.Columns = 65535


def spoil_pixels(ds):
    ds.PixelData = ds.PixelData[:8]


@pytest.mark.parametrize(
    "spoil", [spoil_count, spoil_position, spoil_segment, spoil_size, spoil_pixels]
)
def test_damaged_segmentations_are_refused(tmp_path, written, spoil):
    volume, _, path = written
    broken = edited(path, tmp_path / "broken.dcm", spoil)
    with pytest.raises(VolumeError) as caught:
        load_labels(broken, like=volume)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.fixture
def two_phases(tmp_path):
    """Three volumes at the same position: two echoes of one series, and another series."""
    ids = {"study": "1.2.3", "frame_of_reference": "1.2.4", "modality": "MR"}
    for echo in range(2):

        def edit(ds, index, echo=echo):
            ds.EchoTime = f"{10 * (echo + 1)}"

        values, name = ramp(seed=echo), f"{echo}-{{:04d}}.dcm"
        write_series(tmp_path / "flat", values, series="1.2.5", name=name, edit=edit, **ids)
    write_series(tmp_path / "flat", ramp(seed=2), series="1.2.6", name="2-{:04d}.dcm", **ids)
    found = list_series(tmp_path / "flat")
    assert len(found) == 3
    return found


def test_labels_identify_their_volume(tmp_path, two_phases):
    for series in two_phases:
        volume = load_volume(series)
        path = save_labels(draw(volume), tmp_path / "seg.dcm", like=volume, overwrite=True)
        assert referenced_series(path, two_phases) == [series]

    def without_frames(ds):
        for group in ds.PerFrameFunctionalGroupsSequence:
            del group.DerivationImageSequence

    def without_images(ds):
        without_frames(ds)
        del ds.SourceImageSequence
        del ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence

    def without_series(ds):
        without_images(ds)
        del ds.ReferencedSeriesSequence

    def of_another(ds):
        without_images(ds)
        ds.ReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()

    def found_series(edit, series):
        volume = load_volume(series)
        path = save_labels(draw(volume), tmp_path / "seg.dcm", like=volume, overwrite=True)
        return referenced_series(edited(path, tmp_path / "less.dcm", edit), two_phases)

    alone = next(item for item in two_phases if "1.2.6" in uid_of(item))
    echoes = [item for item in two_phases if item is not alone]
    assert found_series(without_frames, echoes[1]) == [echoes[1]]
    assert found_series(without_images, echoes[1]) == echoes  # both belong to the series
    assert found_series(without_images, alone) == [alone]
    assert found_series(without_series, alone) == two_phases  # all have one frame of reference
    assert found_series(of_another, alone) == []


def uid_of(series):
    return str(dcmread(series.files[0]).SeriesInstanceUID)


def test_frames_of_one_file_are_distinguished(tmp_path, data_dir):
    """Two echoes in one multi-frame file, and labels on a single frame of each."""
    source = data_dir / "dicom/qiicr_dcmqi/data/segmentations/24x38x3/multiframe/mf.dcm"
    ds = dcmread(source)
    groups, pixels = list(ds.PerFrameFunctionalGroupsSequence), ds.pixel_array
    again = []
    for group, echo in [(group, echo) for echo in (10.0, 20.0) for group in groups]:
        item = copy.deepcopy(group)
        item.MREchoSequence = [Dataset()]
        item.MREchoSequence[0].EffectiveEchoTime = echo
        again.append(item)
    ds.PerFrameFunctionalGroupsSequence, ds.NumberOfFrames = again, len(again)
    ds.PixelData = np.concatenate([pixels, pixels]).tobytes()
    ds.save_as(tmp_path / "mf.dcm")
    found = list_series(tmp_path / "mf.dcm")
    assert len(found) == 2
    for series in found:
        volume = load_volume(series)
        labels = np.zeros(volume.data.shape, np.uint8)
        labels[1, :4] = 1
        path = save_labels(labels, tmp_path / "seg.dcm", like=volume, overwrite=True)
        assert referenced_series(path, found) == [series]


def test_contours_identify_their_series(data_dir, tmp_path):
    folder = data_dir / "dicom/rt_utils/tests/mock_data"
    series = [item for item in list_series(folder) if item.problem is None]
    write_series(tmp_path / "other")
    others = list_series(tmp_path / "other")
    (meant,) = referenced_series(folder / "rt.dcm", [*others, *series])
    assert {path.name for path in meant.files} == {"ct_1.dcm", "ct_2.dcm"}
