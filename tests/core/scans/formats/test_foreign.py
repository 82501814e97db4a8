"""Files of formats that are not read: what they are, and what to do, in one sentence."""

import bz2
import gzip
import io
import lzma
import tarfile
import warnings
import zipfile

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from dicom_files import write_series
from napari_sslseg.core import list_series, load_labels, load_volume
from napari_sslseg.core.common.errors import ScanWarning, SslsegError, VolumeError
from napari_sslseg.core.scans.find import find_scans

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(600)


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("scan.nii", bytes(400))
    return stream.getvalue()


def tarred():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("scan.nii")
        info.size = 400
        archive.addfile(info, io.BytesIO(bytes(400)))
    return stream.getvalue()


def written(tmp_path, suffix, planar=False):
    image = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    SimpleITK.WriteImage(image[:, :, 0] if planar else image, str(tmp_path / f"x{suffix}"))
    data = (tmp_path / f"x{suffix}").read_bytes()
    (tmp_path / f"x{suffix}").unlink()
    return data


def numpy_file():
    stream = io.BytesIO()
    np.save(stream, np.zeros((3, 4, 5)))
    return stream.getvalue()


PAR = b"# === DATA DESCRIPTION FILE ======================\n#\n"
FOREIGN = {
    "a.par": (PAR, "Philips PAR/REC"),
    "a.nii": (PAR, "Philips PAR/REC"),
    "b.mnc": (HDF5, "MINC"),
    "c.mnc": (b"CDF\x01" + bytes(300), "MINC"),
    "d.nii.gz": (gzip.compress(b"CDF\x01" + bytes(300)), "MINC"),
    "e+orig.HEAD": (b"\ntype = string-attribute\n", "AFNI"),
    "f+orig.BRIK.gz": (gzip.compress(bytes(300)), "AFNI"),
    "g.mgz": (gzip.compress(b"\0\0\0\x01" + bytes(300)), "FreeSurfer"),
    "h.zip": (zipped(), "ZIP"),
    "i.nii.gz": (zipped(), "ZIP"),
    "j.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(300), "7-Zip"),
    "k.nrrd": (b"7z\xbc\xaf\x27\x1c" + bytes(300), "7-Zip"),
    "l.tar.gz": (gzip.compress(tarred()), "tar archive"),
    "m.nii": (bz2.compress(bytes(500)), "bzip2"),
    "n.nii": (lzma.compress(bytes(500)), "xz"),
    "o.mat": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(300), "MATLAB"),
    "p.nii": (b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(300), "MATLAB"),
    "q.npy": (numpy_file(), "NumPy"),
    "r.h5": (HDF5, "HDF5"),
    "s.nii.gz": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
    "t.nii.gz": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "v.mif": (b"mrtrix image\ndim: 3,4,5\n" + bytes(300), "MRtrix"),
    "w.bmp": (b"BM" + bytes(300), "BMP"),
    "x.webp": (b"RIFF\0\0\0\0WEBP" + bytes(300), "WebP"),
    "y.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "office document"),
    "z.nii.lnk": (b"L\0\0\0\x01\x14\x02\0" + bytes(300), "shortcut"),
    "u.mha": (b"\xff\xd8\xff\xe0" + bytes(300), "JPEG"),
}


def said(path):
    with pytest.raises(SslsegError) as caught:
        load_volume(path, modality="MR")
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.count(". ") == 0
    assert "broken" not in message
    return message


@pytest.mark.parametrize("name", FOREIGN)
def test_the_message_says_what_a_file_is(tmp_path, name):
    data, what = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(data)
    assert what in said(path)
    with pytest.raises(VolumeError, match=what):
        load_labels(path)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
@pytest.mark.parametrize("as_suffix", [".nii", ".nii.gz", ".nrrd", ".mha", None])
def test_pictures_are_called_so(tmp_path, suffix, as_suffix):
    data = written(tmp_path, suffix, planar=suffix != ".tif")
    path = tmp_path / f"scan{as_suffix or suffix}"
    path.write_bytes(gzip.compress(data) if as_suffix == ".nii.gz" else data)
    what = {".tif": "TIFF", ".png": "PNG", ".jpg": "JPEG"}[suffix]
    assert what in said(path)


