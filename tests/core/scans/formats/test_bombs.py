"""Small files that would take all memory or never end are refused, and only these."""

import bz2
import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
    generate_uid,
)

from dicom_files import AXIAL, write_series
from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.formats.dicom.dicomdir import listed_files
from napari_sslseg.core.scans.volume import load_volume

STRICT = pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")


def run_limited(code, *arguments, mebibytes=300):
    """Run code in a process that may take so much more memory than its imports."""
    start = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from napari_sslseg.core.common.errors import SslsegError\n"
        "from napari_sslseg.core.scans.find import list_series\n"
        "from napari_sslseg.core.scans.labels import load_labels\n"
        "from napari_sslseg.core.scans.volume import load_volume\n"
        "import napari_sslseg.core.scans.formats.itk\n"
        "import napari_sslseg.core.scans.formats.dicom.series\n"
        "size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        f"most = size + {mebibytes} * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "given = [Path(argument) for argument in sys.argv[1:]]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def refused(path, words):
    begin = time.process_time()
    with pytest.raises(VolumeError, match=words) as caught:
        load_volume(path)
    assert time.process_time() - begin < 10
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- NRRD and MetaImage


def write_nrrd(path, data=b"", *, sizes="20 20 10", kind="short", **fields):
    lines = [
        "NRRD0004", f"type: {kind}", "dimension: 3", "space: left-posterior-superior",
        f"sizes: {sizes}", "space directions: (1,0,0) (0,1,0) (0,0,2)",
        "space origin: (0,0,0)", "endian: little",
        *(f"{name.replace('_', ' ')}: {value}" for name, value in fields.items()),
    ]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + data)
    return path


@STRICT
def test_one_long_number_takes_no_memory_for_all(tmp_path):
    words = b"1 " * 999_999 + b"1" * 500_000
    path = write_nrrd(tmp_path / "a.nrrd", words, sizes="1000 1000 1", encoding="ascii")
    code = "try: load_volume(given[0])\nexcept SslsegError as error: print(error)"
    (line,) = run_limited(code, path)
    assert "more than 64 characters" in line


@pytest.mark.parametrize("join", [b" ", b"\n", b", "])
def test_numbers_as_text_are_read_across_blocks(tmp_path, join):
    values = np.random.default_rng(0).integers(-9999, 9999, (300, 200, 10))
    data = join.join(str(number).encode() for number in values.ravel(order="F"))
    assert len(data) > 2 * 2**20
    path = write_nrrd(tmp_path / "a.nrrd", data, sizes="300 200 10", encoding="ascii")
    volume = load_volume(path)
    np.testing.assert_array_equal(volume.geometry.to_source(volume.data), values)


@pytest.mark.parametrize("change", [b" 7", b" 7" * 10**7])
def test_too_many_numbers_are_refused(tmp_path, change):
    path = write_nrrd(tmp_path / "a.nrrd", b"1 " * 4000 + change, encoding="ascii")
    refused(path, "numbers instead of 4000")


def test_values_at_the_end_of_an_endless_stream_are_refused(tmp_path):
    # A terabyte of zeros.
    data = bz2.compress(bytes(2**24)) * 2**16
    path = write_nrrd(tmp_path / "a.nrrd", data, encoding="bzip2", byte_skip=-1)
    refused(path, "unpacks to more than")
    refused(write_nrrd(path, data, encoding="bzip2", byte_skip=2**40), "damaged")


def test_values_at_the_end_of_a_stream_are_read(tmp_path):
    values = np.arange(4000, dtype="<i2").reshape(20, 20, 10)
    data = bz2.compress(b"some other data" + values.tobytes("F"))
    volume = load_volume(write_nrrd(tmp_path / "a.nrrd", data, encoding="bzip2", byte_skip=-1))
    np.testing.assert_array_equal(volume.geometry.to_source(volume.data), values)


def test_an_endless_header_is_refused(tmp_path):
    path = write_nrrd(tmp_path / "a.nrrd", encoding="raw")
    path.write_bytes(path.read_bytes().rstrip() + b"\n" + (b"key:=" + b"v" * 1000 + b"\n") * 20_000)
    refused(path, "header is longer than 16 MiB")


def write_mhd(path, name):
    path.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 20 20 10\nElementType = MET_UCHAR\n"
        f"ElementDataFile = {name}\n"
    )
    return path


