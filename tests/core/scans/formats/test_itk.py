"""NRRD and MetaImage compared with SimpleITK, and cases in which SimpleITK is wrong."""

import bz2
import gzip
import itertools
import os
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from affines import affine_of
from napari_sslseg.core.common.errors import ScanWarning, SslsegError, VolumeError
from napari_sslseg.core.scans.formats.itk import ItkFile
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.volume import load_volume
from paths import data_files, overlapping

PYNRRD = "nifti_nrrd_mha/pynrrd/nrrd/tests/data"
SHAPE = (2, 3, 4)
LPS = "space: left-posterior-superior\n"
SHEARED = "space directions: (2,0,0.25) (0,-3,0) (0.5,0,4)\nspace origin: (10,-20,30)\n"


def by_itk(path):
    """Read values on three axes or more and the RAS+ affine with SimpleITK; of a list the first."""
    image = SimpleITK.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() > 1:
        image = SimpleITK.VectorIndexSelectionCast(image, 0)
    axes = image.GetDimension()
    steps = np.array(image.GetDirection()).reshape(axes, axes) * image.GetSpacing()
    affine, inside = np.eye(4), min(axes, 3)
    affine[:inside, :inside] = steps[:inside, :inside]
    affine[:inside, 3] = image.GetOrigin()[:inside]
    if axes == 2:
        affine[2, 2] = np.sign(np.linalg.det(steps))
    values = SimpleITK.GetArrayFromImage(image).T
    return values.reshape((*values.shape, 1)[: max(3, axes)]), np.diag([-1, -1, 1, 1]) @ affine


def nrrd(path, *, sizes="2 3 4", kind="uint8", space=LPS, axes=SHEARED, more="", data=None):
    head = f"NRRD0005\ntype: {kind}\ndimension: {len(sizes.split())}\n{space}sizes: {sizes}\n{axes}"
    head += more if "encoding" in more else f"encoding: raw\n{more}"
    path.write_bytes(f"{head}\n".encode() + (bytes(range(24)) if data is None else data))
    return path


def mha(path, *, sizes="2 3 4", kind="MET_UCHAR", more="", data=None, file="LOCAL"):
    head = f"ObjectType = Image\nNDims = {len(sizes.split())}\nDimSize = {sizes}\n"
    head += f"ElementType = {kind}\n{more}ElementDataFile = {file}\n"
    path.write_bytes(head.encode() + (bytes(range(24)) if data is None else data))
    return path


def image_of(data, axes=3):
    """A SimpleITK image with an oblique, sheared frame."""
    image = SimpleITK.GetImageFromArray(data.T)
    turned = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, -1]]) @ np.array(
        [[1, 0.1, 0], [0, 1, 0], [0, 0.2, 1]]
    )
    image.SetDirection((turned[:axes, :axes]).ravel().tolist())
    image.SetSpacing([0.7, 1.3, 5.1][:axes])
    image.SetOrigin([-101.123456789, 57.1, 1e-3][:axes])
    return image


def ramp(dtype, shape=(4, 5, 6)):
    return np.arange(np.prod(shape)).reshape(shape, order="F").astype(dtype)


def refusal(path):
    with pytest.raises(SslsegError) as caught:
        load_volume(path, modality="MR")
    message = str(caught.value)
    assert message.startswith(str(path.parent))
    assert message.endswith(".")
    assert message.count(". ") == 0
    assert message.isprintable()
    return message


# --- as SimpleITK reads them


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint32", "float"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_hexadecimal_values(tmp_path, kind, endian):
    data = ramp({"float": np.float32}.get(kind, kind), (2, 3, 4))
    data = data.astype(data.dtype.newbyteorder("<" if endian == "little" else ">"))
    text = data.tobytes(order="F").hex()
    lines = "\n".join(text[start : start + 70] for start in range(0, len(text), 70))
    more = f"endian: {endian}\nencoding: hex\n"
    path = nrrd(tmp_path / "a.nrrd", kind=kind, more=more, data=lines.encode() + b"\n")
    np.testing.assert_array_equal(ItkFile(path).values(), data)
    np.testing.assert_array_equal(by_itk(path)[0], data)
    path.write_bytes(path.read_bytes()[:-9])
    assert "too short" in refusal(path)