@pytest.mark.parametrize(
    ("own", "other", "what"),
    [
        (".nii", ".nrrd", "NIfTI"),
        (".nii.gz", ".mha", "NIfTI"),
        (".nrrd", ".nii", "NRRD"),
        (".mha", ".nii.gz", "MetaImage"),
        (".mha", ".nrrd", "MetaImage"),
    ],
)
def test_a_suffix_of_another_format_is_said(tmp_path, own, other, what):
    path = tmp_path / f"scan{other}"
    path.write_bytes(written(tmp_path, own))
    assert f"a {what} file" in said(path).replace("an NRRD", "a NRRD")


def test_dicom_with_another_suffix_is_read_or_said(tmp_path):
    [file] = write_series(tmp_path / "series", np.zeros((1, 4, 5), np.int16))
    (tmp_path / "a.nii").write_bytes(file.read_bytes())
    assert load_volume(tmp_path / "a.nii").modality == "CT"
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert "DICOM" in said(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_damaged_file_is_not_taken_for_another_format(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(written(tmp_path, suffix)[:-30])
    message = said(path)
    assert "truncated" in message or "cannot be read" in message


@pytest.fixture
def folder(tmp_path):
    """A scan beside files of other formats, notes and parts of pairs."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    nib.save(image, tmp_path / "scan.nii.gz")
    (tmp_path / "philips.PAR").write_bytes(PAR)
    (tmp_path / "philips.REC").write_bytes(bytes(500))
    (tmp_path / "picture.png").write_bytes(written(tmp_path, ".png", planar=True))
    (tmp_path / "archive.zip").write_bytes(zipped())
    (tmp_path / "unknown.xyz").write_bytes(bytes(range(256)))
    for name in ("notes.txt", "scan.json", "scan.bval", "table.csv", "Notizen.md"):
        (tmp_path / name).write_text("Bemerkung: Größe 1 2 3\n")
    (tmp_path / "empty.dat").touch()
    (tmp_path / ".hidden").write_bytes(bytes(300))
    header = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
    (tmp_path / "pair.mhd").write_text(f"{header}ElementDataFile = pair.raw\n")
    (tmp_path / "pair.raw").write_bytes(bytes(8))
    return tmp_path


def test_files_beside_scans_that_are_not_understood_are_listed(folder):
    problems = {s.path.name: s.problem for s in list_series(folder) if s.problem}
    assert set(problems) == {"philips.PAR", "picture.png", "archive.zip", "unknown.xyz"}
    assert "unknown format" in problems["unknown.xyz"]
    assert {s.path.name for s in list_series(folder) if not s.problem} == {
        "scan.nii.gz",
        "pair.mhd",
    }


def test_they_do_not_stop_a_training_but_scans_among_them_are_named(folder):
    with pytest.warns(ScanWarning) as caught:
        found = find_scans(folder)
    assert [series.path.name for series in found] == ["pair.mhd", "scan.nii.gz"]
    assert [w for w in map(str, (one.message for one in caught)) if "philips.PAR" in w]
    assert not [w for w in map(str, (one.message for one in caught)) if "picture" in w]


def test_a_folder_of_foreign_files_says_what_they_are(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped())
    with pytest.raises(VolumeError, match="ZIP archive"):
        find_scans(tmp_path)


def test_dicom_files_are_not_listed_twice(tmp_path):
    write_series(tmp_path, name="IM{:04d}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        [series] = list_series(tmp_path)
    assert series.problem is None


def test_values_without_their_header_are_named(tmp_path):
    """Other pairs, and DICOM files with this suffix, are scans."""
    image = nib.Nifti1Pair(np.zeros((3, 4, 5), np.int16), np.eye(4))
    for name in ("whole.img", "lone.img", "packed.img.gz"):
        nib.save(image, tmp_path / name)
    (tmp_path / "lone.hdr").unlink()
    write_series(tmp_path, name="IM{:04d}.img")
    found = {item.path.name: item for item in list_series(tmp_path) if item.path.is_file()}
    assert {name: item.problem is None for name, item in found.items()} == {
        "whole.hdr": True,
        "lone.img": False,
        "packed.hdr.gz": True,
    }
    assert "header (.hdr) is missing" in str(found["lone.img"].problem)
    with pytest.warns(ScanWarning, match="lone.img"):
        assert len(find_scans(tmp_path)) == 3