def write_nhdr(path, name):
    return write_nrrd(path, kind="uchar", encoding="raw", data_file=name)


@pytest.mark.parametrize(("suffix", "write"), [(".nhdr", write_nhdr), (".mhd", write_mhd)])
def test_values_are_beside_or_below_their_header(tmp_path, suffix, write):
    folder = tmp_path / "scan"
    (folder / "below").mkdir(parents=True)
    (tmp_path / "scan-2").mkdir()
    values = bytes(range(250)) * 16
    for place in ("out.raw", "scan-2/out.raw", "scan/a.raw", "scan/below/a.raw"):
        (tmp_path / place).write_bytes(values)
    path = folder / f"a{suffix}"
    for name in ("/etc/passwd", "../out.raw", "../scan-2/out.raw", f"{tmp_path}/out.raw"):
        refused(write(path, name), "not in its folder")
    for name in ("a.raw", "./a.raw", "below/a.raw", "below/../a.raw", f"{folder}/a.raw"):
        volume = load_volume(write(path, name))
        assert volume.geometry.to_source(volume.data).tobytes("F") == values
    (folder / "zero.raw").symlink_to("/dev/zero")
    refused(write(path, "zero.raw"), "missing")


# --- pipes and devices


def test_pipes_and_devices_are_named_and_block_nothing(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes")
    scans = tmp_path / "scans"
    scans.mkdir()
    image = nib.Nifti1Image(np.arange(480, dtype=np.int16).reshape(8, 10, 6), np.eye(4))
    nib.save(image, scans / "good.nii.gz")
    for number, suffix in enumerate((".nii.gz", ".nrrd", ".mha", ".dcm", "", ".img", ".seg")):
        os.mkfifo(scans / f"pipe{number}{suffix}")
        (scans / f"zero{number}{suffix}").symlink_to("/dev/zero")
    code = (
        "scans, = given\n"
        "for item in list_series(scans): print(item.name, item.problem)\n"
        "from napari_sslseg.core.scans.slices.annotated import read_annotated\n"
        "from napari_sslseg.core.scans.matching.patients import read_patients\n"
        "from napari_sslseg.core.scans.classes.partial_labels import read_labelled_classes\n"
        "for path in sorted(scans.iterdir()):\n"
        "    if path.name == 'good.nii.gz': continue\n"
        "    for read in (load_labels, load_volume, read_patients, read_annotated,\n"
        "                 read_labelled_classes):\n"
        "        try: read(path)\n"
        "        except SslsegError as error: print(path.name, read.__name__, error)\n"
    )
    lines = run_limited(code, scans)
    assert sum("good" in line and "None" in line for line in lines) == 1
    for number in range(7):
        for name in (f"pipe{number}", f"zero{number}"):
            assert sum(line.startswith(name) for line in lines) >= 5, lines


# --- DICOM


def bomb(mebibytes):
    """Return bare deflate data of zeros, about 1/1000 of their size."""
    packer = zlib.compressobj(9, wbits=-15)
    one = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return one * mebibytes


def deflate(path, element, mebibytes):
    """Deflate a file, with an element whose value is a bomb at the end of its header."""
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if element == "PixelData":
        del ds.PixelData
        tag = b"\xe0\x7f\x10\x00OW\0\0"
    else:
        tag = b"\x11\x00\x01\x10OB\0\0"
        for later in [item.tag for item in ds if item.tag.group > 0x10]:
            del ds[later]
    ds.save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    plain = zlib.decompress(whole[start:], -15)
    packer = zlib.compressobj(9, wbits=-15)
    head = plain + tag + (mebibytes * 2**20).to_bytes(4, "little")
    packed = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, wbits=-15).flush()
    path.write_bytes(whole[:start] + packed + bomb(mebibytes) + end)
    assert path.stat().st_size < 2**21


@STRICT
@pytest.mark.parametrize("element", ["PixelData", "PrivateData"])
def test_a_deflated_bomb_is_not_unpacked_to_list_a_folder(tmp_path, element):
    write_series(tmp_path / "good")
    (path, *_) = write_series(tmp_path / "bomb")
    for other in path.parent.iterdir():
        if other != path:
            other.unlink()
    deflate(path, element, 1500)
    code = "for item in list_series(given[0]): print(len(item.files), item.problem)"
    lines = run_limited(code, tmp_path)
    assert "6 None" in lines
    if element == "PrivateData":
        assert any("1 " in line and "cannot be read" in line for line in lines)
    code = "try: load_volume(given[0])\nexcept SslsegError as error: print(error)"
    (line,) = run_limited(code, path, mebibytes=900)
    assert str(path) in line