def test_a_real_file_with_hexadecimal_values(data_dir):
    path = data_dir / "format_faults/files/hex.nrrd"
    np.testing.assert_array_equal(ItkFile(path).values(), by_itk(path)[0])


@pytest.mark.parametrize("name", ["LIST 2", "LIST", "slice%02d.raw 0 6 1"])
def test_values_in_several_files_are_called_so(tmp_path, name):
    more = f"encoding: raw\ndata file: {name}\n"
    path = nrrd(tmp_path / "a.nhdr", more=more, data=b"sl00.raw\nsl01.raw\n")
    assert "several files" in refusal(path)


def test_a_real_list_of_files_is_called_so(data_dir):
    with pytest.raises(VolumeError, match="several files"):
        load_volume(data_dir / "format_faults/files/detlist.nhdr")


def test_real_files_agree_with_simpleitk(data_dir):
    """Compare affines and values; SimpleITK refuses three files, which have known affines."""
    agreed, only_here, refused = [], [], []
    files = data_files(data_dir, "*.nrrd", "*.nhdr", "*.mha", "*.mhd")
    for path in files:
        if path in overlapping(data_dir):
            continue  # compared in the tests of layers
        try:
            file = ItkFile(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ScanWarning)
                values = file.values()
        except VolumeError:
            refused.append(path.name)
            continue
        try:
            theirs, affine = by_itk(path)
        except RuntimeError:
            only_here.append(path.name)
            continue
        np.testing.assert_allclose(file.geometry.affine, affine, atol=1e-12)
        np.testing.assert_array_equal(values, theirs)
        assert values.dtype == theirs.dtype
        agreed.append(path.name)
    assert len(agreed) >= 30
    assert only_here == ["BallBinary30x30x30_bz2.nrrd", "test_simple4d_raw.nrrd"]
    assert set(refused) == {
        "BallBinary30x30x30_byteskip_minus_five.nhdr",
        "detlist.nhdr",
        "test1d_ascii.nrrd",
        "test_customFields.nrrd",
    }


def test_one_ball_in_every_encoding(data_dir):
    ball = nib.load(data_dir / PYNRRD / "BallBinary30x30x30.nii.gz")
    expected = np.asarray(ball.dataobj)
    names = [".nrrd", ".nhdr", "_byteskip_minus_one.nhdr", "_byteskip_minus_one_nifti.nhdr"]
    names += ["_bz2.nrrd", "_gz.nrrd", "_gz_byteskip_minus_one.nrrd", "_gz_lineskip.nrrd"]
    for name in names:
        file = ItkFile(data_dir / PYNRRD / f"BallBinary30x30x30{name}")
        np.testing.assert_array_equal(file.values(), expected)
        assert file.values().dtype == np.int16


