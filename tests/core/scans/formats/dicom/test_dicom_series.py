"""DICOM series are sorted and checked, and have the right grid and values."""

import gzip
import itertools
import shutil
import warnings

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from dicom_files import AXIAL, CORONAL, SAGITTAL, ramp, write_series
from napari_sslseg.core.common.errors import ScanWarning, SslsegError, VolumeError
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.volume import load_volume, load_volumes

sitk = pytest.importorskip("SimpleITK")


def oblique(angle=0.4, tilt=0.3):
    """Return direction cosines rotated about two axes."""
    c, s = np.cos(angle), np.sin(angle)
    d, t = np.cos(tilt), np.sin(tilt)
    return (c, s, 0.0, -s * d, c * d, t)


def along(orientation, steps, origin=(5.0, -7.0, 11.0), side=0.0):
    """Return positions at steps along the normal, shifted along the columns per mm."""
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        np.array(origin) + step * normal + side * step * np.array(orientation[3:]) for step in steps
    ]


def linear(places, orientation, spacing, shape=(8, 6)):
    """Return samples on the planes of a field that is linear in patient space, and the field."""

    def field(points):
        return np.asarray(points) @ (10.0, -7.0, 25.0)

    row, column = np.indices(shape)
    points = [
        np.array(place)
        + row[..., None] * spacing[0] * np.array(orientation[3:])
        + column[..., None] * spacing[1] * np.array(orientation[:3])
        for place in places
    ]
    return np.array([field(p) for p in points]), field


def world_of(volume):
    """Return the LPS position of every display voxel."""
    index = np.indices(volume.data.shape).reshape(3, -1)
    affine = volume.geometry.display_affine
    ras = affine[:3, :3] @ index + affine[:3, 3:]
    return (ras.T * (-1, -1, 1)).reshape(*volume.data.shape, 3)


