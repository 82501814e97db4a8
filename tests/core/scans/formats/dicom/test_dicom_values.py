"""Rescaling of enhanced files, and padding outside the field of view."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, ImplicitVRLittleEndian

from dicom_files import ramp, write_series
from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.scans.volume import load_volume


def stored(volume):
    return volume.geometry.to_source(volume.data).transpose(2, 1, 0)


def item_of(**values):
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def write_enhanced(path, values, *, top=None, shared=None, frames=None, spacing=3.0):
    """Write an enhanced CT; rescaling at the top level, shared, or for each frame."""
    [plain] = write_series(path.parent / "plain", values[:1])
    ds = dcmread(plain)
    plain.unlink()
    for keyword in (
        "RescaleSlope",
        "RescaleIntercept",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
    ):
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(values)

    def rescale(pair):
        return [item_of(RescaleSlope=str(pair[0]), RescaleIntercept=str(pair[1]), RescaleType="HU")]

    common = item_of(
        PixelMeasuresSequence=[item_of(PixelSpacing=["0.8", "0.6"], SliceThickness="3")],
        PlaneOrientationSequence=[item_of(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    if top:
        ds.RescaleSlope, ds.RescaleIntercept = map(str, top)
    if shared:
        common.PixelValueTransformationSequence = rescale(shared)
    ds.SharedFunctionalGroupsSequence = [common]
    groups = []
    for index in range(len(values)):
        place = item_of(ImagePositionPatient=[0, 0, index * spacing])
        group = item_of(PlanePositionSequence=[place])
        if frames:
            group.PixelValueTransformationSequence = rescale(frames[index])
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.PixelData = np.ascontiguousarray(values, "<i2").tobytes()
    ds.save_as(path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"top": (1, -1024)}, [(1, -1024)] * 4),
        ({"top": (2, 5)}, [(2, 5)] * 4),
        ({"shared": (2, -10)}, [(2, -10)] * 4),
        ({"frames": [(1 + i, -i) for i in range(4)]}, [(1 + i, -i) for i in range(4)]),
        # The functional groups are what the standard asks for.
        ({"top": (1, 0), "shared": (2, -10)}, [(2, -10)] * 4),
        (
            {"shared": (9, 9), "frames": [(1 + i, -i) for i in range(4)]},
            [(1 + i, -i) for i in range(4)],
        ),
    ],
    ids=["top", "slope-at-top", "shared", "per-frame", "top-and-shared", "shared-and-per-frame"],
)
def test_enhanced_ct_is_rescaled(tmp_path, given, expected):
    values = ramp(slices=4)
    write_enhanced(tmp_path / "enhanced.dcm", values, **given)
    found = stored(load_volume(tmp_path / "enhanced.dcm"))
    for plane, raw, (slope, intercept) in zip(found, values, expected, strict=True):
        np.testing.assert_allclose(plane, raw * float(slope) + intercept)


def test_a_real_enhanced_ct_with_rescaling_at_the_top_is_in_hu(data_dir):
    volume = load_volume(data_dir / "format_faults/e_top")
    assert (volume.data.min(), volume.data.max()) == (571 - 1024, 839 - 1024)


def test_inverted_display_is_said_and_values_are_kept(tmp_path):
    def edit(ds, index):
        ds.PhotometricInterpretation = "MONOCHROME1"

    write_series(tmp_path, ramp(), edit=edit)
    with pytest.warns(ScanWarning, match="MONOCHROME1"):
        np.testing.assert_array_equal(stored(load_volume(tmp_path)), ramp() - 1024)


# --- padding


def padded(tmp_path, value, *, signed, where="corners", modality="CT", implicit=False, **header):
    """Write a series whose corners, or one pixel in its middle, are padding."""
    values = ramp().astype(np.int32) + 24  # from -1000 HU on
    real = values.copy()
    mask = np.zeros(values.shape, bool)
    if where == "corners":
        mask[:, :2] = mask[:, -2:] = True
    else:
        mask[:, 3, 4] = True
    kind = "<i2" if signed else "<u2"

    def edit(ds, index):
        plane = np.where(mask[index], value, values[index])
        ds.PixelData = plane.astype(kind).tobytes()
        ds.PixelRepresentation = int(signed)
        for keyword, entry in header.items():
            setattr(ds, keyword, entry)
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    write_series(tmp_path, ramp(), edit=edit, modality=modality)
    return real - 1024, mask


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("value", "signed"), [(63536, False), (65535, False), (30000, True)], ids=str
)
def test_padding_above_all_values_becomes_the_lowest(tmp_path, value, signed, implicit):
    real, mask = padded(tmp_path, value, signed=signed, implicit=implicit, PixelPaddingValue=value)
    with pytest.warns(ScanWarning, match="padding"):
        volume = load_volume(tmp_path)
    found = stored(volume)
    np.testing.assert_array_equal(found[~mask], real[~mask])
    assert set(found[mask]) == {real[~mask].min()}
    assert volume.data.dtype == np.int16
    assert any(f"{value - 1024:g}" in note for note in volume.notes)


def test_a_range_of_padding_is_replaced_as_a_whole(tmp_path):
    real, mask = padded(
        tmp_path, 60500, signed=False, PixelPaddingValue=65535, PixelPaddingRangeLimit=60000
    )
    with pytest.warns(ScanWarning, match="padding"):
        found = stored(load_volume(tmp_path))
    assert set(found[mask]) == {real[~mask].min()}


def test_padding_that_lost_its_sign_is_recognised_without_a_header(tmp_path):
    real, mask = padded(tmp_path, 63536, signed=False)
    with pytest.warns(ScanWarning, match="padding"):
        found = stored(load_volume(tmp_path))
    np.testing.assert_array_equal(found[~mask], real[~mask])
    assert set(found[mask]) == {real[~mask].min()}


def test_padding_below_all_values_stays(tmp_path, recwarn):
    """As in other programs: -2000 of GE becomes -3024 HU."""
    _, mask = padded(tmp_path, -2000, signed=True, PixelPaddingValue=-2000)
    volume = load_volume(tmp_path)
    assert set(stored(volume)[mask]) == {-3024}
    assert volume.notes == ()


def test_padding_written_as_the_other_sign_is_recognised(tmp_path):
    from pydicom.dataelem import DataElement

    def edit(ds, index):
        plane = np.where(np.arange(9) < 3, 63536, 1000 + index)
        ds.PixelData = np.broadcast_to(plane, (7, 9)).astype("<u2").tobytes()
        ds.PixelRepresentation = 0
        ds[0x00280120] = DataElement(0x00280120, "SS", -2000)

    write_series(tmp_path, edit=edit)
    with pytest.warns(ScanWarning, match="padding"):
        assert load_volume(tmp_path).data.max() == 1005 - 1024


def test_padding_beyond_the_stored_bits_is_recognised(tmp_path):
    real, mask = padded(
        tmp_path, 63536, signed=False, PixelPaddingValue=63536, BitsStored=12, HighBit=11
    )
    with pytest.warns(ScanWarning, match="padding"):
        found = stored(load_volume(tmp_path))
    np.testing.assert_array_equal(found[~mask], real[~mask])
    assert set(found[mask]) == {real[~mask].min()}


def test_padding_of_0_hu_around_a_ct_becomes_air(tmp_path):
    real, mask = padded(tmp_path, 1024, signed=True, PixelPaddingValue=1024)
    values = ramp()
    mask |= values + 24 == 1024
    with pytest.warns(ScanWarning, match="padding"):
        found = stored(load_volume(tmp_path))
    np.testing.assert_array_equal(found[~mask], real[~mask])
    assert set(found[mask]) == {real[~mask].min()}


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_value_of_tissue_called_padding_is_kept_and_said(tmp_path, modality):
    real, mask = padded(
        tmp_path, 200, signed=True, where="middle", modality=modality, PixelPaddingValue=200
    )
    with pytest.warns(ScanWarning, match="padding"):
        found = stored(load_volume(tmp_path))
    np.testing.assert_array_equal(found[~mask], real[~mask])
    assert set(found[mask]) == {200 - 1024}


def test_zero_called_padding_in_mr_is_background(tmp_path):
    def edit(ds, index):
        ds.PixelPaddingValue = 0

    write_series(tmp_path, ramp(), edit=edit, modality="MR", intercept=0)
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(stored(volume), ramp())
    assert volume.notes == ()


def test_a_header_that_only_names_padding_changes_nothing(tmp_path):
    def edit(ds, index):
        ds.PixelPaddingValue = -30000

    write_series(tmp_path, ramp(), edit=edit)
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(stored(volume), ramp() - 1024)
    assert volume.notes == ()


def test_real_padding_is_not_bone(data_dir):
    with pytest.warns(ScanWarning, match="62512"):
        volume = load_volume(data_dir / "format_faults/padu")
    assert (volume.data.min(), volume.data.max()) == (577, 809)