@pytest.mark.parametrize(
    "dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"], ids=str
)
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_written_by_simpleitk(tmp_path, dtype, suffix, packed):
    data = ramp(dtype)
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image_of(data), str(path), packed)
    file = ItkFile(path)
    values = file.values()
    np.testing.assert_array_equal(values, data)
    assert values.dtype == np.dtype("f4" if dtype == "f8" else dtype)
    np.testing.assert_allclose(file.geometry.affine, by_itk(path)[1], atol=1e-12)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_labels_of_a_plane_are_a_plane(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image_of(ramp("i2", (4, 5)), 2), str(path))
    file = ItkFile(path)
    assert file.geometry.shape == (4, 5, 1)
    values, affine = by_itk(path)
    np.testing.assert_array_equal(file.values(), values)
    np.testing.assert_allclose(file.geometry.affine, affine, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        scan = load_volume(path)
    for target in (".nrrd", ".mha"):
        labels = save_labels((scan.data % 3).astype(np.uint8), tmp_path / f"b{target}", like=scan)
        image = SimpleITK.ReadImage(str(labels))
        assert image.GetSize() == (4, 5)
        np.testing.assert_array_equal(load_labels(labels, like=scan).data, scan.data % 3)
    labels = save_labels((scan.data % 3).astype(np.uint8), tmp_path / "b.nii", like=scan)
    np.testing.assert_array_equal(load_labels(labels, like=scan).data, scan.data % 3)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_frames(tmp_path, suffix):
    data = ramp("i2", (4, 5, 6, 3))
    path = tmp_path / f"a{suffix}"
    image = SimpleITK.JoinSeries([image_of(data[..., frame]) for frame in range(3)])
    SimpleITK.WriteImage(image, str(path), True)
    file = ItkFile(path)
    assert file.frames == 3
    np.testing.assert_allclose(file.geometry.affine, by_itk(path)[1], atol=1e-12)
    for frame in (2, 0, 1):
        np.testing.assert_array_equal(file.values(frame), data[..., frame])
    assert "choose one" in refusal(path)


@pytest.mark.parametrize(
    ("space", "sizes", "axes"),
    [
        (LPS, "2 3 4", SHEARED),
        ("space: right-anterior-superior\n", "2 3 4", SHEARED),
        ("space: RAS\n", "2 3 4", SHEARED),
        ("space: left-anterior-superior\n", "2 3 4", SHEARED),
        ("space: scanner-xyz\n", "2 3 4", SHEARED),
        ("space dimension: 3\n", "2 3 4", SHEARED),
        (LPS, "2 3 4", SHEARED.split("space origin")[0]),
        (LPS, "2 3 4 1", SHEARED.replace("4)", "4) none") + "kinds: domain domain domain list\n"),
        (LPS, "1 2 3 4", SHEARED.replace(": (2", ": none (2") + "kinds: list space space space\n"),
        ("", "2 3 4", "spacings: 2 0.5 nan\n"),
        ("", "2 3 4", "spacings: 2 0.5 3\naxis mins: 5 -6 7\n"),
        ("", "2 3 4", "spacings: 2 0.5 3\naxis mins: 5 -6 7\ncenters: node cell node\n"),
        ("", "2 3 4", ""),
        ("", "6 4", "spacings: 2 0.5\n"),
        ("space dimension: 2\n", "6 4", "space directions: (0,2) (3,0.5)\nspace origin: (1,2)\n"),
        ("", "2 3 2 2", "spacings: 2 0.5 3 9\n"),
        ("space: LPST\n", "2 3 4", "space directions: (2,0,0,0) (0,3,0,0) (0,0,4,0)\n"),
    ],
)
@pytest.mark.filterwarnings("ignore::napari_sslseg.core.common.errors.ScanWarning")
def test_spaces_and_axes(tmp_path, space, sizes, axes):
    path = nrrd(tmp_path / "a.nrrd", space=space, sizes=sizes, axes=axes)
    file = ItkFile(path)
    if "LPST" in space:  # SimpleITK refuses three axes in a space with time
        expected = np.diag([-2.0, -3, 4, 1])
    else:
        values, expected = by_itk(path)
        values = values.reshape((*file.geometry.shape, file.frames))
        np.testing.assert_array_equal(file.values(), values[..., 0])
    np.testing.assert_allclose(file.geometry.affine, expected, atol=1e-12)


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", None])
def test_an_unknown_orientation_is_reported(tmp_path, space):
    path = nrrd(tmp_path / "a.nrrd", space=f"space: {space}\n" if space else "space dimension: 3\n")
    with pytest.warns(ScanWarning, match=space or "names no space"):
        load_volume(path, modality="MR")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_volume(nrrd(tmp_path / "b.nrrd"), modality="MR")


@pytest.mark.parametrize("name", ["RAST", "right-anterior-superior-time"])
def test_time_does_not_mirror_the_patient(tmp_path, name):
    """SimpleITK reads a right-anterior-superior space with time as left-posterior."""
    axes = "space directions: (2,0,0,0) (0,3,0,0) (0,0,4,0) (0,0,0,9)\nspace origin: (1,2,3,0)\n"
    path = nrrd(tmp_path / "a.nrrd", sizes="2 3 2 2", space=f"space: {name}\n", axes=axes)
    file = ItkFile(path)
    assert (file.frames, file.geometry.shape) == (2, (2, 3, 2))
    np.testing.assert_array_equal(file.geometry.affine, affine_of(np.diag([2, 3, 4]), (1, 2, 3)))
    np.testing.assert_array_equal(file.values(1).ravel("F"), np.arange(12, 24))


@pytest.mark.parametrize("kind", ["time", "list", "domain", "???"])
def test_a_series_along_a_fourth_axis(tmp_path, kind):
    axes = SHEARED.replace("4)", "4) none") + f"kinds: domain domain domain {kind}\n"
    file = ItkFile(nrrd(tmp_path / "a.nrrd", sizes="2 3 2 2", axes=axes))
    assert file.frames == 2
    reference = ItkFile(nrrd(tmp_path / "b.nrrd"))
    np.testing.assert_array_equal(file.geometry.affine, reference.geometry.affine)
    np.testing.assert_array_equal(file.values(1).ravel("F"), np.arange(12, 24))


def test_a_rotated_plane(tmp_path):
    axes = "space directions: (0,2,0) (0,0,-3)\nspace origin: (1,2,3)\n"
    file = ItkFile(nrrd(tmp_path / "a.nrrd", sizes="6 4", axes=axes))
    expected = affine_of(np.array([[0, 0, 1], [-2, 0, 0], [0, -3, 0]]), (-1, -2, 3))
    np.testing.assert_array_equal(file.geometry.affine, expected)
    scan = load_volume(tmp_path / "a.nrrd", modality="MR")
    # A file of two axes cannot store this plane.
    written = save_labels(scan.data % 2, tmp_path / "labels.nrrd", like=scan)
    assert load_labels(written, like=scan).geometry.matches(scan.geometry)


# --- units


UM = 'space units: "um" "um" "um"\n'


@pytest.mark.parametrize(
    ("space", "more", "mm"),
    [
        (LPS, "", 1),
        (LPS, 'space units: "mm" "mm" "mm"\n', 1),
        (LPS, "space units: mm mm mm\n", 1),
        (LPS, 'space units: "" "" ""\n', 1),
        (LPS, 'space units: "???" "mm" ""\n', 1),
        (LPS, UM, 1e-3),
        (LPS, 'space units: "Micron" "um" "\u00b5m"\n', 1e-3),
        (LPS, 'space units: "\u03bcm" "\u03bcm" "\u03bcm"\n', 1e-3),
        (LPS, 'space units: "nm" "nm" "nm"\n', 1e-6),
        (LPS, 'space units: "cm" "cm" "cm"\n', 10),
        (LPS, 'space units: "m" "meters" "metre"\n', 1000),
        (LPS, 'units: "um" "um" "um"\n', 1e-3),
        (LPS, UM + 'units: "" "" ""\n', 1e-3),
        ("space: RAS\n", UM, 1e-3),
    ],
)
def test_units(tmp_path, space, more, mm):
    plain = nrrd(tmp_path / "plain.nrrd", space=space)
    path = tmp_path / "a.nrrd"
    path.write_bytes(plain.read_bytes().replace(b"encoding", more.encode() + b"encoding"))
    file = ItkFile(path)
    expected = np.diag([mm, mm, mm, 1]) @ by_itk(plain)[1]
    np.testing.assert_allclose(file.geometry.affine, expected, rtol=1e-12)
    assert ["mm" in note for note in file.notes] == ([] if mm == 1 else [True])


@pytest.mark.parametrize(
    ("axes", "mm"),
    [
        ('spacings: 2 0.5 3\nunits: "um" "um" "um"\n', 1e-3),
        ("spacings: 2 0.5 3\naxis mins: 5 -6 7\nunits: um um um\n", 1e-3),
        ('spacings: 2 0.5 3 9\nunits: "cm" "cm" "cm" "s"\n', 10),
    ],
)
def test_units_of_spacings(tmp_path, axes, mm):
    sizes = "2 3 2 2" if " 9" in axes else "2 3 4"
    file = ItkFile(nrrd(tmp_path / "a.nrrd", sizes=sizes, space="", axes=axes))
    lengths = axes.partition("units")[0]
    plain = ItkFile(nrrd(tmp_path / "b.nrrd", sizes=sizes, space="", axes=lengths))
    expected = np.diag([mm, mm, mm, 1]) @ plain.geometry.affine
    np.testing.assert_allclose(file.geometry.affine, expected, rtol=1e-12)


def test_the_unit_of_time_is_not_a_length(tmp_path):
    axes = "space directions: (2,0,0,0) (0,3,0,0) (0,0,4,0) (0,0,0,9)\n"
    axes += 'space units: "um" "um" "um" "s"\n'
    path = nrrd(tmp_path / "a.nrrd", sizes="2 3 2 2", space="space: LPST\n", axes=axes)
    expected = affine_of(np.diag([-2e-3, -3e-3, 4e-3]))
    np.testing.assert_allclose(ItkFile(path).geometry.affine, expected, rtol=1e-12)


@pytest.mark.parametrize("plane", [False, True])
@pytest.mark.filterwarnings("ignore::napari_sslseg.core.common.errors.ScanWarning")
def test_labels_keep_the_unit_of_an_nrrd_scan(tmp_path, plane):
    """SimpleITK ignores the unit, so labels must have the unit of the scan."""
    path = tmp_path / "a.nrrd"
    if plane:
        axes = "space directions: (0,2500) (3000,500)\nspace origin: (1,2)\n"
        axes += 'space units: "um" "um"\n'
        nrrd(path, space="space dimension: 2\n", sizes="6 4", axes=axes)
    else:
        nrrd(path, axes=SHEARED.replace("space origin", UM + "space origin"))
    scan = load_volume(path, modality="MR")
    labels = (scan.data % 3).astype(np.uint8)
    for target in (".nrrd", ".mha", ".nii"):
        saved = save_labels(labels, tmp_path / f"labels{target}", like=scan)
        again = load_labels(saved, like=scan)
        np.testing.assert_array_equal(again.data, labels)
        np.testing.assert_allclose(again.geometry.affine, scan.geometry.affine, atol=1e-9)
        theirs, affine = by_itk(saved) if target != ".nii" else (None, nib.load(saved).affine)
        if target == ".nrrd":
            np.testing.assert_array_equal(theirs, by_itk(path)[0] % 3)
            axes = [0, 1, 3] if plane else [0, 1, 2, 3]
            np.testing.assert_allclose(affine[:, axes], by_itk(path)[1][:, axes], rtol=1e-9)
        else:
            np.testing.assert_allclose(affine, scan.geometry.affine, atol=1e-9)


# --- encodings


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(
    ("encoding", "skip"),
    [
        *itertools.product(
            ["raw", "gzip", "bzip2"], ["", "line skip: 2\n", "byte skip: -1\n", "byte skip: 8\n"]
        ),
        ("ascii", ""),
        ("ascii", "line skip: 2\n"),
    ],
)
def test_nrrd_encodings(tmp_path, order, encoding, skip):
    values = ramp("i2", SHAPE) - 5
    flat = values.ravel("F")
    raw = flat.astype({"little": "<i2", "big": ">i2"}[order]).tobytes()
    before = b"left out" if "byte" in skip else b""
    data = {
        "raw": before + raw,
        "gzip": gzip.compress(before + raw),
        "bzip2": bz2.compress(before + raw),
        "ascii": " ".join(map(str, flat)).encode(),
    }[encoding]
    data = (b"first line\nsecond line\n" if "line" in skip else b"") + data
    more = f"endian: {order}\nencoding: {encoding}\n{skip}"
    path = nrrd(tmp_path / "a.nrrd", kind="short", more=more, data=data)
    np.testing.assert_array_equal(ItkFile(path).values(), values)
    (tmp_path / "b.bin").write_bytes(data)
    detached = nrrd(tmp_path / "b.nhdr", kind="short", more=f"{more}data file: b.bin\n", data=b"")
    np.testing.assert_array_equal(ItkFile(detached).values(), values)
    if encoding != "bzip2":
        np.testing.assert_array_equal(by_itk(detached)[0], values)


@pytest.mark.parametrize("big", ["True", "False"])
@pytest.mark.parametrize("packing", ["raw", "zlib", "gzip", "text"])
def test_metaimage_encodings(tmp_path, big, packing):
    values = ramp("i2", SHAPE) - 5
    raw = values.ravel("F").astype(">i2" if big == "True" else "<i2").tobytes()
    data, more = {
        "raw": (raw, ""),
        "zlib": (zlib.compress(raw), "CompressedData = True\n"),
        "gzip": (gzip.compress(raw), "CompressedData = True\n"),
        # SimpleITK needs a line after the last number.
        "text": (" ".join(map(str, values.ravel("F"))).encode() + b"\n", "BinaryData = False\n"),
    }[packing]
    more = f"BinaryDataByteOrderMSB = {big}\n{more}"
    if packing in ("zlib", "gzip"):
        more += f"CompressedDataSize = {len(data)}\n"
    path = mha(tmp_path / "a.mha", kind="MET_SHORT", more=more, data=data)
    np.testing.assert_array_equal(ItkFile(path).values(), values)
    if (packing, big) != ("text", "True"):  # SimpleITK swaps the bytes of numbers read as text
        np.testing.assert_array_equal(by_itk(path)[0], values)
    (tmp_path / "b.raw").write_bytes(data)
    path = mha(tmp_path / "b.mhd", kind="MET_SHORT", more=more, data=b"", file="b.raw")
    np.testing.assert_array_equal(ItkFile(path).values(), values)


@pytest.mark.parametrize("size", ["9", "-1"])
def test_metaimage_header_size(tmp_path, size):
    (tmp_path / "a.raw").write_bytes(b"left out." + bytes(range(24)))
    path = mha(tmp_path / "a.mhd", more=f"HeaderSize = {size}\n", data=b"", file="a.raw")
    np.testing.assert_array_equal(ItkFile(path).values(), by_itk(path)[0])


# --- refused files


def without(text):
    return lambda path: path.write_bytes(nrrd(path).read_bytes().replace(text, b""))


REFUSED = {
    "text.nrrd": (lambda p: p.write_text("hello " * 99), "start"),
    "text.mha": (lambda p: p.write_text("hello " * 99), "start"),
    "empty.nrrd": (lambda p: p.write_bytes(b""), "empty"),
    "rgb.nrrd": (
        lambda p: nrrd(p, sizes="3 2 4", space="", axes="kinds: RGB-color space space\n"),
        "3 values per voxel",
    ),
    "vectors.nrrd": (
        lambda p: nrrd(
            p,
            sizes="2 2 2 3",
            axes=SHEARED.replace("4)", "4) none") + "kinds: space space space vector\n",
        ),
        "3 values per voxel",
    ),
    "rgb.mha": (lambda p: mha(p, sizes="4 2", more="ElementNumberOfChannels = 3\n"), "3 values"),
    "line.nrrd": (lambda p: nrrd(p, sizes="24", space="", axes=""), "1 dimension"),
    "line.mha": (lambda p: mha(p, sizes="24"), "1 dimension"),
    "5d.nrrd": (lambda p: nrrd(p, sizes="2 3 2 2 1", space="", axes=""), "values per voxel"),
    "5d.mha": (lambda p: mha(p, sizes="2 3 2 2 1"), "5 axes"),
    "scaled.mha": (lambda p: mha(p, more="ElementToIntensityFunctionSlope = 2\n"), "scale"),
    "list.mhd": (lambda p: mha(p, file="LIST"), "several files"),
    "pattern.mhd": (lambda p: mha(p, file="a%02d.raw 1 4 1"), "several files"),
    "pattern.nhdr": (lambda p: nrrd(p, more="data file: a%02d.raw 1 4 1\n"), "several files"),
    "lost.mhd": (lambda p: mha(p, file="lost.raw"), "lost.raw', which is missing"),
    "lost.nhdr": (lambda p: nrrd(p, more="data file: lost.raw\n"), "lost.raw', which is missing"),
    "hex.nrrd": (lambda p: nrrd(p, more="encoding: hex\n"), "hex"),
    "block.nrrd": (lambda p: nrrd(p, kind="block"), "block"),
    "order.nrrd": (lambda p: nrrd(p, kind="short"), "endian"),
    "type.mha": (lambda p: mha(p, kind="MET_FLOAT_ARRAY"), "MET_FLOAT_ARRAY"),
    "short.nrrd": (lambda p: nrrd(p, data=bytes(23)), "too short"),
    "short.mha": (lambda p: mha(p, data=bytes(23)), "too short"),
    "long.nrrd": (lambda p: nrrd(p, data=bytes(30)), "holds more"),
    "long.mha": (lambda p: mha(p, data=bytes(30)), "holds more"),
    "huge.nrrd": (lambda p: nrrd(p, sizes="99999 99999 99999"), "too short"),
    "huge.mha": (lambda p: mha(p, sizes="99999 99999 99999"), "too short"),
    "packed-huge.mha": (
        lambda p: mha(p, sizes="9999 9999 9999", more="CompressedData = True\n"),
        "too short",
    ),
    "negative.nrrd": (lambda p: nrrd(p, sizes="2 -3 4"), "sizes"),
    "zero.mha": (lambda p: mha(p, sizes="2 0 4"), "sizes"),
    "axes.mha": (lambda p: mha(p, sizes="1 " * 9000), "9000"),
    "unequal.nrrd": (
        lambda p: nrrd(p, axes=SHEARED.replace("(10,-20,30)", "(1,2)")),
        "differ in length",
    ),
    "flat.nrrd": (
        lambda p: nrrd(p, axes="space directions: (1,0,0) (2,0,0) (0,0,1)\n"),
        "singular",
    ),
    "nan.nrrd": (lambda p: nrrd(p, axes="space directions: (nan,0,0) (0,1,0) (0,0,1)\n"), "nan"),
    "nan.mha": (lambda p: mha(p, more="ElementSpacing = 1 nan 1\n"), "nan"),
    "flat.mha": (lambda p: mha(p, more="ElementSpacing = 1 0 1\n"), "singular"),
    "coupled.mha": (
        lambda p: mha(
            p, sizes="2 3 2 2", more="TransformMatrix = 1 0 0 1 0 1 0 0 0 0 1 0 0 0 0 1\n"
        ),
        "mixed with time",
    ),
    "skip.nrrd": (lambda p: nrrd(p, more="byte skip: -5\n"), "byte skip"),
    "lines.nrrd": (lambda p: nrrd(p, more="line skip: 999999999\n"), "lines to skip"),
    "words.nrrd": (lambda p: nrrd(p, more="encoding: text\n", data=b"1 " * 25), "25 numbers"),
    "letters.nrrd": (lambda p: nrrd(p, more="encoding: text\n", data=b"a " * 24), "invalid"),
    "field.nrrd": (
        lambda p: p.write_bytes(nrrd(p).read_bytes().replace(b"space origin", b"spacf origin")),
        "spacf",
    ),
    "no-type.nrrd": (without(b"type: uint8\n"), "type"),
    "no-sizes.nrrd": (without(b"sizes: 2 3 4\n"), "sizes"),
    "pixels.nrrd": (lambda p: nrrd(p, more='units: "pixel" "pixel" "pixel"\n'), "'pixel'"),
    "furlongs.nrrd": (
        lambda p: nrrd(p, more=f"space units: {'f' * 9999} um um\n"),
        f" '{'f' * 20}', ",
    ),
    "several-units.nrrd": (
        lambda p: nrrd(p, more='space units: "mm" "mm" "um"\n'),
        "several units (mm, um)",
    ),
    "not-finite.mha": (
        lambda p: mha(p, kind="MET_FLOAT", data=np.full(24, np.nan, "<f4").tobytes()),
        "24 values",
    ),
    "too-large.mha": (
        lambda p: mha(p, kind="MET_DOUBLE", data=np.full(24, 1e300, "<f8").tobytes()),
        "24 values",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_files_are_refused(tmp_path, name):
    make, said = REFUSED[name]
    make(tmp_path / name)
    message = refusal(tmp_path / name)
    assert said in message


PACKED = {
    "a.mha": lambda path, data: mha(path, more="CompressedData = True\n", data=zlib.compress(data)),
    "a.nrrd": lambda path, data: nrrd(path, more="encoding: gzip\n", data=gzip.compress(data)),
    "b.nrrd": lambda path, data: nrrd(path, more="encoding: bzip2\n", data=bz2.compress(data)),
}


@pytest.mark.parametrize("name", PACKED)
def test_damaged_compressed_data(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 99, 24).astype(np.uint8).tobytes()
    whole = PACKED[name](tmp_path / name, noise).read_bytes()
    ItkFile(tmp_path / name).values()
    start = whole.index(b"\n\n" if name.endswith("nrrd") else b"LOCAL\n") + 7
    for place in range(start, len(whole)):
        for damaged in (whole[:place], whole[:place] + b"\0" + whole[place + 1 :]):
            (tmp_path / name).write_bytes(damaged)
            if damaged == whole:
                continue
            try:
                values = ItkFile(tmp_path / name).values()
            except VolumeError:
                continue
            # Bits without meaning, such as the operating system in the header, or padding.
            assert values.tobytes("F") == noise
            assert len(damaged) == len(whole)
    for data in (noise[:-1], noise + bytes(6)):
        said = "too early" if len(data) < len(noise) else "holds more"
        assert said in refusal(PACKED[name](tmp_path / name, data))


def test_reading_prints_nothing(tmp_path, capfd):
    for name in ("short.mha", "axes.mha", "order.nrrd", "nan.nrrd"):
        REFUSED[name][0](tmp_path / name)
        refusal(tmp_path / name)
    assert capfd.readouterr() == ("", "")


# --- writing


AFFINES = {
    "straight": affine_of(np.diag([-0.7, -0.7, 5.0]), (101.123456789, 99.9, -1e3)),
    "turned": affine_of(np.array([[0, 0, 1.1], [0.3, 0, 0], [0, -7.0, 0]]), (1 / 3, 2 / 3, 0)),
    "sheared": affine_of([[1 / 3, 0.1, 0], [0.2, -1 / 7, 0.3], [0, 0.1, 3]], (1e-7, -1e4 / 3, 9)),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("highest", [1, 300, 70_000])
def test_written_labels(tmp_path, affine, suffix, highest):
    """In full precision, including axes that are not orthogonal."""
    nib.save(nib.Nifti2Image(ramp("i2"), affine), tmp_path / "scan.nii")
    scan = load_volume(tmp_path / "scan.nii")
    labels = np.zeros(scan.data.shape, np.int32)
    labels[1, 2, 3] = highest
    path = save_labels(labels, tmp_path / "out" / f"labels{suffix}", like=scan)
    assert os.listdir(path.parent) == [path.name]
    again = load_labels(path, like=scan)
    np.testing.assert_array_equal(again.data, labels)
    np.testing.assert_allclose(again.geometry.affine, affine, rtol=0, atol=1e-9)
    values, by_them = by_itk(path)
    np.testing.assert_allclose(by_them, affine, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(values, scan.geometry.to_source(labels))


def test_opening_a_folder_does_not_load_simpleitk(tmp_path):
    nrrd(tmp_path / "a.nrrd")
    code = (
        "import sys\n"
        "from napari_sslseg.core.scans.volume import load_volumes\n"
        f"assert load_volumes({str(tmp_path)!r})\n"
        "assert 'SimpleITK' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_in_any_script(tmp_path):
    folder = Path(tmp_path, "Schädel 頭")
    folder.mkdir()
    (folder / "wërte 値.raw").write_bytes(bytes(range(24)))
    path = mha(folder / "köpf 頭.mhd", data=b"", file="wërte 値.raw")
    assert ItkFile(path).values().sum() == sum(range(24))
    scan = load_volume(path, modality="MR")
    saved = save_labels(scan.data % 2, folder / "läbel 頭.nrrd", like=scan)
    np.testing.assert_array_equal(load_labels(saved, like=scan).data, scan.data % 2)