def assert_same_as_simpleitk(volume, names, atol=1e-4):
    """Check that every value is at the same position as in SimpleITK."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(name) for name in names])
    image = reader.Execute()
    values = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    corners = itertools.product(*[(0, n - 1) for n in values.shape])
    affine = np.linalg.inv(volume.geometry.display_affine)
    for corner in corners:
        lps = np.array(image.TransformIndexToPhysicalPoint(tuple(map(int, corner))))
        index = affine[:3, :3] @ (lps * (-1, -1, 1)) + affine[:3, 3]
        np.testing.assert_allclose(index, np.rint(index), atol=atol)
        assert volume.data[tuple(np.rint(index).astype(int))] == pytest.approx(values[corner])
    assert volume.data.size == values.size
    assert float(volume.data.sum(dtype=float)) == pytest.approx(float(values.sum(dtype=float)))


# --- order, position, values


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, oblique(), oblique(2.5, -1.2)])
def test_slices_are_sorted_by_position_not_by_name(tmp_path, orientation):
    values = ramp()
    paths = write_series(tmp_path, values, orientation=orientation)
    volume = load_volume(tmp_path)
    by_place = sorted(
        paths,
        key=lambda p: np.dot(
            dcmread(p).ImagePositionPatient, np.cross(orientation[:3], orientation[3:])
        ),
    )
    assert_same_as_simpleitk(volume, by_place)
    assert volume.modality == "CT"
    assert volume.data.dtype == np.int16
    source = volume.geometry.to_source(volume.data)
    np.testing.assert_array_equal(source.transpose(2, 1, 0), values.astype(int) - 1024)


def test_each_slice_has_its_own_slope_and_intercept(tmp_path):
    def edit(ds, index):
        ds.RescaleSlope, ds.RescaleIntercept = str(0.5 + index), str(-3 * index)

    values = ramp()
    write_series(tmp_path, values, edit=edit, modality="MR")
    volume = load_volume(tmp_path)
    steps = np.arange(len(values))[:, None, None]
    expected = values * (0.5 + steps) - 3 * steps
    source = volume.geometry.to_source(volume.data).transpose(2, 1, 0)
    assert source.dtype == np.float32
    np.testing.assert_allclose(source, expected, rtol=1e-6)
    assert volume.modality == "MR"


def test_values_beyond_16_bits_stay_exact(tmp_path):
    def edit(ds, index):
        ds.PixelRepresentation = 0
        ds.PixelData = np.full((ds.Rows, ds.Columns), 65000 + index, "<u2").tobytes()

    write_series(tmp_path, edit=edit)
    volume = load_volume(tmp_path)
    assert volume.data.dtype == np.int32
    assert sorted(np.unique(volume.data)) == [65000 + i - 1024 for i in range(6)]


def test_bits_above_the_values_are_cleared(tmp_path):
    """Older scanners store overlays in these bits."""

    def edit(ds, index):
        stored = np.full((ds.Rows, ds.Columns), 100 + index, "<u2")
        ds.PixelData = (stored | 0x4000).tobytes()
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0

    write_series(tmp_path, edit=edit, intercept=0)
    assert sorted(np.unique(load_volume(tmp_path).data)) == [100, 101, 102, 103, 104, 105]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_transfer_syntaxes_give_the_same_values(tmp_path, syntax):
    values = ramp(slices=2, rows=64, columns=48)
    paths = write_series(tmp_path / "plain", values)
    (tmp_path / "coded").mkdir()
    for path in paths:
        ds = dcmread(path)
        target = tmp_path / "coded" / path.stem  # also without a suffix
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(target)
    coded, plain = load_volume(tmp_path / "coded"), load_volume(tmp_path / "plain")
    np.testing.assert_array_equal(coded.data, plain.data)
    np.testing.assert_array_equal(coded.geometry.affine, plain.geometry.affine)


def test_every_transfer_syntax_of_one_real_slice_gives_the_same_values(data_dir):
    folder = data_dir / "dicom/pydicom_test_files/src/pydicom/data/test_files"
    names = "MR_small_RLE _bigendian _expb _implicit _jp2klossless _jpeg_ls_lossless _padded"
    reference = load_volume(folder / "MR_small.dcm")
    for name in names.replace("MR_small", "").split():
        other = load_volume(folder / f"MR_small{name}.dcm")
        np.testing.assert_array_equal(other.data, reference.data)


@pytest.mark.parametrize(
    "series",
    [
        "ct_totalseg_20",
        "mr_ge_papaya_20",
        "rt_utils/tests/mock_data",
        "qiicr_dcmqi/data/segmentations/ct-3slice",
        "qiicr_dcmqi/data/segmentations/23x38x3/image",
    ],
)
def test_real_series_agree_with_simpleitk(data_dir, series):
    folder = data_dir / "dicom" / series
    [volume] = load_volumes(folder)
    names = volume.header.files
    # One real series has positions with one decimal, so the grid deviates by the rounding.
    assert_same_as_simpleitk(volume, names, atol=0.1 if "papaya" in series else 1e-4)


def test_real_ct_has_the_grid_of_its_converted_labels(data_dir):
    """The label map was made by other tools from the same series."""
    import nibabel as nib

    volume = load_volume(data_dir / "dicom/ct_totalseg_20")
    labels = nib.load(
        data_dir / "totalsegmentator_ct_mr/tests/reference_files/example_seg_dicom.nii.gz"
    )
    from napari_sslseg.core.scans.geometry import Geometry

    assert volume.geometry.matches(Geometry(labels.affine, labels.shape))


# --- series that are not volumes


def test_missing_slices_are_named(tmp_path):
    steps = [0, 2.5, 5, 12.5, 15]
    values = ramp(slices=5)
    paths = write_series(tmp_path, values, places=along(AXIAL, steps))
    with pytest.raises(VolumeError, match="lacks slices") as caught:
        load_volume(tmp_path)
    heights = {path.name: float(dcmread(path).ImagePositionPatient[2]) for path in paths}
    beside = [name for name, z in heights.items() if z in (16.0, 23.5)]
    assert all(name in str(caught.value) for name in beside)
    assert "7.5 mm" in str(caught.value)
    assert "2.5 mm" in str(caught.value)


def test_real_series_with_missing_and_duplicate_slices_is_refused(data_dir):
    # Two of its files contain the same pixels, so one is used; other slices are missing.
    with pytest.raises(VolumeError, match="lacks slices"):
        load_volumes(data_dir / "dicom/ct_missing_dup_slices")


def test_two_slices_at_one_position_are_named(tmp_path):
    write_series(tmp_path, places=along(AXIAL, [0, 2.5, 2.5, 5, 7.5, 10]))
    with pytest.raises(VolumeError, match=r"IM\d+\.dcm.*IM\d+\.dcm.*same position"):
        load_volume(tmp_path)


def test_duplicate_files_are_used_once(tmp_path):
    paths = write_series(tmp_path)
    before = load_volume(tmp_path)
    shutil.copy(paths[2], tmp_path / "copy of a slice.dcm")
    after = load_volume(tmp_path)
    np.testing.assert_array_equal(after.data, before.data)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("TemporalPositionIdentifier", (1, 2)),
        ("EchoTime", ("12.5", "80")),
        ("AcquisitionNumber", (4, 5)),
        ("TriggerTime", ("0", "333")),
        ("DiffusionBValue", (0.0, 1000.0)),
    ],
)
def test_phases_of_one_series_are_separate_volumes(tmp_path, keyword, values):
    def edit(ds, index):
        setattr(ds, keyword, values[index % 2])

    data = ramp(slices=10)
    steps = np.repeat(np.arange(5) * 3.0, 2)
    write_series(tmp_path, data, places=along(AXIAL, steps), edit=edit, modality="MR")
    volumes = load_volumes(tmp_path)
    assert len(volumes) == 2
    assert volumes[0].subject == volumes[1].subject
    assert volumes[0].name != volumes[1].name
    for number, volume in enumerate(volumes):
        source = volume.geometry.to_source(volume.data).transpose(2, 1, 0)
        np.testing.assert_array_equal(source, data[number::2] - 1024.0)
    with pytest.raises(VolumeError, match="2 volumes"):
        load_volume(tmp_path)


def test_a_different_value_per_slice_does_not_split_a_volume(tmp_path):
    def edit(ds, index):
        ds.AcquisitionNumber, ds.AcquisitionTime = index, f"1015{index:02d}"

    write_series(tmp_path, edit=edit)
    assert load_volume(tmp_path).data.shape == (6, 7, 9)


@pytest.mark.parametrize("orientation", [AXIAL, oblique()])
def test_uneven_slices_are_resampled_to_a_regular_grid(tmp_path, orientation):
    steps = [0, 2, 4.4, 6.6, 8.4, 10.4, 12.0]
    places = along(orientation, steps)
    values, field = linear(places, orientation, (0.8, 0.6))
    stored = np.rint(values).astype(np.int16)
    write_series(tmp_path, stored, places=places, orientation=orientation, intercept=0)
    with pytest.warns(ScanWarning, match=r"1\.60 to 2\.40 mm"):
        volume = load_volume(tmp_path)
    assert "resampled" in volume.notes[0]
    assert volume.data.dtype == np.float32
    # Interpolating a linear field reproduces it, except for rounding.
    np.testing.assert_allclose(volume.data, field(world_of(volume)), atol=0.51)


def test_thick_slices_after_thin_ones_are_not_a_gap(tmp_path):
    steps = [0, 2.5, 5, 7.5, 12.5, 17.5, 22.5]
    places = along(AXIAL, steps)
    values, field = linear(places, AXIAL, (0.8, 0.6))

    def edit(ds, index):
        ds.SliceThickness = "2.5" if index < 4 else "5"

    write_series(tmp_path, np.rint(values), places=places, edit=edit, intercept=0)
    with pytest.warns(ScanWarning, match="resampled"):
        volume = load_volume(tmp_path)
    np.testing.assert_allclose(volume.data, field(world_of(volume)), atol=0.51)


@pytest.mark.parametrize("side", [0.25, -0.4])
def test_a_tilted_gantry_is_corrected(tmp_path, side):
    """Each slice is shifted along the columns, but the anatomy stays at its position."""
    places = along(AXIAL, np.arange(7) * 3.0, side=side)
    values, field = linear(places, AXIAL, (0.8, 0.6), shape=(24, 6))
    write_series(tmp_path, np.rint(values), places=places, intercept=0)
    angle = np.rad2deg(np.arctan(abs(side)))
    with pytest.warns(ScanWarning, match=f"tilted by {angle:.1f} degrees"):
        volume = load_volume(tmp_path)
    affine = volume.geometry.affine[:3, :3]
    unit = affine / np.linalg.norm(affine, axis=0)
    np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=1e-6)
    points = world_of(volume)
    # Row of each point within its slice; the slices are 3 mm apart.
    height = np.rint((points[..., 2] - places[0][2]) / 3).astype(int)
    rows = (points[..., 1] - np.array(places)[height][..., 1]) / 0.8
    inside = (rows > 1e-6) & (rows < 23 - 1e-6)
    assert inside.sum() > 7 * 21 * 6
    np.testing.assert_allclose(volume.data[inside], field(points)[inside], atol=0.51)
    outside = (rows < -1) | (rows > 24)
    assert (volume.data[outside] == volume.data.min()).all()


def test_rounded_positions_are_not_a_tilt(data_dir):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        volume = load_volume(data_dir / "dicom/mr_ge_papaya_20")
    assert volume.notes == ()
    assert volume.geometry.is_oblique


def test_stray_images_are_separated_from_a_series(tmp_path):
    uid = generate_uid()
    write_series(tmp_path, series=uid, frame_of_reference="1.2.4", name="a{}.dcm")
    write_series(
        tmp_path,
        ramp(slices=2),
        series=uid,
        frame_of_reference="1.2.4",
        orientation=SAGITTAL,
        name="b{}.dcm",
    )
    with pytest.warns(ScanWarning, match="localizer"):
        [volume] = load_volumes(tmp_path)
    assert volume.data.shape == (6, 7, 9)


def test_three_crossed_images_are_a_localizer(tmp_path):
    uid = generate_uid()
    for letter, orientation in zip("abc", (AXIAL, CORONAL, SAGITTAL), strict=True):
        write_series(
            tmp_path,
            ramp(slices=1),
            series=uid,
            frame_of_reference="1.2.4",
            orientation=orientation,
            name=letter + "{}.dcm",
        )
    with pytest.raises(VolumeError, match="localizer"):
        load_volumes(tmp_path)


def test_two_directions_with_many_slices_are_two_volumes(tmp_path):
    uid = generate_uid()
    write_series(tmp_path, series=uid, study="1.2.3", name="a{}.dcm")
    write_series(tmp_path, series=uid, study="1.2.3", orientation=CORONAL, name="b{}.dcm")
    volumes = load_volumes(tmp_path)
    assert (
        sorted(volume.geometry.orientation for volume in volumes) == ["LIP", "LPS"]
        or len(volumes) == 2
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary capture"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
        ({"ImagePositionPatient": None}, "position"),
        ({"ImageOrientationPatient": None}, "orientation"),
        ({"PixelSpacing": None}, "pixel size"),
        ({"PixelSpacing": ["0", "0.6"]}, "pixel size"),
        ({"RescaleSlope": "0"}, "slope"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "right angles"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "length is not 1"),
    ],
)
def test_series_that_are_not_volumes_are_refused_with_a_reason(tmp_path, change, reason):
    def edit(ds, index):
        for keyword, value in change.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)

    write_series(tmp_path, edit=edit)
    with pytest.raises(SslsegError, match=reason) as caught:
        load_volumes(tmp_path)
    assert str(caught.value).count(". ") == 0
    assert str(tmp_path) in str(caught.value)


# --- multi-frame, mosaic, DICOMDIR


def test_enhanced_multi_frame_equals_its_slices(data_dir):
    folder = data_dir / "dicom/qiicr_dcmqi/data/segmentations/23x38x3"
    single, multi = load_volume(folder / "image"), load_volume(folder / "multiframe/mf.dcm")
    np.testing.assert_array_equal(single.data, multi.data)
    np.testing.assert_allclose(single.geometry.affine, multi.geometry.affine, atol=1e-6)


def test_converted_multi_frame_equals_its_slices(tmp_path):
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    paths = write_series(tmp_path / "single", orientation=oblique())
    image = LegacyConvertedEnhancedCTImage(
        [dcmread(path) for path in paths], generate_uid(), 9, generate_uid(), 1
    )
    (tmp_path / "multi").mkdir()
    image.save_as(tmp_path / "multi/enhanced")
    single, multi = load_volume(tmp_path / "single"), load_volume(tmp_path / "multi")
    np.testing.assert_array_equal(single.data, multi.data)
    np.testing.assert_allclose(single.geometry.affine, multi.geometry.affine, atol=1e-6)


@pytest.mark.parametrize("name", ["siemens_dwi_0", "siemens_dwi_1000"])
def test_mosaic_agrees_with_nibabel(data_dir, tmp_path, name):
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    folder = data_dir / "dicom/nibabel_nicom/nibabel/nicom/tests/data"
    path = tmp_path / f"{name}.dcm"
    path.write_bytes(gzip.decompress((folder / f"{name}.dcm.gz").read_bytes()))
    wrapper = wrapper_from_file(path)
    theirs, affine = wrapper.get_data(), np.diag([-1, -1, 1, 1]) @ wrapper.affine
    volume = load_volume(path)
    assert volume.data.size == theirs.size
    inverse = np.linalg.inv(volume.geometry.display_affine)
    for index in itertools.product(*[(0, n // 2, n - 1) for n in theirs.shape]):
        ras = affine[:3, :3] @ index + affine[:3, 3]
        here = inverse[:3, :3] @ ras + inverse[:3, 3]
        np.testing.assert_allclose(here, np.rint(here), atol=1e-4)
        assert volume.data[tuple(np.rint(here).astype(int))] == theirs[index]


def test_a_mosaic_that_does_not_divide_is_refused(data_dir):
    """It was scaled down after the scan, so its size is not a multiple of the tiles."""
    path = data_dir / "dicom/nibabel_nicom/nibabel/nicom/tests/data/0.dcm"
    with pytest.raises(VolumeError, match="48 tiles"):
        load_volume(path)


def test_a_dicomdir_is_replaced_by_its_files(data_dir):
    folder = data_dir / "dicom/pydicom_test_files/src/pydicom/data/test_files/dicomdirtests"
    listed = list_series(folder / "DICOMDIR")
    [volume] = [item for item in listed if item.problem is None and "CT_5" in item.name]
    assert load_volume(volume).data.shape == (5, 16, 16)
    assert {item.path for item in listed} <= {item.path for item in list_series(folder)}


def test_a_folder_tree_gives_one_volume_per_series(tmp_path):
    def patient(number):
        def edit(ds, index):
            ds.PatientID, ds.PatientName = f"MRN-{number}", f"Doe^Number{number}"

        return edit

    for number in (1, 2):
        write_series(tmp_path / f"p{number}/ct", edit=patient(number), name="{:08X}")
        write_series(tmp_path / f"p{number}/mr", edit=patient(number), modality="MR", name="I{}")
    (tmp_path / "p1/notes.txt").write_text("not a scan")
    (tmp_path / ".hidden").mkdir()
    shutil.copytree(tmp_path / "p1/ct", tmp_path / ".hidden/ct")
    volumes = load_volumes(tmp_path)
    assert len({volume.name for volume in volumes}) == 4
    assert len({volume.subject for volume in volumes}) == 2
    assert sorted(volume.modality for volume in volumes) == ["CT", "CT", "MR", "MR"]
    assert load_volumes(list((tmp_path / "p2/mr").iterdir()))[0].data.shape == (6, 7, 9)


def test_other_modalities_are_skipped_unless_requested(tmp_path):
    def edit(ds, index):
        ds.Modality = "PT"

    write_series(tmp_path / "pt", edit=edit)
    with pytest.raises(VolumeError, match="PT"):
        load_volume(tmp_path / "pt")
    assert load_volume(tmp_path / "pt", modality="MR").modality == "MR"
    write_series(tmp_path / "ct")
    with pytest.warns(ScanWarning, match="neither MR nor CT"):
        [volume] = load_volumes(tmp_path)
    assert volume.modality == "CT"


# --- privacy


def test_names_do_not_reveal_the_patient(tmp_path):
    def edit(ds, index):
        ds.SeriesDescription = "Abdomen SESAME follow-up"

    write_series(tmp_path / "a", edit=edit)
    write_series(tmp_path / "b")
    for item in list_series(tmp_path):
        text = repr(item).lower()
        for private in ("sesame", "ottoline", "4711", "19610412"):
            assert private not in text
    assert any("Abdomen-2.5" in item.name for item in list_series(tmp_path))


def test_unusual_patient_values_are_not_printed(tmp_path, capfd, recwarn):
    def edit(ds, index):
        from pydicom import config

        with config.disable_value_validation():
            ds.add_new("PatientBirthDate", "DA", "born 12 April 1961")
        ds.RescaleSlope = "1"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(tmp_path, edit=edit)
    recwarn.clear()
    load_volumes(tmp_path)
    printed = "".join(capfd.readouterr()) + "".join(str(w.message) for w in recwarn)
    assert "1961" not in printed
