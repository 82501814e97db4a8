"""Transfer syntaxes beyond the common ones, and DICOM files under the names of other formats."""

import gzip
import struct
import zlib

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_files import ramp, write_series
from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.volume import load_volume

GE = "1.2.840.113619.5.2"
PHILIPS = "1.3.46.670589.33.1.4.1"


def whole_file(path, syntax, *, implicit=False, pack=lambda body: body):
    """Return the bytes of a file in another transfer syntax, which pydicom does not write."""
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    head, body = DicomBytesIO(), DicomBytesIO()
    write_file_meta_info(head, ds.file_meta)
    body.is_implicit_VR, body.is_little_endian = implicit, True
    meta = ds.file_meta
    del ds.file_meta
    write_dataset(body, ds)
    ds.file_meta = meta
    return b"\0" * 128 + b"DICM" + head.getvalue() + pack(body.getvalue())


def rewrite(paths, syntax, *, swap=False, **options):
    for path in paths:
        if swap:
            ds = dcmread(path)
            ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
            ds.save_as(path)
        path.write_bytes(whole_file(path, syntax, **options))


def raw_deflate(body):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize("pack", [raw_deflate, zlib.compress], ids=["rfc1951", "zlib"])
def test_deflated_files_are_read(tmp_path, pack):
    values = ramp()
    paths = write_series(tmp_path, values)
    rewrite(paths, DeflatedExplicitVRLittleEndian, pack=pack)
    volume = load_volume(tmp_path)
    source = volume.geometry.to_source(volume.data).transpose(2, 1, 0)
    np.testing.assert_array_equal(source, values - 1024)


def test_a_truncated_deflated_file_is_damaged(tmp_path):
    paths = write_series(tmp_path)
    rewrite(paths, DeflatedExplicitVRLittleEndian, pack=raw_deflate)
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    with pytest.raises(VolumeError, match="cannot be read"):
        load_volume(paths[0])


def test_a_real_deflated_series_is_read(data_dir):
    volume = load_volume(data_dir / "format_faults/defl_dcmtk")
    assert volume.data.shape == (5, 20, 24)
    assert (volume.data.min(), volume.data.max()) == (571, 794)


@pytest.mark.parametrize(
    ("syntax", "implicit", "swap"), [(GE, True, True), (PHILIPS, False, False)]
)
def test_private_syntaxes_of_known_encoding_are_read(tmp_path, syntax, implicit, swap):
    values = ramp()
    paths = write_series(tmp_path, values)
    rewrite(paths, syntax, implicit=implicit, swap=swap)
    volume = load_volume(tmp_path)
    source = volume.geometry.to_source(volume.data).transpose(2, 1, 0)
    np.testing.assert_array_equal(source, values - 1024)


@pytest.mark.parametrize("implicit", [False, True])
def test_an_unknown_syntax_is_named_and_not_called_damaged(tmp_path, implicit):
    paths = write_series(tmp_path)
    rewrite(paths, "1.2.826.0.1.3680043.2.1.99", implicit=implicit)
    for item in list_series(tmp_path):
        assert "1.2.826.0.1.3680043.2.1.99" in item.problem
        assert "damaged" not in item.problem


def test_an_unreadable_unknown_syntax_is_named(tmp_path):
    [path] = write_series(tmp_path, ramp(slices=1))
    rewrite([path], "1.2.826.0.1.3680043.2.1.99", pack=lambda body: zlib.compress(body)[::-1])
    [item] = list_series(tmp_path)
    assert "1.2.826.0.1.3680043.2.1.99" in item.problem


def test_compressed_pixels_in_a_private_syntax_are_refused(data_dir):
    for item in list_series(data_dir / "format_faults/privts"):
        assert PHILIPS in item.problem
        assert "damaged" not in item.problem


@pytest.mark.parametrize("suffix", ["img", "hdr", "IMG", "nii", "img.gz"])
def test_dicom_files_are_recognised_by_content(tmp_path, suffix):
    values = ramp()
    paths = write_series(tmp_path, values, name="IM{:04d}." + suffix)
    assert all(map(is_dicom, paths))
    volume = load_volume(tmp_path)
    assert len(volume.header.files) == len(values)
    assert load_volume(paths[0]).data.shape[0] == 1


def test_a_real_series_named_img_is_found(data_dir):
    assert load_volume(data_dir / "format_faults/img_suffix").data.shape == (10, 20, 24)


def test_an_analyze_pair_is_no_dicom(tmp_path):
    nib = pytest.importorskip("nibabel")
    nib.save(nib.Nifti1Pair(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "a.img")
    assert not is_dicom(tmp_path / "a.img")
    assert not is_dicom(tmp_path / "a.hdr")
    # A header without the mark of DICOM, however it begins.
    (tmp_path / "b.img").write_bytes(struct.pack("<HHI", 8, 0, 4) + b"\0" * 200)
    assert not is_dicom(tmp_path / "b.img")


@pytest.mark.parametrize("name", ["IM{:04d}.001", "1.2.840.{}"])
@pytest.mark.parametrize("implicit", [True, False])
def test_files_of_old_scanners_that_end_in_a_number_are_found(tmp_path, name, implicit):
    values = ramp()
    for path in write_series(tmp_path, values, name=name):
        ds = dcmread(path)
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, implicit
        write_dataset(stream, ds)
        path.write_bytes(stream.getvalue())
    (tmp_path / "values.002").write_bytes(struct.pack("<HHI", 8, 90, 4) + b"\0" * 200)
    assert not is_dicom(tmp_path / "values.002")
    assert load_volume(tmp_path).data.shape[0] == len(values)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(200), "unpack it"),
        (bytes(344) + b"n+1\0" + bytes(100), "NIfTI"),
        (b"remarks\n", "not a DICOM file"),
    ],
)
def test_a_file_that_is_only_named_dicom_is_called_what_it_is(tmp_path, start, said):
    (tmp_path / "a.dcm").write_bytes(start)
    [item] = list_series(tmp_path)
    assert said in item.problem


def test_a_compressed_dicom_file_is_to_be_unpacked(tmp_path):
    for path in write_series(tmp_path, ramp(2)):
        path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    for item in list_series(tmp_path):
        assert item.is_scan
        assert "unpack it first" in item.problem