def write_directory(folder, count):
    """Write a DICOMDIR of small files whose names are in lower case in the folder."""
    (folder / "images").mkdir(parents=True)
    records = []
    for number in range(count):
        (folder / "images" / f"im{number:05}").touch()
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = ["IMAGES", f"IM{number:05}"]
        records.append(record)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(folder / "DICOMDIR", {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID = MediaStorageDirectoryStorage
    ds.DirectoryRecordSequence = records
    ds.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


def test_a_directory_of_lower_case_copies_takes_linear_time(tmp_path):
    path = write_directory(tmp_path, 2500)
    begin = time.process_time()
    present, missing = listed_files(path)
    # With a listing of the folder for each file, this takes much longer.
    assert time.process_time() - begin < 8
    assert not missing
    assert [file.name for file in present[:2]] == ["im00000", "im00001"]
    assert len(present) == 2500


def item(**values):
    found = Dataset()
    for name, value in values.items():
        setattr(found, name, value)
    return found


def write_frames(path, values, allocated):
    """Write an enhanced CT whose frames are in another order than its slices."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID, ds.SOPInstanceUID = EnhancedCTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.PatientID, ds.ImageType = "CT", "P1", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=2)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=0)],
        )
    ]
    order = np.random.default_rng(1).permutation(len(values))
    ds.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * int(z)])]) for z in order
    ]
    ds.NumberOfFrames, ds.Rows, ds.Columns = values.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = allocated
    ds.HighBit, ds.PixelRepresentation = allocated - 1, 0
    ds.PixelData = values[order].astype(f"<u{allocated // 8}").tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(("allocated", "compressed"), [(16, True), (8, True), (8, False)])
def test_frames_are_decoded_in_linear_time(tmp_path, allocated, compressed):
    values = np.random.default_rng(0).integers(0, 255, (700, 12, 10))
    path = write_frames(tmp_path / "a.dcm", values, allocated)
    if compressed:
        ds = dcmread(path)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.save_as(path)
    (series,) = list_series(path)
    begin = time.process_time()
    volume = load_volume(series)
    assert time.process_time() - begin < 8
    source = volume.geometry.to_source(volume.data).transpose(2, 1, 0)
    np.testing.assert_array_equal(source, values)


def test_missing_frames_are_damaged(tmp_path):
    path = write_frames(tmp_path / "a.dcm", np.ones((20, 12, 10), int), 16)
    ds = dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path)
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, "truncated or damaged")


# --- one bad file in a folder


def test_a_damaged_directory_does_not_hide_other_scans(tmp_path):
    write_series(tmp_path / "good")
    path = write_directory(tmp_path / "disc", 3)
    whole = path.read_bytes()
    at = whole.index(b"IMAGES\\IM00001")
    path.write_bytes(whole[: at - 2] + b"\xff\xff" + whole[at:])
    found = list_series(tmp_path)
    assert [len(item.files) for item in found if item.problem is None] == [6]


UNREADABLE = """
import os
os.setuid(65534)
for item in list_series(given[0]): print(item.path.name, item.problem)
"""


@STRICT
@pytest.mark.skipif(getattr(os, "getuid", int)() != 0, reason="only root changes the user")
def test_files_without_permission_do_not_hide_other_scans():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        image = nib.Nifti1Image(np.arange(480, dtype=np.int16).reshape(8, 10, 6), np.eye(4))
        for scan in ("a.nii.gz", "b.nii.gz", "c.img"):
            nib.save(image, folder / scan)
        (folder / "d.xyz").write_bytes(bytes(100))
        (folder / "e.dcm").write_bytes(bytes(100))
        for locked in ("b.nii.gz", "c.img", "d.xyz", "e.dcm"):
            (folder / locked).chmod(0)
        found = dict(line.split(maxsplit=1) for line in run_limited(UNREADABLE, folder))
        assert found.pop("a.nii.gz") == "None"
        assert set(found) == {"b.nii.gz", "c.hdr", "d.xyz", "e.dcm"}
        assert all("None" not in problem for problem in found.values())
